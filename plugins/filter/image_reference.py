# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's name as container runtimes store it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: image_reference
short_description: Full form of a container image's name
version_added: 0.1.0
description:
  - Adds the registry, the C(library/) folder and the tag that Docker lets its users leave out. containerd and
    the kubelet know an image only by this full form.
positional: _input
options:
  _input:
    description: The image's name.
    type: str
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Prints docker.io/library/debian:latest
  ansible.builtin.debug:
    msg: "{{ 'debian' | kubegpu.nvidia.image_reference }}"
"""

RETURN = r"""
_value:
  description: Registry, repository, and tag or digest.
  type: str
  sample: docker.io/library/debian:12
"""

import re

from ansible.errors import AnsibleFilterError

# github.com/distribution/reference: regexp.go and normalize.go
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(r"^%s(?:/%s)*$" % (_COMPONENT, _COMPONENT))
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
_DIGEST = re.compile(r"^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,}$")


def image_reference(name):
    """Return the full form of an image's name.

    :raises AnsibleFilterError: the name is not a valid image reference.
    """
    rest, at, digest = str(name).partition("@")
    host, slash, remainder = rest.partition("/")
    if slash and (host == "localhost" or host != host.lower() or "." in host or ":" in host):
        path = remainder
    else:
        host, path = "docker.io", rest
    path, colon, tag = path.partition(":")
    if host == "docker.io" and "/" not in path:
        path = "library/" + path
    wrong = None
    if not _PATH.match(path):
        wrong = "repository %r may have lower-case letters, digits and the separators . _ - / only" % path
    elif colon and not _TAG.match(tag):
        wrong = "tag %r may have letters, digits, . _ - only, and 128 characters at most" % tag
    elif at and not _DIGEST.match(digest):
        wrong = "digest %r is not algorithm:hexadecimal" % digest
    if wrong:
        raise AnsibleFilterError("image_reference: %r is not an image's name: %s" % (str(name), wrong))
    if not colon and not at:
        colon, tag = ":", "latest"
    return host + "/" + path + colon + tag + at + digest


class FilterModule(object):
    """The filter image_reference."""

    def filters(self):
        return {"image_reference": image_reference}
