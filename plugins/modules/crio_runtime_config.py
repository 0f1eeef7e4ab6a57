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
  - The runtime gets the monitor, the folder for the containers' state, the allowed annotations and what else the
    default runtime has. CRI-O takes none of it over by itself, and does not start without a monitor.
  - Where the C(crio) binary is there, the new content is tried with C(crio config) before it replaces the file, and
    the merged configuration is compared. What C(crio config) does not look at is checked as well, the runtimes'
    programs and their monitors. A file with which CRI-O would not start is never written.
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
      - Folder for the containers' state (C(runtime_root)). Leave it out for that of the default runtime, so that CRI-O
        finds the containers that run already.
    type: str
  monitor_path:
    description:
      - Path of conmon for this runtime (C(monitor_path)). Leave it out for that of the default runtime.
    type: str
  set_default:
    description:
      - V(true) makes the runtime the default, V(false) makes sure that this drop-in does not.
      - Leave it out to leave the default runtime alone.
    type: bool
  state:
    description:
      - V(present) adds or changes the runtime.
      - V(absent) undoes what earlier runs with V(present) did. A file that was not edited since comes back byte for
        byte, or is removed if there was none. A runtime that no earlier run made is foreign and stays, with a
        warning.
      - V(rolled_back) is for a CRI-O that does not start with what an earlier run wrote. It brings back the last text
        that CRI-O is known to have run with, or the one without the runtime. A file that was edited since
        stays as it is.
    type: str
    choices: [present, absent, rolled_back]
    default: present
  on_conflict:
    description:
      - What to do with O(state=present) about a runtime called O(name) that another tool made, in this file or another
        one of CRI-O's, with another program than O(path), such as the one that NVIDIA's GPU operator installs. It is
        always reported, as a warning and in RV(conflict).
      - V(keep) leaves it as it is and does the rest, such as the default runtime.
      - V(replace) makes it ours; O(state=absent) then brings theirs back.
      - V(fail) fails before anything is written.
    type: str
    choices: [keep, replace, fail]
    default: keep
  config_path:
    description:
      - Path of the drop-in. A symbolic link is followed.
    type: path
    default: /etc/crio/crio.conf.d/99-nvidia.toml
  main_path:
    description:
      - Path of CRI-O's main file, which need not be there. The default is the one that the running CRI-O has as
        C(--config), else C(/etc/crio/crio.conf).
    type: path
  backup:
    description:
      - Keep a copy with a timestamp in its name in C(backups) below O(state_dir) when the content changes.
    type: bool
    default: true
  crio:
    description:
      - Name or path of the crio binary. The default is that of the running CRI-O, else C(crio) in PATH.
    type: str
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
  - module: kubegpu.nvidia.nvidia_container_runtime_config
  - name: crio.conf(5)
    description: The keys of CRI-O's configuration.
    link: https://github.com/cri-o/cri-o/blob/main/docs/crio.conf.5.md
"""

EXAMPLES = r"""
- name: Give CRI-O the NVIDIA runtime and make it the default
  kubegpu.nvidia.crio_runtime_config:
    set_default: true
  register: crio_runtime

- name: Tell the NVIDIA runtime where CRI-O's own is
  kubegpu.nvidia.nvidia_container_runtime_config:
    runtimes: "{{ crio_runtime.toolkit_runtimes }}"
  when: crio_runtime.toolkit_runtimes | length > 0

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
conflict:
  description: In what a foreign runtime of this name differs, be it kept or replaced; V(null) if none does.
  returned: success
  type: str
  sample: its runtime_path is "/opt/other/nvidia-container-runtime", not "/usr/bin/nvidia-container-runtime"
toolkit_runtimes:
  description:
    - What O(kubegpu.nvidia.nvidia_container_runtime_config#module:runtimes) must be, so that the runtime starts the
      program of CRI-O's own default runtime, which need not be in PATH.
    - Empty if that is not known, if O(path) is not there yet, or if a foreign runtime is kept.
  returned: success
  type: list
  elements: str
  sample: [/usr/libexec/crio/crun]
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

import dataclasses
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import (
    changes,
    files,
    memory,
    pending,
    process,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import config as crio_config
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import engine as crio_engine
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import files as crio_files
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import merge
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError

ARGUMENTS = {
    "name": {"type": "str", "default": "nvidia"},
    "path": {"type": "str", "default": "/usr/bin/nvidia-container-runtime"},
    "runtime_root": {"type": "str"},
    "monitor_path": {"type": "str"},
    "set_default": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent", "rolled_back"], "default": "present"},
    "on_conflict": {"type": "str", "choices": ["keep", "replace", "fail"], "default": "keep"},
    "config_path": {"type": "path", "default": "/etc/crio/crio.conf.d/99-nvidia.toml"},
    "main_path": {"type": "path"},
    "backup": {"type": "bool", "default": True},
    "crio": {"type": "str"},
    "socket": {"type": "path", "default": "/run/crio/crio.sock"},
    "state_dir": {"type": "path", "default": "/var/lib/kubegpu/runtime-config"},
}


class Plan:
    """What the drop-in shall be, from what CRI-O has without it."""

    def __init__(self, module, target, daemon):
        params = module.params
        self.module, self.target, self.daemon = module, target, daemon
        self.engine = crio_engine.find(module, daemon, params["crio"], params["main_path"])
        self.folder = self._folder()
        others = crio_files.below(self.folder)
        others.pop(target.path, None)
        self.others = others
        before = crio_config.without(target.text, params["name"], target.memory)
        self.defaults = crio_engine.defaults(module, self.engine)
        main = files.read(self.engine.main)
        self.template = merge.template(self._effective(main, dict(others, **{target.path: before})), params["name"])
        self.elsewhere = self._effective(main, others).runtimes.get(params["name"])
        self.wanted = crio_config.CrioRuntime(
            params["name"],
            params["path"],
            params["set_default"],
            {"runtime_root": params["runtime_root"], "monitor_path": params["monitor_path"]},
            self.template.inherited() if self.template else {},
            params["on_conflict"],
        )
        self.conflict = None

    def _folder(self):
        folder = os.path.dirname(self.target.path)
        used = os.path.realpath(self.engine.folder) if self.engine.folder else folder
        if os.path.commonpath([used, folder]) != used:
            raise ConfigError(
                "the running CRI-O reads its drop-ins from %s (--config-dir); name a file below it as config_path"
                % used
            )
        return used

    def _effective(self, main, drop_ins):
        texts = [drop_ins[path] for path in sorted(drop_ins, key=crio_config.order)]
        return merge.effective([text for text in (self.defaults, main, *texts) if text is not None])

    @property
    def kept(self):
        """Whether a foreign runtime of this name stays."""
        replaced = self.module.params["state"] == "present" and self.wanted.on_conflict == "replace"
        return self.conflict is not None and not replaced

    def make(self):
        """Plan the target. Raises ConfigError."""
        params, target = self.module.params, self.target
        if params["state"] == "rolled_back":
            target.plan(*memory.roll_back(target.text, target.memory))
            return
        if params["state"] == "absent":
            edit = crio_config.ensure_absent(target.text, params["name"], target.memory)
            # The way back is needed until CRI-O runs without the runtime.
            if self.daemon is not None and (edit.text != target.text or self.pending(False).level != "none"):
                edit = dataclasses.replace(edit, memory=target.memory)
            self.conflict = edit.conflict
            target.plan(edit.text, edit.memory)
            return
        edit = crio_config.ensure_present(target.text, self.wanted, target.memory, self.elsewhere)
        self.conflict = edit.conflict
        self._check_later_files()
        self._check_program()
        target.plan(edit.text, self._remember_good(edit))

    def _check_later_files(self):
        later = crio_config.overridden(self.others, self.target.path, self.wanted, self.kept)
        if later:
            raise ConfigError(
                "CRI-O reads %s after this file, and it says something else about the runtime %s or the default "
                "runtime; take that out, or set config_path to that file" % (", ".join(later), self.wanted.name)
            )

    def _check_program(self):
        # In check mode the toolkit may still have to be installed.
        if not (self.kept or self.module.check_mode or usable(self.wanted.path)):
            raise ConfigError(
                "%s is not an executable file, given as an absolute path: with such a runtime CRI-O may not start. "
                "Install NVIDIA Container Toolkit or correct path. Nothing was changed" % self.wanted.path
            )

    def _remember_good(self, edit):
        """Return the memory that knows the last text that was in effect, for state=rolled_back."""
        target = self.target
        if edit.memory is None or edit.text == target.text:
            return edit.memory
        good = edit.memory.good
        if self.daemon is not None and self.pending(False).level == "none":
            good = memory.Good(target.text)
        return dataclasses.replace(edit.memory, good=good)

    def pending(self, changed):
        """Return the Pending."""
        newest = changes.last_change(self.module.params["state_dir"], [self.target.path])
        return pending.at_start("CRI-O", changed, self.daemon, newest, self.target.path)

    def try_out(self):
        """Raise ConfigError if CRI-O refuses the new text, makes something else of it, or would not start with it."""
        if self.engine.binary is None:
            self.module.warn("crio is not there, so the file is not checked by CRI-O")
            return
        after = crio_engine.merged(self.module, self.engine, self.folder, self.target.path, self.target.new_text)
        config = merge.effective([self.defaults, after])
        if self.module.params["state"] == "present":
            found = crio_config.problems(config, self.wanted, self.kept)
            if found:
                raise ConfigError("CRI-O's merged configuration would not be as wanted: %s" % "; ".join(found))
        found = merge.startup_problems(config, self._exists, self.engine.which, self._monitor_problem)
        if found:
            raise ConfigError(
                "CRI-O would not start with this: %s. CRI-O's PATH is %s. Nothing was changed. Correct this, or what "
                "names it" % ("; ".join(found), self.engine.environment["PATH"])
            )
        self._check_side_effects(after)

    def _check_side_effects(self, after):
        try:
            before = crio_engine.merged(self.module, self.engine, self.folder, self.target.path, self.target.text)
        except ConfigError:
            # CRI-O does not start with what is there now; with the new text it does.
            return
        altered = crio_config.side_effects(before, after, self.wanted.name, self.defaults)
        if altered:
            raise ConfigError("the change would also alter other settings of CRI-O: %s" % "; ".join(altered))

    def _exists(self, path):
        missing_yet = self.module.check_mode and path == self.wanted.path and not self.kept
        return missing_yet or os.path.exists(path)

    def _monitor_problem(self, path):
        return crio_engine.monitor_problem(self.module, path)

    def toolkit_runtimes(self):
        """Return the paths for the toolkit's list of runtimes."""
        present = self.module.params["state"] == "present" and not self.kept and usable(self.wanted.path)
        if not present or self.template is None:
            return []
        found = merge.program(self.template.name, self.template.table, self.engine.which)
        return [found] if found is not None and usable(found) else []


def usable(path):
    """Return whether path is absolute and that of an executable file."""
    return os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK)


def write(module, target):
    """Write what has changed; return it as a list of dicts."""
    params = module.params
    for leftover in crio_files.leftovers(os.path.dirname(target.path)):
        os.unlink(leftover)
    writer = crio_files.writer(os.path.join(params["state_dir"], "backups"))
    outcome = changes.apply(module, params["state_dir"], params["name"], [target], params["backup"], writer)
    return outcome.as_list()


def warn_of_conflict(module, plan):
    """Warn of a foreign runtime of this name."""
    if plan.conflict is not None:
        done = "kept" if plan.kept else "replaced"
        text = "the runtime %s was made by somebody else: %s. It was %s"
        module.warn(text % (plan.wanted.name, plan.conflict, done))


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    path = os.path.realpath(params["config_path"])
    daemon = process.find("crio", params["socket"])
    written = []
    try:
        target = changes.read(module, params["state_dir"], path, params["name"])
        plan = Plan(module, target, daemon)
        plan.make()
        needed = plan.pending(target.changed)
        if params["state"] != "rolled_back" and (target.changed or needed.level != "none"):
            plan.try_out()
        if not module.check_mode:
            written = write(module, target)
    except ConfigError as error:
        module.fail_json(msg=error.describe(path))
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or path, error.strerror or error))

    warn_of_conflict(module, plan)
    answer = {
        "changed": target.changed,
        "in_place": not target.changed,
        "path": path,
        "files": written,
        "backup_file": written[0]["backup_file"] if written else None,
        "conflict": plan.conflict,
        "running": daemon is not None,
        "toolkit_runtimes": plan.toolkit_runtimes(),
        "pending": needed.level,
        "pending_reasons": needed.reasons,
    }
    if module._diff:
        answer["diff"] = changes.diff([target], target)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
