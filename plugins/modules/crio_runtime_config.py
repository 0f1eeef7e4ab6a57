#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: crio_runtime_config
short_description: Gives CRI-O one OCI runtime in a drop-in
version_added: 0.2.0
description:
  - Adds, changes or removes one OCI runtime in a drop-in of CRI-O, and optionally makes it the default runtime.
  - A drop-in that is there already is edited in place. Comments, order, other keys and layout stay byte for byte. What
    cannot be edited safely is refused with line and column.
  - CRI-O reads every file in the drop-in folder, whatever its name. So backups and temporary files are kept elsewhere.
  - Where the C(crio) binary is there, the new content is tried with C(crio config) before it replaces the file, and the
    merged configuration is compared.
  - The module never reloads or restarts CRI-O. It returns in RV(pending) whether that is needed. A restart stops no
    container.
options:
  name:
    description:
      - Name of the runtime (the handler in a RuntimeClass).
    type: str
    default: nvidia
  path:
    description:
      - Path of the runtime's executable (C(runtime_path)).
    type: str
    default: /usr/bin/nvidia-container-runtime
  runtime_root:
    description:
      - Folder for the containers' state (C(runtime_root)). Leave it out for CRI-O's own default.
    type: str
  monitor_path:
    description:
      - Path of conmon for this runtime (C(monitor_path)). Leave it out for the one that CRI-O finds.
    type: str
  set_default:
    description:
      - V(true) makes the runtime the default, V(false) makes sure that this drop-in does not.
      - Leave it out to leave the default runtime alone.
    type: bool
  state:
    description:
      - V(present) adds or changes the runtime.
      - V(absent) removes it from the drop-in, whoever added it, and undoes what earlier runs with V(present) did.
      - A file that nobody has edited since comes back byte for byte, or is removed if there was none.
    type: str
    choices: [present, absent]
    default: present
  config_path:
    description:
      - Path of the drop-in. A symbolic link is followed.
    type: path
    default: /etc/crio/crio.conf.d/99-nvidia.toml
  main_path:
    description:
      - Path of CRI-O's main file, for the trial with C(crio config).
    type: path
    default: /etc/crio/crio.conf
  backup:
    description:
      - Keep a copy with a timestamp in its name in C(backups) below O(state_dir) when the content changes.
    type: bool
    default: true
  crio:
    description:
      - Name or path of the crio binary.
    type: str
    default: crio
  socket:
    description:
      - Socket of the running CRI-O, to find its process.
    type: path
    default: /run/crio/crio.sock
  state_dir:
    description:
      - Directory in which the module remembers what was there before, for O(state=absent).
    type: path
    default: /var/lib/kubegpu/runtime-config
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
notes:
  - CRI-O 1.26 and later take over runtimes on SIGHUP, but releases are known in which C(crio status config) shows the
    new runtime and pods still do not get it (issue 10202 of cri-o/cri-o). So RV(pending) asks for a restart.
author:
  - the kubegpu.nvidia authors (@kubegpu)
seealso:
  - module: kubegpu.nvidia.containerd_runtime_config
  - name: crio.conf(5)
    description: The keys of CRI-O's configuration.
    link: https://github.com/cri-o/cri-o/blob/main/docs/crio.conf.5.md
"""

EXAMPLES = r"""
- name: Give CRI-O the NVIDIA runtime and make it the default
  kubegpu.nvidia.crio_runtime_config:
    set_default: true
  register: crio_runtime

- name: Restart CRI-O, whose containers go on
  ansible.builtin.service:
    name: crio
    state: restarted
  when: crio_runtime.pending == 'restart'

- name: Take it away again
  kubegpu.nvidia.crio_runtime_config:
    state: absent
"""

RETURN = r"""
path:
  description: The drop-in, links followed.
  returned: success
  type: str
  sample: /etc/crio/crio.conf.d/99-nvidia.toml
diff:
  description: The file before and after.
  returned: in diff mode
  type: dict
  sample:
    before_header: /etc/crio/crio.conf.d/99-nvidia.toml (not there)
    after_header: /etc/crio/crio.conf.d/99-nvidia.toml
    before: ""
    after: "[crio.runtime]\ndefault_runtime = \"nvidia\"\n"
files:
  description: The files that were changed (not in check mode), with their backups.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
      returned: always
    backup_file:
      description: Path of the backup, V(null) if none was made.
      type: str
      returned: always
    existed:
      description: Whether there was a file before.
      type: bool
      returned: always
  sample:
    - path: /etc/crio/crio.conf.d/99-nvidia.toml
      backup_file:
      existed: false
backup_file:
  description: Path of the backup, V(null) if none was made.
  returned: success
  type: str
  sample: /var/lib/kubegpu/runtime-config/backups/99-nvidia.toml.4711.2026-11-23@12:00:00~
running:
  description: Whether CRI-O listens on its socket.
  returned: success
  type: bool
  sample: true
in_place:
  description: Whether the configuration was as wanted before, for tasks whose C(changed_when) says something else.
  returned: success
  type: bool
  sample: true
pending:
  description: V(restart) if the running CRI-O has not read the file as it is now, else V(none).
  returned: success
  type: str
  sample: restart
pending_reasons:
  description: Why, for people.
  returned: success
  type: list
  elements: str
  sample:
    - /etc/crio/crio.conf.d/99-nvidia.toml changed, and CRI-O reads it only when it starts
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import process
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import (
    changes as containerd_changes,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import config as crio_config
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import files as crio_files
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import pending as crio_pending
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError

ARGUMENTS = {
    "name": {"type": "str", "default": "nvidia"},
    "path": {"type": "str", "default": "/usr/bin/nvidia-container-runtime"},
    "runtime_root": {"type": "str"},
    "monitor_path": {"type": "str"},
    "set_default": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "config_path": {"type": "path", "default": "/etc/crio/crio.conf.d/99-nvidia.toml"},
    "main_path": {"type": "path", "default": "/etc/crio/crio.conf"},
    "backup": {"type": "bool", "default": True},
    "crio": {"type": "str", "default": "crio"},
    "socket": {"type": "path", "default": "/run/crio/crio.sock"},
    "state_dir": {"type": "path", "default": "/var/lib/kubegpu/runtime-config"},
}


def wanted_of(params):
    """Return the wanted CrioRuntime."""
    options = {"runtime_root": params["runtime_root"], "monitor_path": params["monitor_path"]}
    return crio_config.CrioRuntime(params["name"], params["path"], params["set_default"], options)


def plan(module, target, wanted):
    """Decide what the drop-in shall be. Raises ConfigError."""
    folder = os.path.dirname(target.path)
    present = module.params["state"] == "present"
    if present:
        edit = crio_config.ensure_present(target.text, wanted, target.memory)
        later = crio_config.overridden(crio_files.below(folder), target.path, wanted)
        if later:
            raise ConfigError(
                "CRI-O reads %s after this file, and it says something else about the runtime %s or the default "
                "runtime; take that out, or set config_path to that file" % (", ".join(later), wanted.name)
            )
    else:
        edit = crio_config.ensure_absent(target.text, wanted.name, target.memory)
    target.plan(edit.text, edit.memory)
    if target.changed:
        try_out(module, target, wanted, present)


def try_out(module, target, wanted, present):
    """Raise ConfigError if crio refuses the new text or makes something else of it. Warns if crio cannot be asked."""
    binary = module.get_bin_path(module.params["crio"])
    if binary is None:
        module.warn("%s is not there, so the file is not checked by CRI-O" % module.params["crio"])
        return
    arguments = (module, binary, module.params["main_path"], os.path.dirname(target.path), target.path)
    try:
        before = crio_files.merged(*arguments, target.text)
    except ConfigError as error:
        module.warn("the file is not checked by CRI-O, which is not content with what it has now: %s" % error.message)
        return
    after = crio_files.merged(*arguments, target.new_text)
    found = crio_config.problems(after, wanted) if present else []
    if found:
        raise ConfigError("CRI-O's merged configuration would not be as wanted: %s" % "; ".join(found))
    changes = crio_config.side_effects(before, after, wanted.name)
    if changes:
        raise ConfigError("the change would also alter other settings of CRI-O: %s" % "; ".join(changes))


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    path = os.path.realpath(params["config_path"])
    written = []
    try:
        target = containerd_changes.read(module, params["state_dir"], path, params["name"])
        plan(module, target, wanted_of(params))
        if not module.check_mode:
            for leftover in crio_files.leftovers(os.path.dirname(path)):
                os.unlink(leftover)
            write = crio_files.writer(os.path.join(params["state_dir"], "backups"))
            outcome = containerd_changes.apply(
                module, params["state_dir"], params["name"], [target], params["backup"], write
            )
            written = outcome.as_list()
    except ConfigError as error:
        module.fail_json(msg=error.describe(path))
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or path, error.strerror or error))

    daemon = process.find("crio", params["socket"])
    newest = containerd_changes.last_change(params["state_dir"], [path])
    needed = crio_pending.crio(target.changed, daemon, newest, path)
    answer = {
        "changed": target.changed,
        "in_place": not target.changed,
        "path": path,
        "files": written,
        "backup_file": written[0]["backup_file"] if written else None,
        "running": daemon is not None,
        "pending": needed.level,
        "pending_reasons": needed.reasons,
    }
    if module._diff:
        answer["diff"] = containerd_changes.diff([target], target)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
