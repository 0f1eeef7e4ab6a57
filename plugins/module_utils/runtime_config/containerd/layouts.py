# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a node's containerd has its configuration, and what its files shall be: Plain, or K3s for k3s and RKE2.

Both read files and run binaries, and write nothing. Members of AnsibleModule in use: params, get_bin_path, run_command,
tmpdir, warn.
"""

from __future__ import annotations

import glob
import os
from typing import Any

from .. import changes, files, process
from ..docker import flags as docker_flags
from ..text import toml_text
from ..text.lines import ConfigError
from . import (
    config as containerd_config,
)
from . import dump as containerd_dump
from . import (
    effective as containerd_effective,
)
from . import (
    imports as containerd_imports,
)
from . import k3s as containerd_k3s
from . import keys as containerd_keys

CONFIG_PATH = "/etc/containerd/config.toml"
SOCKET = "/run/containerd/containerd.sock"
PROGRAMS = ["/usr/local/bin"]
"""Where containerd's own archive is unpacked, and sudo's secure_path does not look."""

_CRI_OFF = (
    "switches CRI off, so the kubelet cannot use this containerd (Docker's package containerd.io ships its file like "
    "this). Nothing was changed. Have CRI switched on with enable_cri (containerd_runtime_enable_cri in the role), "
    "which needs a restart of containerd, or take it out of the list, and run this again"
)


class PlaceError(Exception):
    """A ConfigError with the path of its file."""

    def __init__(self, path: str, error: ConfigError) -> None:
        super().__init__(error.describe(path))


class Engine:
    """The containerd binary, or its absence: the one that is asked for, else that of the running daemon, since another
    one may be in PATH, and PATH may lack its folder."""

    def __init__(self, module: Any, path: str, daemon: process.Daemon | None) -> None:
        self.module = module
        self.path = path
        asked = module.params["containerd"]
        running = process.program(daemon.pid) if daemon is not None and not asked else None
        self.binary = running or module.get_bin_path(asked or "containerd", opt_dirs=PROGRAMS)
        if self.binary is None:
            module.warn("%s is not there, so the file is not checked by containerd" % (asked or "containerd"))
        self.major = containerd_dump.major_version(module.run_command, self.binary) if self.binary else None

    def ctr(self) -> str | None:
        """Return the path of the ctr beside the binary, else of one in PATH, None if there is none."""
        beside = os.path.join(os.path.dirname(self.binary or ""), "ctr")
        found: str | None = self.module.get_bin_path("ctr", opt_dirs=PROGRAMS)
        return beside if self.binary is not None and os.access(beside, os.X_OK) else found

    def dump(self, text: str | None, imported: dict[str, str | None] | None = None) -> toml_text.Document | None:
        """Return the scanned merged configuration, None without a binary. Raises ConfigError."""
        if self.binary is None:
            return None
        if text is None:
            text = "version = %d\n" % (2 if self.major == 1 else 3)
        folder = self.module.tmpdir
        return containerd_dump.dump(self.module.run_command, self.binary, text, self.path, folder, imported)


class Plain:
    """A containerd with a configuration file of its own: the main file and our drop-in."""

    layout = "containerd"

    def __init__(self, module: Any) -> None:
        params = module.params
        self.module, self.params, self.name = module, params, params["name"]
        self.main = read_target(module, os.path.realpath(params["config_path"]))
        self.drop_in = read_target(module, os.path.realpath(params["drop_in_path"]))
        self.targets = [self.main, self.drop_in]
        self.daemon = process.find("containerd", self.socket())
        self.engine = Engine(module, self.main.path, self.daemon)
        self.version: int | None = None
        self.merged: toml_text.Document | None = None
        self.conflict: str | None = None

    @property
    def major(self) -> int | None:
        return self.engine.major

    def ctr(self) -> str | None:
        return self.engine.ctr()

    def plan(self) -> None:
        """Decide what the files shall be. Raises PlaceError."""
        self.target = self.main
        try:
            if self.params["state"] == "present":
                self.plan_present()
            elif self.params["state"] == "absent":
                self.plan_absent()
            else:
                self.plan_roll_back()
        except ConfigError as error:
            raise PlaceError(self.target.path, error) from error

    def place(self) -> int | None:
        """Return the config version that a drop-in needs, or None for the main file."""
        asked = self.params["placement"]
        if asked == "main":
            return None
        version = containerd_imports.takes_drop_in(self.main.text, self.main.path, self.drop_in.path, self.engine.major)
        if asked == "auto":
            in_main = containerd_config.has_runtime(self.main.text, self.name)
            return None if in_main and not containerd_config.has_runtime(self.drop_in.text, self.name) else version
        if version is None:
            raise ConfigError(
                "a drop-in at %s would not be right: it takes containerd 2.x (found: %s) and this main file importing "
                "that path; leave placement at auto" % (self.drop_in.path, self.engine.major)
            )
        return version

    def dump_with(self, text: str | None) -> toml_text.Document | None:
        """Return the merged configuration with text in the target's place."""
        if self.target is self.main:
            return self.engine.dump(text, {self.drop_in.path: self.drop_in.new_text} if self.drop_in.planned else None)
        return self.engine.dump(self.main.text, {self.drop_in.path: text})

    def plan_present(self) -> None:
        params, engine = self.params, self.engine
        wanted = containerd_effective.ContainerdRuntime(
            self.name, params["path"], params["set_default"], params["on_conflict"], params["enable_cri"]
        )
        disabled = self.disabled()
        if disabled is not None and not params["enable_cri"]:
            raise ConfigError("disabled_plugins (line %d) %s" % (disabled, _CRI_OFF))
        version = None if disabled is not None else self.place()
        if version is not None:
            self.target = self.drop_in
        target = self.target
        # Once without containerd, whose own messages for a bad file say less than ours.
        containerd_config.ensure_present(target.text, wanted, target.memory, None, engine.major, version)
        before = self.dump_with(containerd_config.switch_cri_on(target.text, engine.major) if disabled else target.text)
        effective = containerd_effective.effective_of(before) if before else None
        edit = containerd_config.ensure_present(target.text, wanted, target.memory, effective, engine.major, version)
        after = before if edit.text == target.text else self.dump_with(edit.text)
        if before is not None and after is not None:
            self.check(before, after, wanted, edit)
        for other in self.targets:
            other.plan(other.text, containerd_config.note_theirs(other.text, self.name, other.memory))
        target.plan(edit.text, edit.memory)
        self.version, self.merged, self.conflict = edit.version, after, edit.conflict

    def check(
        self,
        before: toml_text.Document,
        after: toml_text.Document,
        wanted: containerd_effective.ContainerdRuntime,
        edit: containerd_config.Edit,
    ) -> None:
        """Raise ConfigError unless the merged configuration is as wanted and nothing else changes."""
        if containerd_config.disabled_cri(after) is not None:
            raise ConfigError(
                "disabled_plugins of an imported file (%s) %s" % (", ".join(self.imported(after)), _CRI_OFF)
            )
        expected = wanted.name if wanted.set_default else None
        kept = edit.conflict is not None and wanted.on_conflict == "keep"
        effective = containerd_effective.effective_of(after)
        found = containerd_effective.problems(effective, wanted, expected, kept)
        if found:
            others = [path for path in self.imported(after) if path != self.target.path]
            if self.target is not self.main:
                others = [self.main.path, *others]
            raise ConfigError(
                "containerd's merged configuration would not be as wanted: %s. %s"
                % (
                    "; ".join(found),
                    "One of its imports overrides this file: %s. Set config_path to that file, or "
                    "take the section out of it" % ", ".join(others)
                    if others
                    else "This is a bug, please report it",
                )
            )
        self.refuse_side_effects(before, after, edit)

    def refuse_side_effects(
        self, before: toml_text.Document, after: toml_text.Document, edit: containerd_config.Edit
    ) -> None:
        """Raise ConfigError if CRI would not start, or if more than our keys differs between two merged
        configurations."""
        old = containerd_effective.effective_of(before)
        missing = containerd_effective.missing_default(containerd_effective.effective_of(after))
        if missing is not None and missing != containerd_effective.missing_default(old):
            raise ConfigError(
                "default_runtime_name would be %s, and there would be no runtime of this name, so CRI would not start; "
                "add the runtime, or name another default" % missing
            )
        names = (self.name, "runc") if edit.runc else (self.name,)
        altered = containerd_effective.side_effects(before, after, names)
        if altered:
            raise ConfigError("the change would also alter other settings of containerd: %s" % "; ".join(altered))

    def plan_absent(self) -> None:
        # The drop-in goes first: the default runtime may stand in one of them and the runtime in the other.
        main = containerd_keys.read(self.main.text or "", self.engine.major)
        imported = containerd_imports.takes_drop_in(self.main.text, self.main.path, self.drop_in.path, 2) is not None
        if self.drop_in.memory is not None or (imported and self.drop_in.text is not None):
            self.take_out(self.drop_in)
        self.take_out(self.main)
        self.version = self.version or containerd_config.version_in(main)

    def plan_roll_back(self) -> None:
        changes.plan_roll_back(self.params["state_dir"], self.name, self.targets)
        self.target = next((target for target in self.targets if target.changed), self.main)
        self.version = containerd_config.version_in(containerd_keys.read(self.main_text() or "", self.engine.major))

    def take_out(self, target: changes.Target) -> None:
        self.target = target
        params, major, drop_in = self.params, self.engine.major, target is self.drop_in
        arguments = (target.text, self.name, target.memory, params["path"], params["on_conflict"], major)
        edit = containerd_config.ensure_absent(*arguments, None, drop_in)
        if edit.text != target.text:
            before = self.dump_with(target.text)
            effective = containerd_effective.effective_of(before) if before else None
            edit = containerd_config.ensure_absent(*arguments, effective, drop_in)
            after = self.dump_with(edit.text)
            # CRI that an earlier run switched on goes off again, and with it all of its settings.
            if before is not None and after is not None and containerd_config.disabled_cri(after) is None:
                self.refuse_side_effects(before, after, edit)
            self.merged = after
        target.plan(edit.text, edit.memory)
        self.conflict = self.conflict or edit.conflict
        if target is self.main:
            self.version = edit.version

    def imported(self, merged: toml_text.Document | None) -> list[str]:
        """The files that the main file imports; containerd 1.x names those as well that they import."""
        document = containerd_keys.read(self.main_text() or "", self.engine.major)
        found = {path for item in containerd_imports.imports_of(document, self.main.path) for path in glob.glob(item)}
        if merged is not None:
            found.update(containerd_dump.imported_files(merged))
        return sorted(found - {self.main.path})

    def files(self) -> list[str]:
        """Paths of all files that the configuration consists of."""
        return [self.main.path, self.drop_in.path, *self.imported(self.merged)]

    def socket(self) -> str:
        return str(self.params["socket"])

    def more_reasons(self) -> list[str]:
        return []

    def warn(self) -> None:
        """Warn of what keeps the runtime from having an effect."""
        if self.daemon is not None:
            flags = docker_flags.flags(self.daemon.arguments)
            other = flags.get("config") or flags.get("c")
            if other and os.path.realpath(other) != self.main.path:
                self.module.warn(
                    "the running containerd reads %s (its flag --config), not %s" % (other, self.main.path)
                )

    def disabled(self) -> int | None:
        """Line of disabled_plugins if it switches CRI off, else None."""
        return containerd_config.disabled_cri(containerd_keys.read(self.main_text() or "", self.engine.major))

    def main_text(self) -> str | None:
        """Text of the main file as it shall be."""
        return self.main.new_text if self.main.planned else self.main.text


class K3s:
    """The containerd inside of k3s or RKE2."""

    def __init__(self, module: Any, flavor: str) -> None:
        params = module.params
        self.module, self.params, self.layout = module, params, flavor
        self.paths = containerd_k3s.Paths(flavor, params["root"])
        self.wanted = containerd_effective.ContainerdRuntime(
            params["name"], params["path"], params["set_default"], params["on_conflict"]
        )
        self.main = self.target = changes.Target(self.paths.generated, None, None)
        try:
            self.main.text = files.read(self.main.path)
            self.version = containerd_k3s.generated_version(self.paths, self.main.text)
        except ConfigError as error:
            raise PlaceError(self.main.path, error) from error
        self.template = read_target(module, self.paths.template(self.version))
        self.drop_in = read_target(module, self.paths.drop_in(self.version))
        self.default_file = read_target(module, self.paths.default_file)
        self.targets = [self.template, self.drop_in, self.default_file]
        self.major = 2 if self.version >= 3 else 1
        self.daemon = process.find("containerd", self.socket())
        self.conflict: str | None = None

    @property
    def name(self) -> str:
        return self.wanted.name

    def ctr(self) -> str | None:
        return None

    def plan(self) -> None:
        """Decide what the files shall be. Raises PlaceError."""
        newest = changes.last_change(self.params["state_dir"], self.files())
        self.node = containerd_k3s.Node(
            self.paths,
            self.k3s_version(),
            self.main.text,
            self.template.text,
            self.drop_in.text,
            self.default_file.text,
            {name: self.programs(name) for name in containerd_k3s.DETECTED.values()},
            bool(self.daemon and self.daemon.started and newest and newest > self.daemon.started),
        )
        if self.params["state"] == "rolled_back":
            changes.plan_roll_back(self.params["state_dir"], self.name, self.targets)
            return
        memories = [item.memory for item in self.targets]
        try:
            if self.params["state"] == "present":
                plan = containerd_k3s.plan_present(self.node, self.wanted, *memories)
            else:
                plan = containerd_k3s.plan_absent(self.node, self.wanted, *memories[:2])
        except ConfigError as error:
            raise PlaceError(self.template.path if self.template.text is not None else self.main.path, error) from error
        self.template.plan(plan.template, plan.template_memory)
        self.drop_in.plan(plan.drop_in, plan.drop_in_memory)
        self.default_file.plan(plan.default_file, plan.default_memory)
        self.conflict = plan.conflict

    def k3s_version(self) -> tuple[int, int, int] | None:
        binary = self.module.get_bin_path(self.layout, opt_dirs=["/usr/local/bin", "/opt/rke2/bin"])
        if binary is None:
            return None
        code, output, _unused = self.module.run_command([binary, "--version"])
        return containerd_k3s.version_number(output) if code == 0 else None

    def programs(self, name: str) -> list[str]:
        places = [os.path.join(self.params["root"], folder.lstrip("/"), name) for folder in containerd_k3s.SEARCHED]
        return ["/" + os.path.relpath(place, self.params["root"]) for place in places if os.access(place, os.X_OK)]

    def files(self) -> list[str]:
        return [item.path for item in self.targets]

    def socket(self) -> str:
        return self.params["socket"] if self.params["socket"] != SOCKET else containerd_k3s.SOCKET

    def more_reasons(self) -> list[str]:
        return containerd_k3s.waits_for(self.node, self.wanted) if self.params["state"] == "present" else []

    def warn(self) -> None:
        program = containerd_k3s.DETECTED.get(self.name)
        if self.params["state"] == "absent" and program and self.programs(program):
            self.module.warn(
                "%s finds the runtime %s by itself as long as its program is installed" % (self.layout, self.name)
            )

    def disabled(self) -> int | None:
        return None


def read_target(module: Any, path: str) -> changes.Target:
    """Return the Target of a file. Raises PlaceError."""
    try:
        return changes.read(module, module.params["state_dir"], path, module.params["name"])
    except ConfigError as error:
        raise PlaceError(path, error) from error


def choose(module: Any) -> Plain | K3s:
    """Return Plain or K3s. Raises PlaceError."""
    layout = module.params["layout"]
    if layout == "auto" and module.params["config_path"] == CONFIG_PATH:
        for flavor in reversed(containerd_k3s.FLAVORS):
            socket = os.path.join(module.params["root"], containerd_k3s.SOCKET.lstrip("/"))
            if os.path.exists(socket) and os.path.exists(containerd_k3s.Paths(flavor, module.params["root"]).generated):
                layout = flavor
                break
    return K3s(module, layout) if layout in containerd_k3s.FLAVORS else Plain(module)
