#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_key_info
short_description: Reads the key that a package repository is signed with
version_added: 0.1.0
author:
  - The kubegpu.nvidia authors (@kubegpu)
description:
  - Fetches a key and returns its text. Nothing is written, and nothing is verified.
  - What M(ansible.builtin.uri) with C(environment) would do as well, but a proxy's password then stands in the command
    line that C(-vvv) shows, where C(no_log) does not reach.
options:
  url:
    description: Where the key is, with the scheme V(http), V(https) or V(file) (a file on the target).
    type: str
    required: true
  proxy:
    description: The proxy to go through, such as V(http://proxy.example.com:3128). Empty for what the environment says.
    type: str
    default: ""
  timeout:
    description: How many seconds to wait for an answer.
    type: int
    default: 30
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The module changes nothing.
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Read the key of NVIDIA's repository
  kubegpu.nvidia.repository_key_info:
    url: https://nvidia.github.io/libnvidia-container/gpgkey
  register: key

- name: Read it through a proxy that wants a password
  kubegpu.nvidia.repository_key_info:
    url: https://nvidia.github.io/libnvidia-container/gpgkey
    proxy: "http://{{ proxy_user }}:{{ proxy_password }}@proxy.example.com:3128"
  register: key
  no_log: true
"""

RETURN = r"""
content:
  description: The key's text.
  returned: success
  type: str
  sample: "-----BEGIN PGP PUBLIC KEY BLOCK-----"
status:
  description: The status of the answer, -1 if there was none.
  returned: when an http server was asked
  type: int
  sample: 200
"""

import os
from urllib.parse import unquote, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url


def main():
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "proxy": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    address = urlsplit(module.params["url"])
    if address.scheme == "file":
        try:
            with open(unquote(address.path), encoding="utf-8", errors="replace") as key:
                module.exit_json(changed=False, content=key.read())
        except OSError as error:
            module.fail_json(msg=str(error))
    if module.params["proxy"]:
        for name in ("http_proxy", "https_proxy"):
            os.environ[name] = os.environ[name.upper()] = module.params["proxy"]
    response, info = fetch_url(module, module.params["url"], timeout=module.params["timeout"])
    if info["status"] != 200:
        module.fail_json(msg=info["msg"], status=info["status"])
    module.exit_json(changed=False, content=response.read().decode("utf-8", "replace"), status=200)


if __name__ == "__main__":
    main()
