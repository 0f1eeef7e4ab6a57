#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: containerd_runtime_config
short_description: Gives containerd's CRI one OCI runtime in config.toml
version_added: 0.1.0
description:
  - Adds, changes or removes one OCI runtime in the CRI part of containerd's C(config.toml), and optionally makes it the
    default runtime. Config versions 2, 3 and 4 are supported.
  - The file is edited in place. Comments, order and layout stay byte for byte. What cannot be edited safely is refused
    with line and column.
  - Keys are compared as the containerd in question does. 2.x ignores their case (C(binaryName) and C(BinaryName) are
    one key, and the last in sorted order counts), 1.x takes the exact name first.
  - With containerd 2.x, a main file that imports O(drop_in_path) stays as it is, and the runtime gets its own file.
    containerd 1.x replaces a plugin's whole section by that of an imported file, so there the main file is edited.
  - k3s and RKE2 generate C(config.toml) at each start and find C(nvidia-container-runtime) by themselves. There the
    module writes only what they do not do, and tells whether a restart is due. That is their option C(default-runtime),
    and another runtime in a file of C(config-v3.toml.d) where the generated file imports it, else in a template.
  - A new runtime gets the options that the default runtime (of runc's kind) has from the files, so that it uses the
    same cgroup driver (C(SystemdCgroup)).
  - containerd 1.x forgets its built-in runtime C(runc) when a file names any other, so C(runc) is written down where
    the file has no runtimes yet, or where it is the default again and not there.
  - Where the C(containerd) binary is there, the new content is tried with C(containerd config dump) before it replaces
    the file, and the merged configuration is compared. A file in C(imports) that overrides it, or any other setting
    that would change, is an error.
  - A C(disabled_plugins) that switches CRI off is an error with O(state=present), unless O(enable_cri) is set.
  - The module never restarts containerd. It returns in RV(pending) whether that is needed. A restart stops no
    container.
options:
  name:
    description:
      - Name of the runtime (the handler in a RuntimeClass).
    type: str
    default: nvidia
  path:
    description:
      - Path of the runtime's executable (C(BinaryName)).
    type: str
    default: /usr/bin/nvidia-container-runtime
  set_default:
    description:
      - V(true) makes the runtime the default, V(false) makes sure that it is not.
      - Leave it out to leave the default runtime alone.
    type: bool
  state:
    description:
      - V(present) adds or changes the runtime.
      - V(absent) undoes what earlier runs with V(present) did. The former default runtime comes back, and so does a
        runtime of this name that was there before the first run. A file that was not edited since comes back byte
        for byte. Without an earlier run the runtime is removed if it has O(path); for another one see O(on_conflict).
      - V(rolled_back) is for a containerd that does not start with what earlier runs wrote. It brings back the last
        text of each file that containerd is known to have run with, whichever run changed it. A file that was
        edited since stays as it is.
    type: str
    choices: [present, absent, rolled_back]
    default: present
  on_conflict:
    description:
      - What to do about a runtime called O(name) that has another program than O(path) and was not made by an earlier
        run. It is always reported, as a warning and in RV(conflict). One of NVIDIA's GPU operator is named as such.
      - V(keep) leaves it as it is and does the rest, such as the default runtime.
      - V(replace) makes it ours; V(absent) then brings theirs back.
      - V(fail) fails before anything is written.
      - The bare name of the executable in O(path), which is looked up in PATH, is no conflict.
    type: str
    choices: [keep, replace, fail]
    default: keep
    version_added: 0.2.0
  enable_cri:
    description:
      - Take CRI out of C(disabled_plugins) where it is in it. A file without C(version) gets one if this is its only
        plugin setting. V(absent) puts it back.
    type: bool
    default: false
    version_added: 0.2.0
  layout:
    description:
      - Whose containerd it is. V(auto) takes that of k3s or RKE2 if their socket
        C(/run/k3s/containerd/containerd.sock) is there and O(config_path) is the default, else V(containerd).
    type: str
    choices: [auto, containerd, k3s, rke2]
    default: auto
    version_added: 0.2.0
  config_path:
    description:
      - Path of the configuration file. A symbolic link is followed. Not used for k3s and RKE2.
    type: path
    default: /etc/containerd/config.toml
  drop_in_path:
    description:
      - Path of the file for the runtime alone, where O(placement) allows it.
    type: path
    default: /etc/containerd/conf.d/99-nvidia.toml
    version_added: 0.2.0
  placement:
    description:
      - V(auto) writes O(drop_in_path) if containerd is 2.x, its main file imports that path, and the main file does not
        have the runtime already. Otherwise it edits the main file.
      - V(main) always edits the main file. V(drop_in) fails where a drop-in is not read or would do harm.
    type: str
    choices: [auto, main, drop_in]
    default: auto
    version_added: 0.2.0
  root:
    description:
      - Directory below which the files of k3s and RKE2 are looked for.
    type: path
    default: /
    version_added: 0.2.0
  backup:
    description:
      - Keep a copy with a timestamp in its name when the content changes.
    type: bool
    default: true
  containerd:
    description:
      - Name or path of the containerd binary.
      - If it is not given, it is the program of the running containerd, else C(containerd) in PATH or
        C(/usr/local/bin).
    type: str
  socket:
    description:
      - Socket of the running containerd, to find its process.
    type: path
    default: /run/containerd/containerd.sock
  state_dir:
    description:
      - Directory in which the module remembers what was there before, for O(state=absent), and what was last in effect,
        for O(state=rolled_back).
      - Files with mode 0600, for each configuration file and runtime.
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
  - A non-empty file without C(version) counts as version 1 for containerd and is refused, but see O(enable_cri).
author:
  - the kubegpu.nvidia authors (@kubegpu)
seealso:
  - module: kubegpu.nvidia.docker_runtime_config
"""

EXAMPLES = r"""
- name: Give containerd the NVIDIA runtime and make it the default
  kubegpu.nvidia.containerd_runtime_config:
    set_default: true
  register: containerd_runtime

- name: Restart containerd, whose containers go on
  ansible.builtin.service:
    name: containerd
    state: restarted
  when: containerd_runtime.pending == 'restart'

- name: Take it away again
  kubegpu.nvidia.containerd_runtime_config:
    state: absent
"""

RETURN = r"""
layout:
  description: V(containerd), V(k3s) or V(rke2).
  returned: success
  type: str
  sample: containerd
path:
  description: The file that holds the runtime. For k3s and RKE2 the one that they generate.
  returned: success
  type: str
  sample: /etc/containerd/conf.d/99-nvidia.toml
service:
  description: The systemd unit that the running containerd belongs to, V(null) if it does not run or belongs to none.
  returned: success
  type: str
  sample: containerd.service
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
    - path: /etc/containerd/conf.d/99-nvidia.toml
      backup_file:
      existed: false
config_version:
  description: The file's config version, V(null) if there is no file.
  returned: success
  type: int
  sample: 2
conflict:
  description: In what a foreign runtime of this name differs, be it kept or replaced; V(null) if none does.
  returned: success
  type: str
  sample: >-
    the NVIDIA GPU operator made it, and its BinaryName is "/usr/local/nvidia/toolkit/nvidia-container-runtime", not
    "/usr/bin/nvidia-container-runtime"
ctr:
  description: Path of C(ctr), that beside containerd's binary if there is one. V(null) for k3s and RKE2.
  returned: success
  type: str
  sample: /usr/local/bin/ctr
cri_enabled:
  description:
    - V(false) if C(disabled_plugins) switches CRI off, as the file of Docker's C(containerd.io) package does. The
      kubelet cannot use such a containerd.
  returned: success
  type: bool
  sample: true
containerd_version:
  description: Major version of the containerd binary, V(null) if there is none.
  returned: success
  type: int
  sample: 1
diff:
  description: The file before and after. A list of them where several files change.
  returned: in diff mode
  type: raw
  sample:
    before_header: /etc/containerd/config.toml
    after_header: /etc/containerd/config.toml
    before: "version = 2\n"
    after: "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n"
backup_file:
  description: Path of the backup, V(null) if none was made.
  returned: success
  type: str
  sample: /etc/containerd/config.toml.4711.2026-11-23@12:00:00~
in_place:
  description: Whether the configuration was as wanted before, for tasks whose C(changed_when) says something else.
  returned: success
  type: bool
  sample: true
pending:
  description: V(restart) if the running containerd has not read the file as it is now, else V(none).
  returned: success
  type: str
  sample: restart
pending_reasons:
  description: Why, for people.
  returned: success
  type: list
  elements: str
  sample:
    - /etc/containerd/config.toml changed, and containerd reads it only when it starts
"""


from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import (
    changes,
    last_good,
    pending,
    process,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import k3s as containerd_k3s
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import (
    layouts as containerd_layouts,
)

ARGUMENTS = {
    "name": {"type": "str", "default": "nvidia"},
    "path": {"type": "str", "default": "/usr/bin/nvidia-container-runtime"},
    "set_default": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent", "rolled_back"], "default": "present"},
    "on_conflict": {"type": "str", "choices": ["keep", "replace", "fail"], "default": "keep"},
    "enable_cri": {"type": "bool", "default": False},
    "layout": {"type": "str", "choices": ["auto", "containerd", *containerd_k3s.FLAVORS], "default": "auto"},
    "config_path": {"type": "path", "default": containerd_layouts.CONFIG_PATH},
    "drop_in_path": {"type": "path", "default": "/etc/containerd/conf.d/99-nvidia.toml"},
    "placement": {"type": "str", "choices": ["auto", "main", "drop_in"], "default": "auto"},
    "root": {"type": "path", "default": "/"},
    "backup": {"type": "bool", "default": True},
    "containerd": {"type": "str"},
    "socket": {"type": "path", "default": containerd_layouts.SOCKET},
    "state_dir": {"type": "path", "default": "/var/lib/kubegpu/runtime-config"},
}


def find_pending(module, config, changed):
    """Return pending.Pending."""
    daemon = config.daemon
    newest = changes.last_change(module.params["state_dir"], config.files())
    found = pending.at_start("containerd", changed, daemon, newest, config.target.path)
    if daemon is not None and found.level == "none":
        for reason in config.more_reasons():
            found.add("restart", reason)
    return found


def warn_of_conflict(module, config):
    """Tell of a foreign runtime of this name."""
    if config.conflict is not None:
        module.warn(
            "the runtime %s of %s is somebody else's: %s. It was %s (on_conflict=%s)"
            % (
                config.name,
                config.target.path,
                config.conflict,
                "replaced" if module.params["on_conflict"] == "replace" else "kept",
                module.params["on_conflict"],
            )
        )


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    written = []
    try:
        config = containerd_layouts.choose(module)
        config.plan()
        changed = any(target.changed for target in config.targets)
        if not module.check_mode:
            in_effect = config.daemon is not None and find_pending(module, config, False).level == "none"
            outcome = changes.apply(
                module, params["state_dir"], params["name"], config.targets, params["backup"], in_effect=in_effect
            )
            written = outcome.as_list()
    except containerd_layouts.PlaceError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or params["config_path"], error.strerror or error))

    config.warn()
    warn_of_conflict(module, config)
    needed = find_pending(module, config, changed)
    if params["state"] == "absent" and not module.check_mode and config.daemon is not None and needed.level == "none":
        # containerd runs without the runtime: there is nothing left to roll back
        for target in config.targets:
            last_good.forget(params["state_dir"], target.path)
    answer = {
        "changed": changed,
        "in_place": not changed,
        "layout": config.layout,
        "path": config.target.path,
        "service": process.unit(config.daemon.pid) if config.daemon else None,
        "ctr": config.ctr(),
        "conflict": config.conflict,
        "files": written,
        "config_version": config.version,
        "containerd_version": config.major,
        "cri_enabled": config.disabled() is None,
        "backup_file": next((item["backup_file"] for item in written if item["backup_file"]), None),
        "pending": needed.level,
        "pending_reasons": needed.reasons,
    }
    if module._diff:
        answer["diff"] = changes.diff(config.targets, config.target)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
