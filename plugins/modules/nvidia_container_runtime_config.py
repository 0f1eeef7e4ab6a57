#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nvidia_container_runtime_config
short_description: Sets options of NVIDIA Container Toolkit's own configuration
version_added: 0.2.0
description:
  - Sets the options that people need in C(config.toml) of NVIDIA Container Toolkit. Comments, order, other keys and
    layout stay byte for byte. What cannot be edited safely is refused with line and column.
  - An option that is left out stays as it is. A line that is commented out, as the packages ship it, gives its place to
    the option.
  - The toolkit reads the file for every container that it starts, so nothing needs a restart.
options:
  path:
    description:
      - The file. A symbolic link is followed. It must be there; the package nvidia-container-toolkit-base brings it.
    type: path
    default: /etc/nvidia-container-runtime/config.toml
  mode:
    description:
      - How the runtime brings GPUs into containers (C(nvidia-container-runtime.mode)).
    type: str
    choices: [auto, legacy, csv, cdi, jit-cdi]
  runtimes:
    description:
      - The low-level runtimes, in the order in which the runtime looks for them (C(nvidia-container-runtime.runtimes)).
        The first one that is found counts. A name without a slash is looked for in the container engine's PATH.
      - CRI-O's packages keep crun and runc out of PATH. So name the path of the program that CRI-O itself uses, as
        M(kubegpu.nvidia.crio_runtime_config) returns it.
    type: list
    elements: str
  no_cgroups:
    description:
      - Whether device rules of cgroups are left alone, as rootless engines need it
        (C(nvidia-container-cli.no-cgroups)).
    type: bool
  debug:
    description:
      - Log file of the runtime (C(nvidia-container-runtime.debug)).
    type: str
  log_level:
    description:
      - What the runtime logs (C(nvidia-container-runtime.log-level)).
    type: str
    choices: [debug, info, warning, error]
  cli_debug:
    description:
      - Log file of C(nvidia-container-cli) (C(nvidia-container-cli.debug)).
    type: str
  accept_envvar_when_unprivileged:
    description:
      - Whether unprivileged containers may ask for GPUs with C(NVIDIA_VISIBLE_DEVICES)
        (C(accept-nvidia-visible-devices-envvar-when-unprivileged)).
    type: bool
  accept_as_volume_mounts:
    description:
      - Whether containers may ask for GPUs with mounts below C(/var/run/nvidia-container-devices)
        (C(accept-nvidia-visible-devices-as-volume-mounts)).
    type: bool
  state:
    description:
      - V(present) sets the options.
      - V(absent) takes back what earlier runs with the same O(remember_as) set, as far as it is still as they set it. A
        file that was not edited since comes back byte for byte. Options that are named besides do not count.
    type: str
    choices: [present, absent]
    default: present
  remember_as:
    description:
      - Whose settings these are, in a word. What was there before is remembered under it, for O(state=absent), which
        needs it. Without it nothing is remembered.
    type: str
  state_dir:
    description:
      - Directory in which the module remembers what was there before.
    type: path
    default: /var/lib/kubegpu/runtime-config
  backup:
    description:
      - Keep a copy with a timestamp in its name beside the file when its content changes.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and return what would change, without changing it.
    support: full
  diff_mode:
    description: Returns details on what has changed, or would change.
    support: full
  platform:
    description: Target systems.
    support: full
    platforms: linux
author:
  - the kubegpu.nvidia authors (@kubegpu)
seealso:
  - module: kubegpu.nvidia.docker_runtime_config
  - module: kubegpu.nvidia.containerd_runtime_config
  - module: kubegpu.nvidia.crio_runtime_config
"""

EXAMPLES = r"""
- name: Let GPUs be asked for by mounts, not by a variable that any image can set
  kubegpu.nvidia.nvidia_container_runtime_config:
    accept_envvar_when_unprivileged: false
    accept_as_volume_mounts: true

- name: Name the low-level runtime, which is not in PATH
  kubegpu.nvidia.nvidia_container_runtime_config:
    runtimes: [/usr/libexec/crio/crun]
    remember_as: crio

- name: Take that back
  kubegpu.nvidia.nvidia_container_runtime_config:
    state: absent
    remember_as: crio
"""

RETURN = r"""
path:
  description: The file, links followed.
  returned: success
  type: str
  sample: /etc/nvidia-container-runtime/config.toml
backup_file:
  description: Path of the backup, V(null) if none was made.
  returned: success
  type: str
  sample: /etc/nvidia-container-runtime/config.toml.4711.2026-11-23@12:00:00~
diff:
  description: The file before and after.
  returned: in diff mode
  type: dict
  sample:
    before_header: /etc/nvidia-container-runtime/config.toml
    after_header: /etc/nvidia-container-runtime/config.toml
    before: "#no-cgroups = false\n"
    after: "no-cgroups = true\n"
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import files, toolkit_config
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError

ARGUMENTS = {
    "path": {"type": "path", "default": "/etc/nvidia-container-runtime/config.toml"},
    "mode": {"type": "str", "choices": ["auto", "legacy", "csv", "cdi", "jit-cdi"]},
    "runtimes": {"type": "list", "elements": "str"},
    "no_cgroups": {"type": "bool"},
    "debug": {"type": "str"},
    "log_level": {"type": "str", "choices": ["debug", "info", "warning", "error"]},
    "cli_debug": {"type": "str"},
    "accept_envvar_when_unprivileged": {"type": "bool"},
    "accept_as_volume_mounts": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "remember_as": {"type": "str"},
    "state_dir": {"type": "path", "default": "/var/lib/kubegpu/runtime-config"},
    "backup": {"type": "bool", "default": False},
}


def plan(module, text, memory):
    """Return (new text, what to remember or None). text: str, or None for no file. Raises ConfigError."""
    params = module.params
    if params["state"] == "absent":
        return text if text is None or memory is None else toolkit_config.restore(text, memory), None
    if text is None:
        raise ConfigError(
            "there is no such file; install nvidia-container-toolkit-base, which brings it, or correct path"
        )
    settings = {option: params[option] for option in toolkit_config.PLACES if params[option] is not None}
    remembered = toolkit_config.remember(text, settings, memory) if params["remember_as"] else None
    return toolkit_config.apply(text, settings), remembered


def run(module):
    """Edit the file and leave through module.exit_json. Raises ConfigError and OSError."""
    params = module.params
    path = os.path.realpath(params["path"])
    folder, owner = params["state_dir"], params["remember_as"]
    before = files.read(path)
    memory = None
    if owner:
        memory, warning = files.read_memory(folder, path, owner)
        if warning:
            module.warn(warning)
    after, remembered = plan(module, before, memory)
    result = {"changed": after != before, "path": path, "backup_file": None}
    if module._diff:
        result["diff"] = files.diff(path, before, after)
    if result["changed"]:
        files.check_writable(path)
    if not module.check_mode:
        # What to remember goes first: without it the way back would be lost if we died in between.
        if remembered is not None and remembered != memory:
            files.write_memory(module, folder, path, owner, remembered)
        if result["changed"]:
            files.sweep(path)
            result["backup_file"] = files.write(module, path, after, params["backup"])
        if remembered is None and memory is not None:
            files.write_memory(module, folder, path, owner, None)
    module.exit_json(**result)


def main():
    required_if = [("state", "absent", ["remember_as"])]
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, required_if=required_if)
    try:
        run(module)
    except ConfigError as error:
        module.fail_json(msg=error.describe(module.params["path"]))
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or module.params["path"], error.strerror or error))


if __name__ == "__main__":
    main()
