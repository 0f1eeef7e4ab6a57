# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CRI-O makes of its files: the runtimes, the default one, and whether it would start. Pure.

CRI-O decodes one file after the other. A later file replaces a runtime's whole table, not single keys of it, and keys
count without regard to case (pkg/config of cri-o/cri-o, decoded by BurntSushi/toml).
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

from ..text import toml_text
from ..text.lines import ConfigError

OCI = ("", "oci")
"""Values of runtime_type of a runtime that is started through conmon."""

_NOT_INHERITED = (
    *("runtime_path", "runtime_type", "runtime_config_path", "platform_runtime_paths"),
    *("inherit_default_runtime", "stream_websockets", "runtime_pull_image"),
)
_BUILT_IN_CGROUP = "system.slice"


@dataclass
class Effective:
    """runtimes: name -> table as plain data; defaults: values of default_runtime, the one that counts last."""

    runtimes: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    defaults: List[str] = field(default_factory=list)

    @property
    def default(self) -> str | None:
        """The default runtime's name; None if no file names one."""
        return self.defaults[-1] if self.defaults else None


@dataclass(frozen=True)
class Template:
    """The runtime that stands in for CRI-O's own: its name, and its table as plain data."""

    name: str
    table: Dict[str, Any]

    def inherited(self) -> dict[str, Any]:
        """Return key -> value of what another runtime of the same kind needs as well.

        What is not set is left out, and so is the monitor's cgroup that CRI-O has by itself with systemd alone.
        """
        found = {key: value for key, value in self.table.items() if key not in _NOT_INHERITED and value}
        if found.get("monitor_cgroup") == _BUILT_IN_CGROUP:
            del found["monitor_cgroup"]
        return found


def effective(texts: list[str]) -> Effective:
    """Return the Effective of the texts of CRI-O's files in the order in which it reads them.

    A text that is not TOML counts as nothing; CRI-O itself reports it.
    """
    found = Effective()
    conmon = ""
    for text in texts:
        try:
            runtime = _runtime_table(toml_text.to_python(toml_text.scan(text).root))
        except ConfigError:
            continue
        tables = runtime.get("runtimes")
        for name, table in (tables if isinstance(tables, dict) else {}).items():
            found.runtimes[name] = _lower(table)
        if isinstance(runtime.get("default_runtime"), str):
            found.defaults.append(runtime["default_runtime"])
        conmon = runtime.get("conmon", conmon)
    # The deprecated global option wins over the monitor of each runtime.
    for table in found.runtimes.values() if conmon else ():
        table["monitor_path"] = conmon
    return found


def _runtime_table(data: dict[str, Any]) -> dict[str, Any]:
    return _lower(_lower(_lower(data).get("crio")).get("runtime"))


def _lower(table: Any) -> dict[str, Any]:
    return {key.lower(): value for key, value in table.items()} if isinstance(table, dict) else {}


def _text(table: dict[str, Any], key: str) -> str:
    # CRI-O itself reports a value of another type.
    value = table.get(key)
    return value if isinstance(value, str) else ""


def template(config: Effective, name: str) -> Template | None:
    """Return the Template for a runtime called name, or None if there is none.

    It is the default runtime or, if that is the runtime itself, another one of NVIDIA's, or of another kind (such as
    vm), the one that was the default before in CRI-O's order of files, else crun, runc, or any other.
    """
    for candidate in [*reversed(config.defaults), "crun", "runc", *sorted(config.runtimes)]:
        table = config.runtimes.get(candidate)
        if table is None or candidate == name or _text(table, "runtime_type") not in OCI:
            continue
        if not posixpath.basename(_text(table, "runtime_path")).startswith("nvidia-container-runtime"):
            return Template(candidate, table)
    return None


def program(runtime: str, table: dict[str, Any], which: Callable[[str], Optional[str]]) -> str | None:
    """Return the path of a runtime's program, or None. which: function (program) -> path in CRI-O's PATH or None."""
    return _text(table, "runtime_path") or which(runtime)


def startup_problems(
    config: Effective,
    exists: Callable[[str], bool],
    which: Callable[[str], Optional[str]],
    monitor_problem: Callable[[str], Optional[str]],
) -> list[str]:
    """Return why CRI-O would not start, as a list of str: what `crio config` does not look at.

    exists: function (path) -> bool; which: as in program; monitor_problem: function (path) -> what is wrong with it as
    conmon, or None. CRI-O leaves out a runtime whose program is missing, unless it is the default. Every other one of
    runc's kind must have its monitor.
    """
    found = []
    for name, table in sorted(config.runtimes.items()):
        path = program(name, table, which)
        if path is None or not exists(path):
            if name == config.default and path is None:
                found.append("the default runtime %s has no runtime_path, and %s is not in CRI-O's PATH" % (name, name))
            elif name == config.default:
                found.append("runtime_path of the default runtime %s, %s, does not exist" % (name, path))
            continue
        if _text(table, "runtime_type") not in OCI:
            continue
        monitor = _text(table, "monitor_path") or which("conmon")
        problem = monitor_problem(monitor) if monitor else None
        if not monitor:
            found.append("the runtime %s has no monitor_path, and conmon is not in CRI-O's PATH" % name)
        elif problem:
            found.append("monitor_path of the runtime %s, %s, %s" % (name, monitor, problem))
    return found
