#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: docker_runtime_config
short_description: Gives Docker one OCI runtime in daemon.json
version_added: 0.1.0
description:
  - Adds, changes or removes one OCI runtime in Docker's C(daemon.json), and optionally makes it the default runtime or
    switches C(features.cdi).
  - The file is edited in place. Key order, indentation, the spelling of numbers and everything that is not ours stay
    byte for byte.
  - A file that does not parse is refused with line and column and stays as it is.
  - The module never reloads or restarts Docker. It compares the file with what the running daemon says and returns in
    RV(pending) what that takes.
  - What would not work is found before anything is written. That is a file system that is mounted read-only; a runtime
    of the same name that another tool made (O(on_conflict)); and a configuration with which the running C(dockerd)
    would refuse to reload, or the one of its systemd unit to start. Any option that is both a key of the file and a
    command line flag is such a case. From Docker 23.0 on C(dockerd --validate) checks the rest.
  - Where the configuration is refused, be it for our change or for what was there before, the module fails if there is
    anything to write or to apply, so that nothing is restarted. It warns if there is not.
  - Passwords, tokens, registry credentials and the user and password in a URL are masked in what is returned.
options:
  name:
    description:
      - Name of the runtime.
    type: str
    default: nvidia
  path:
    description:
      - Path of the runtime's executable.
    type: str
    default: /usr/bin/nvidia-container-runtime
  runtime_args:
    description:
      - Arguments for the runtime (C(runtimeArgs)).
      - Leave it out to leave what is there; an empty list takes them out.
    type: list
    elements: str
  set_default:
    description:
      - V(true) makes the runtime Docker's default, V(false) makes sure that it is not.
      - Leave it out to leave the default runtime alone.
    type: bool
  cdi:
    description:
      - Value of C(features.cdi), known to Docker 25.0 and later.
      - Leave it out to leave it alone.
    type: bool
  state:
    description:
      - V(present) adds or changes the runtime.
      - V(absent) removes it and undoes what earlier runs with V(present) did. The former default runtime comes back.
        A file that was not edited since comes back byte for byte. A runtime of this name with O(path) counts as
        ours; for one with another path that another tool made, see O(on_conflict).
      - V(rolled_back) is for a daemon that does not take what an earlier run wrote. It brings back the last text that
        the daemon is known to have run with, or the one without the runtime. A file that was edited since
        stays as it is.
    type: str
    choices: [present, absent, rolled_back]
    default: present
  on_conflict:
    description:
      - What to do about a runtime called O(name) that neither has O(path) (and O(runtime_args), if given) nor was made
        by an earlier run. It is always reported, as a warning and in RV(conflict). The bare name of the executable,
        as NVIDIA's packages and C(nvidia-ctk) write it, is another path.
      - V(keep) leaves the entry as it is and does the rest, such as the default runtime.
      - V(replace) makes it ours; V(absent) then brings theirs back.
      - V(fail) fails before anything is written.
    type: str
    choices: [keep, replace, fail]
    default: keep
  for_reload:
    description:
      - Write what is wanted in words that a reload of Docker understands. C(dockerd) takes over the keys that the file
        has and does not go back to a default for one that is gone, so C(default-runtime) and C(runtimes) are spelled
        out. The next run without this option takes them out again.
      - Use it when RV(bridge) says so, reload Docker, and run again without it. Nothing has to be restarted then.
    type: bool
    default: false
  config_path:
    description:
      - Path of C(daemon.json). A symbolic link is followed.
      - If it is not given, it is what the running C(dockerd) or its unit has as C(--config-file), else the usual place.
        That is C(/etc/docker/daemon.json), C(/var/snap/docker/current/config/daemon.json) where Docker is only there as
        a snap, or C(~/.config/docker/daemon.json) when not run as root (rootless Docker).
    type: path
  backup:
    description:
      - Keep a copy with a timestamp in its name when the content changes.
    type: bool
    default: true
  docker_host:
    description:
      - Socket of the running daemon, to read its state. Only V(unix://) is supported.
      - The default is V(unix:///var/run/docker.sock), and V(unix://$XDG_RUNTIME_DIR/docker.sock) when not run as root.
    type: str
  unit:
    description:
      - The systemd unit that starts Docker, with whose flags the configuration is tried. It is looked at only if the
        daemon that it starts reads O(config_path).
      - An empty string looks at none.
    type: str
    default: docker.service
  check_gpus_flag:
    description:
      - Ask for a restart if C(nvidia-container-runtime-hook) is newer than the running daemon, which looks for it only
        when it starts. C(docker run --gpus) does not work until then.
    type: bool
    default: true
  state_dir:
    description:
      - Directory in which the module remembers what was there before, for O(state=absent).
      - One file with mode 0600 for each configuration file and runtime.
      - The default is C(/var/lib/kubegpu/runtime-config), and C(~/.local/state/kubegpu/runtime-config) when not run as
        root.
    type: path
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
  - A daemon that does not run is no failure. RV(live) is then V(null) and RV(pending) is V(none), since it will read
    the file when it starts.
author:
  - the kubegpu.nvidia authors (@kubegpu)
seealso:
  - module: kubegpu.nvidia.containerd_runtime_config
"""

EXAMPLES = r"""
- name: Give Docker the NVIDIA runtime
  kubegpu.nvidia.docker_runtime_config:
  register: docker_runtime

- name: Make it the default runtime
  kubegpu.nvidia.docker_runtime_config:
    set_default: true
  register: docker_runtime

- name: Let the running daemon take it over, without stopping a container
  ansible.builtin.service:
    name: docker
    state: reloaded
  when: docker_runtime.pending == 'reload'

- name: Take it away again
  kubegpu.nvidia.docker_runtime_config:
    state: absent

- name: Make it ours, also where somebody else has made it with another path
  kubegpu.nvidia.docker_runtime_config:
    on_conflict: replace
"""

RETURN = r"""
config_path:
  description: The file, with links resolved.
  returned: success
  type: str
  sample: /etc/docker/daemon.json
conflict:
  description: In what a foreign runtime of this name differs, be it kept or replaced; V(null) if none does.
  returned: success
  type: str
  sample: its path is "/usr/local/nvidia/toolkit/nvidia-container-runtime", not "/usr/bin/nvidia-container-runtime"
bridge:
  description: Whether O(for_reload) saves a restart.
  returned: success
  type: bool
  sample: false
daemon_pid:
  description: Process id of the running daemon; V(null) if none runs or if it is out of sight.
  returned: success
  type: int
  sample: 4711
config:
  description: The resulting content of the file, secrets masked.
  returned: success
  type: dict
  sample:
    log-driver: journald
    runtimes:
      nvidia:
        path: /usr/bin/nvidia-container-runtime
    default-runtime: nvidia
diff:
  description: The file before and after, secrets masked.
  returned: in diff mode
  type: dict
  sample:
    before_header: /etc/docker/daemon.json
    after_header: /etc/docker/daemon.json
    before: "{}\n"
    after: "{\n    \"default-runtime\": \"nvidia\"\n}\n"
backup_file:
  description: Path of the backup, V(null) if none was made.
  returned: success
  type: str
  sample: /etc/docker/daemon.json.4711.2026-11-23@12:00:00~
live:
  description: What the running daemon says; V(null) if none runs.
  returned: success
  type: dict
  sample:
    default_runtime: runc
    runtimes:
      runc:
        path: runc
        runtimeArgs: []
    live_restore: false
    containers_running: 3
    server_version: 20.10.24
    cdi: null
    cgroup_driver: systemd
    cgroup_version: "2"
in_place:
  description: Whether the configuration was as wanted before, for tasks whose C(changed_when) says something else.
  returned: success
  type: bool
  sample: true
pending:
  description:
    - What it takes for the running daemon to match the file. V(reload) is a SIGHUP, which stops no container.
    - With V(restart) a reload is not enough, and in some cases makes dockerd crash; RV(pending_reasons) says so.
  returned: success
  type: str
  sample: reload
pending_reasons:
  description: Why, for people.
  returned: success
  type: list
  elements: str
  sample: [the running daemon does not have the runtime nvidia]
"""

import dataclasses
import functools
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import files, pending, process
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import memory as memories
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import config as docker_daemon
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import flags as docker_flags
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import live as docker_live
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import paths as docker_paths
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import trial as docker_trial
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import unit as docker_unit
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import masking
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError

HOOK = "nvidia-container-runtime-hook"
PID_FILE = "/var/run/docker.pid"

ARGUMENTS = {
    "name": {"type": "str", "default": "nvidia"},
    "path": {"type": "str", "default": "/usr/bin/nvidia-container-runtime"},
    "runtime_args": {"type": "list", "elements": "str"},
    "set_default": {"type": "bool"},
    "cdi": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent", "rolled_back"], "default": "present"},
    "on_conflict": {"type": "str", "choices": ["keep", "replace", "fail"], "default": "keep"},
    "for_reload": {"type": "bool", "default": False},
    "config_path": {"type": "path"},
    "backup": {"type": "bool", "default": True},
    "docker_host": {"type": "str"},
    "unit": {"type": "str", "default": "docker.service"},
    "check_gpus_flag": {"type": "bool", "default": True},
    "state_dir": {"type": "path"},
}


def edit(params, text, memory):
    """Return the docker_daemon.Edit for the module's parameters."""
    if params["state"] == "rolled_back":
        back, belongs = memories.roll_back(text, memory)
        return dataclasses.replace(docker_daemon.read(back), memory=belongs)
    args = params["runtime_args"]
    if params["state"] == "absent":
        return docker_daemon.ensure_absent(text, params["name"], memory, params["path"], args, params["on_conflict"])
    wanted = docker_daemon.DockerRuntime(
        name=params["name"],
        path=params["path"],
        args=None if args is None else tuple(args),
        set_default=params["set_default"],
        cdi=params["cdi"],
        on_conflict=params["on_conflict"],
    )
    return docker_daemon.ensure_present(text, wanted, memory)


def read_live(module, socket_path):
    """Return (live state or None, process.Daemon or None)."""
    try:
        live = docker_live.read(socket_path)
    except docker_live.LiveError as error:
        module.warn("%s; what the running daemon needs is not known" % error)
        live = None
    return live, process.find("dockerd", socket_path, PID_FILE)


def read_unit(module):
    """Return the command line of dockerd's next start (list of str, the program first), or None."""
    systemctl = module.get_bin_path("systemctl") if module.params["unit"] else None
    if systemctl is None:
        return None
    scope = [] if os.geteuid() == 0 else ["--user"]
    return docker_unit.read(module.run_command, [systemctl, *scope], module.params["unit"])


def find_path(module, daemon, starting):
    """Return (path of daemon.json with links resolved, the docker_trial.Starts of a dockerd that reads it).

    daemon: process.Daemon or None; starting: command line of the next start, or None.
    """
    uid, environment = os.geteuid(), os.environ
    running = daemon.arguments if daemon is not None else None
    next_arguments = starting[1:] if starting is not None else None
    path = module.params["config_path"] or docker_paths.config_path((running, next_arguments), uid, environment)
    path = os.path.realpath(path)
    starts = []
    if starting is not None and os.path.realpath(docker_paths.config_path((next_arguments,), uid, environment)) == path:
        source = "the systemd unit %s" % module.params["unit"]
        starts.append(docker_trial.Start(starting[0], next_arguments, source))
    if daemon is not None:
        # A reload reads the file with the flags of the last start.
        starts.append(docker_trial.Start("/proc/%d/exe" % daemon.pid, running, "the running dockerd"))
    return path, starts


def check_running_path(module, daemon, path):
    """Warn if the running daemon reads another file."""
    other = docker_flags.config_file(daemon.arguments if daemon is not None else [])
    if other is not None and os.path.realpath(other) != path:
        module.warn("the running dockerd reads %s (its flag --config-file), not %s" % (other, path))


def check_starts(module, starts, result, text, path, needed):
    """Fail if dockerd would refuse what is to be written or applied; warn if there is nothing to write or apply."""
    run = functools.partial(module.run_command, expand_user_and_vars=False)
    changes, applies = result.text != text, needed.level != "none"
    for start in starts:
        refused = docker_trial.refusal(run, start, result.text, result.config, path, module.tmpdir, changes or applies)
        if refused is None:
            continue
        before = docker_daemon.read(text).config
        if not changes or docker_trial.refusal(run, start, text, before, path, module.tmpdir) is not None:
            refused += ". Docker refuses the file as it is, too, without this change"
        message = masking.mask("%s. Docker does not reload or start like this. " % refused)
        if applies or (changes and module.params["state"] == "present"):
            module.fail_json(msg=message + "Nothing was changed or restarted. Correct it and run this again")
        module.warn(message + "Correct it before Docker is started again")
        return


def find_pending(module, config, live, daemon):
    """Return pending.Pending."""
    params = module.params
    hook = module.get_bin_path(HOOK) if params["check_gpus_flag"] else None
    present = params["state"] == "present"
    wanted = pending.DockerWanted(
        name=params["name"],
        present=present,
        default_asked=present and params["set_default"] is not None,
        cdi=params["cdi"] if present else None,
    )
    return pending.docker(
        config,
        live,
        wanted,
        started=daemon.started if daemon else None,
        hook_changed=os.stat(hook).st_ctime if hook else None,
    )


def remember_good(module, result, text, memory, live, daemon):
    """Return the Edit whose memory knows the last text that was in effect, for state=rolled_back."""
    if result.memory is None or result.text == text:
        return result
    good = memory.good if memory is not None else None
    if live is not None and find_pending(module, docker_daemon.read(text).config, live, daemon).level == "none":
        good = memories.Good(text)
    return dataclasses.replace(result, memory=dataclasses.replace(result.memory, good=good))


def write(module, path, folder, result, text, memory):
    """Write what has changed; return the backup's path or None."""
    name, key = module.params["name"], docker_paths.lasting(path)
    changes_memory = result.memory != memory
    if result.text != text or changes_memory:
        files.check_writable(path)
        files.check_writable(files.memory_path(folder, key, name))
    if module.check_mode:
        return None
    files.sweep(path)
    files.sweep(files.memory_path(folder, key, name))
    backup_file = None
    # What to remember goes first: without it the way back would be lost if we died in between.
    if result.memory is not None and changes_memory:
        files.write_memory(module, folder, key, name, result.memory)
    if result.text != text:
        backup_file = files.write(module, path, result.text, module.params["backup"])
    if result.memory is None:
        files.write_memory(module, folder, key, name, None)
    return backup_file


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    uid, environment = os.geteuid(), os.environ
    folder = params["state_dir"] or docker_paths.state_dir(uid, environment)
    try:
        socket_path = docker_live.socket_path(params["docker_host"] or docker_paths.host(uid, environment))
    except ValueError as error:
        module.fail_json(msg=str(error))
    live, daemon = read_live(module, socket_path)
    path, starts = find_path(module, daemon, read_unit(module))
    check_running_path(module, daemon, path)
    try:
        text = files.read(path)
        memory, warning = files.read_memory(folder, docker_paths.lasting(path), params["name"])
        if warning:
            module.warn(warning)
        result = edit(params, text, memory)
        if params["state"] == "present":
            docker_daemon.check_default(result.text)
        needed = find_pending(module, result.config, live, daemon)
        bridge = False
        if needed.level == "restart":
            spelled_out = docker_daemon.bridge(result)
            by_reload = find_pending(module, spelled_out.config, live, daemon)
            clash = any(docker_flags.conflicts(start.arguments, spelled_out.config) for start in starts)
            bridge = by_reload.restarts < needed.restarts and not clash
            if bridge and params["for_reload"]:
                result, needed = spelled_out, by_reload
        if params["state"] != "rolled_back":
            check_starts(module, starts, result, text, path, needed)
        result = remember_good(module, result, text, memory, live, daemon)
        backup_file = write(module, path, folder, result, text, memory)
    except ConfigError as error:
        module.fail_json(msg=error.describe(path))
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or path, error.strerror or error))

    if result.conflict is not None:
        became = "replaced" if params["on_conflict"] == "replace" else "kept"
        message = "the runtime %s in %s was made by somebody else: %s. It was %s (on_conflict=%s)"
        shown = (params["name"], path, result.conflict, became, params["on_conflict"])
        module.warn(masking.mask(message % shown))
    answer = {
        "changed": result.text != text,
        "in_place": result.text == text,
        "config": masking.mask_data(result.config),
        "config_path": path,
        "conflict": masking.mask_data(result.conflict),
        "backup_file": backup_file,
        "live": masking.mask_data(live),
        "daemon_pid": daemon.pid if daemon is not None else None,
        "pending": needed.level,
        "pending_reasons": masking.mask_data(needed.reasons),
        "bridge": bridge,
    }
    if module._diff:
        answer["diff"] = files.diff(path, text, result.text)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
