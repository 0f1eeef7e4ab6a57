# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runtime in the containerd of k3s and RKE2, which write containerd's config.toml anew at each start. Pure.

Known from k3s' source (pkg/agent/containerd, pkg/agent/templates) and its documentation, "Advanced Options":
- At its start k3s looks for nvidia-container-runtime in its PATH and in /usr/local/nvidia/toolkit, and gives containerd
  the runtime nvidia if it is there. So all that is needed is a restart.
- Newer releases find nvidia-cdi in the same way, and import config-v3.toml.d/*.toml beside the file that they write. So
  what that file has is asked, and another runtime goes into a file of that folder, which may say again what k3s says.
- Without that import any other runtime goes into a template: config-v3.toml.tmpl for containerd 2.x, config.toml.tmpl
  for 1.x, which may take k3s' own as `{{ template "base" . }}` since the releases of September 2023.
- The base template opens the table that default_runtime_name belongs to, and TOML forbids to open it again. The
  default is k3s' option default-runtime (since December 2023), which may stand in a file of config.yaml.d.
RKE2 has k3s inside; its paths say rke2 instead.
"""

from __future__ import annotations

import json
import os.path
import re
from dataclasses import dataclass, field, replace
from typing import Dict, List, Optional, Tuple

from ..memory import Memory, digest
from ..text import toml_text
from ..text.lines import ConfigError
from . import keys
from .config import (
    as_table,
    difference,
    ensure_absent,
    ensure_present,
    has_runtime,
    version_of,
)
from .effective import (
    RUNTIME_TYPE,
    ContainerdRuntime,
    effective_of,
)
from .imports import takes_drop_in
from .keys import PREFIXES

FLAVORS = ("k3s", "rke2")
SOCKET = "/run/k3s/containerd/containerd.sock"
BASE = '{{ template "base" . }}\n'
TEMPLATES = {2: "config.toml.tmpl", 3: "config-v3.toml.tmpl"}
DROP_INS = {2: "config.toml.d", 3: "config-v3.toml.d"}
DROP_IN = "99-nvidia.toml"
DEFAULT_FILE = "99-kubegpu-default-runtime.yaml"

# name -> program that k3s looks for
DETECTED = {"nvidia": "nvidia-container-runtime", "nvidia-experimental": "nvidia-container-runtime-experimental"}
SEARCHED = (
    "/usr/local/nvidia/toolkit",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)
"""Where k3s looks: the GPU operator's folder, and PATH as systemd sets it for a service."""

_BASE_SINCE = {24: 17, 25: 13, 26: 8, 27: 5, 28: 1}
_DEFAULT_SINCE = {26: 12, 27: 9, 28: 5, 29: 0}
_USES_BASE = re.compile(r'\{\{-?\s*template\s+"base"')


@dataclass(frozen=True)
class Paths:
    """Where a flavor has its files below root."""

    flavor: str
    root: str = "/"

    @property
    def folder(self) -> str:
        """Folder of the generated file and of the templates."""
        return os.path.join(self.root, "var/lib/rancher", self.flavor, "agent/etc/containerd")

    @property
    def generated(self) -> str:
        """The file that containerd reads."""
        return os.path.join(self.folder, "config.toml")

    @property
    def default_file(self) -> str:
        """Our file with the option default-runtime."""
        return os.path.join(self.root, "etc/rancher", self.flavor, "config.yaml.d", DEFAULT_FILE)

    def template(self, version: int) -> str:
        """The template for a config version (2 or 3)."""
        return os.path.join(self.folder, TEMPLATES[version])

    def drop_in(self, version: int) -> str:
        """Our file that k3s imports, for a config version (2 or 3)."""
        return os.path.join(self.folder, DROP_INS[version], DROP_IN)


@dataclass(frozen=True)
class Node:
    """What is there. version: of k3s as (major, minor, patch), None if unknown; generated: text of config.toml;
    template: text of the template for its config version, drop_in, default_file: texts of ours, None for no file;
    programs: program name -> where k3s finds it, in its order; stale: whether we changed something since k3s started,
    so that the generated file does not tell yet what it will be."""

    paths: Paths
    version: Optional[Tuple[int, int, int]]
    generated: Optional[str]
    template: Optional[str] = None
    drop_in: Optional[str] = None
    default_file: Optional[str] = None
    programs: Dict[str, List[str]] = field(default_factory=dict)
    stale: bool = False


@dataclass(frozen=True)
class Plan:
    """New texts (None for no file) with their memories, and the config version.

    conflict: None, or in what a foreign runtime of this name, which was kept or replaced, differs."""

    version: int
    template: Optional[str]
    template_memory: Optional[Memory]
    drop_in: Optional[str]
    drop_in_memory: Optional[Memory]
    default_file: Optional[str]
    default_memory: Optional[Memory]
    conflict: Optional[str] = None


def version_number(text: str) -> tuple[int, int, int] | None:
    """Return (major, minor, patch) from what `k3s --version` prints, or None."""
    match = re.search(r"\bv(\d+)\.(\d+)\.(\d+)[+-](?:k3s|rke2)", text)
    return (int(match.group(1)), int(match.group(2)), int(match.group(3))) if match else None


def generated_version(paths: Paths, text: str | None) -> int:
    """Return the config version of the generated file (text or None). Raises ConfigError."""
    if text is None:
        raise ConfigError(
            "%s is not there: %s writes it when it starts. Start %s once, then run this again"
            % (paths.generated, paths.flavor, paths.flavor)
        )
    version = version_of(keys.read(text))
    if version not in TEMPLATES:
        raise ConfigError(
            "%s writes config version %d, for which this module does not know the places of %s' templates and drop-ins"
            % (paths.flavor, version, paths.flavor)
        )
    return version


def plan_present(
    node: Node,
    wanted: ContainerdRuntime,
    template_memory: Memory | None = None,
    drop_in_memory: Memory | None = None,
    default_memory: Memory | None = None,
) -> Plan:
    """Return the Plan for the wanted ContainerdRuntime. Raises ConfigError where it cannot be had."""
    version = generated_version(node.paths, node.generated)
    template, drop_in = node.template, node.drop_in
    own = _own_block(node.template, template_memory)
    in_drop_in = has_runtime(node.drop_in, wanted.name)
    conflict = None if own is not None or in_drop_in else _conflict(node, wanted, version)
    if own is None and not in_drop_in and _left_to_k3s(node, wanted, version, conflict):
        pass
    elif own is None and imports_drop_in(node, version):
        generated = effective_of(keys.read(node.generated or ""))
        # The default runtime is k3s' own option, so that it is the same with and without the drop-in.
        alone = replace(wanted, set_default=None)
        edit = ensure_present(drop_in, alone, drop_in_memory, generated, 2, version)
        drop_in, drop_in_memory, conflict = edit.text, edit.memory, conflict or edit.conflict
    else:
        template = _with_section(node, wanted, version, own)
        if template != node.template:
            block = section(wanted, version)
            before = template_memory.before if own is not None and template_memory is not None else node.template
            template_memory = Memory(before, digest(template), {}, [block])
    default_file = _default(node, wanted, version)
    if default_file != node.default_file:
        default_memory = None if default_file is None else Memory(None, digest(default_file))
    return Plan(version, template, template_memory, drop_in, drop_in_memory, default_file, default_memory, conflict)


def plan_absent(
    node: Node,
    wanted: ContainerdRuntime,
    template_memory: Memory | None = None,
    drop_in_memory: Memory | None = None,
) -> Plan:
    """Return the Plan that takes our parts away. What k3s finds by itself it goes on to find."""
    version = generated_version(node.paths, node.generated)
    template = node.template
    if template is not None and template_memory is not None:
        if template_memory.wrote(template):
            template = template_memory.before
        else:
            own = _own_block(template, template_memory)
            template = template.replace(own, "") if own is not None else template
    edit = ensure_absent(node.drop_in, wanted.name, drop_in_memory, wanted.path, wanted.on_conflict, 2, drop_in=True)
    default_file = None if node.default_file == default_line(wanted.name) else node.default_file
    return Plan(version, template, None, edit.text, edit.memory, default_file, None, edit.conflict)


def imports_drop_in(node: Node, version: int) -> bool:
    """Return whether the generated file imports our drop-in, so that containerd 2.x merges it."""
    path = node.paths.drop_in(version)
    # k3s writes the paths of its own root.
    real = "/" + os.path.relpath(path, node.paths.root)
    return takes_drop_in(node.generated, node.paths.generated, real, 2 if version >= 3 else 1) is not None


def default_line(name: str) -> str:
    """Return the content of our file with the option default-runtime."""
    return "default-runtime: %s\n" % toml_text.string_text(name)


def section(wanted: ContainerdRuntime, version: int) -> str:
    """Return the lines (str) that give a template the runtime, with the cgroup driver that k3s chose."""
    path = (*PREFIXES[version], "runtimes", wanted.name)
    lines = [
        "",
        "[%s]" % _header(path),
        "  runtime_type = %s" % toml_text.string_text(RUNTIME_TYPE),
        "[%s]" % _header((*path, "options")),
        "  BinaryName = %s" % toml_text.string_text(wanted.path),
        "  SystemdCgroup = {{ .SystemdCgroup }}",
    ]
    return "\n".join(lines) + "\n"


def _header(path: tuple[str, ...]) -> str:
    return ".".join("'%s'" % part if "." in part else toml_text.key_text(part) for part in path)


def _own_block(template: str | None, memory: Memory | None) -> str | None:
    """The block that we added to a template, if it is still there as it was."""
    if template is None or memory is None:
        return None
    found = [block for block in memory.created if template.count(block) == 1]
    return found[0] if found else None


def _conflict(node: Node, wanted: ContainerdRuntime, version: int) -> str | None:
    """In what the runtime that k3s writes, or would write, differs from the wanted one. Raises ConfigError if it is not
    to differ."""
    runtime = as_table(keys.read(node.generated or "").find((*PREFIXES[version], "runtimes", wanted.name)))
    programs = node.programs.get(DETECTED.get(wanted.name, ""), [])
    paths = (wanted.path, os.path.realpath(wanted.path))
    if runtime is not None:
        found = [difference(runtime, path) for path in paths]
    elif programs and not _names_runtime(node.template, wanted.name):
        real = (programs[0], os.path.realpath(programs[0]))
        found = ["its BinaryName is %s, not %s" % (json.dumps(programs[0]), json.dumps(wanted.path))]
        found = [None] if wanted.path in real else found
    else:
        return None
    conflict = None if None in found else found[0]
    replaceable = wanted.on_conflict == "replace" and imports_drop_in(node, version)
    if conflict is not None and wanted.on_conflict != "keep" and not replaceable:
        raise ConfigError(
            "%s finds the runtime %s by itself, and %s. Nothing was changed. Name that program as the path, keep it "
            "(on_conflict), or take it away" % (node.paths.flavor, wanted.name, conflict)
        )
    return conflict


def _left_to_k3s(node: Node, wanted: ContainerdRuntime, version: int, conflict: str | None) -> bool:
    """True if k3s finds this runtime by itself and it is to be as k3s has it."""
    if conflict is not None:
        return wanted.on_conflict == "keep"
    if _names_runtime(node.template, wanted.name):
        return False
    if keys.read(node.generated or "").find((*PREFIXES[version], "runtimes", wanted.name)) is not None:
        return True
    if node.template is not None and not (_USES_BASE.search(node.template) or ".ExtraRuntimes" in node.template):
        return False
    return bool(wanted.name in DETECTED and node.programs.get(DETECTED[wanted.name]))


def _names_runtime(template: str | None, name: str) -> bool:
    if template is None:
        return False
    pattern = r"^[ \t]*\[[^\]\n]*\bruntimes\.[\"']?%s[\"']?[\].]" % re.escape(name)
    return re.search(pattern, template, re.MULTILINE) is not None


def _with_section(node: Node, wanted: ContainerdRuntime, version: int, own: str | None) -> str:
    block = section(wanted, version)
    if node.template is None:
        _require(node, _BASE_SINCE, 'a template that takes over its own with {{ template "base" . }}')
        return BASE + block
    if own is not None:
        return node.template.replace(own, block)
    if _names_runtime(node.template, wanted.name):
        if toml_text.string_text(wanted.path) in node.template or "'%s'" % wanted.path in node.template:
            return node.template
        raise ConfigError(
            "the template has the runtime %s already, and not with %s; correct it by hand, since a template is no TOML "
            "that could be edited safely" % (wanted.name, wanted.path)
        )
    return node.template + ("" if node.template.endswith("\n") else "\n") + block


def _default(node: Node, wanted: ContainerdRuntime, version: int) -> str | None:
    """New text of our file with the option default-runtime, None for no file."""
    text, line = node.default_file, default_line(wanted.name)
    entry = keys.read(node.generated or "").find((*PREFIXES[version], "default_runtime_name"))
    is_default = isinstance(entry, toml_text.Entry) and toml_text.to_python(entry) == wanted.name
    elsewhere = is_default and text is None and not node.stale
    if wanted.set_default:
        if text == line or elsewhere:
            return text
        _require(node, _DEFAULT_SINCE, "the option default-runtime")
        if node.template is not None and not (
            _USES_BASE.search(node.template) or ".NodeConfig.DefaultRuntime" in node.template
        ):
            raise ConfigError(
                "this template does not take over the option default-runtime; start it with %s instead of a copy of "
                "the whole configuration" % BASE.strip()
            )
        return line
    if wanted.set_default is False:
        if text == line:
            return None
        if elsewhere:
            raise ConfigError(
                "%s has %s as its default runtime, but not from us: take default-runtime out of /etc/rancher/%s or "
                "of the command line" % (node.paths.flavor, wanted.name, node.paths.flavor)
            )
    return text


def _require(node: Node, since: dict[int, int], what: str) -> None:
    if node.version is None:
        raise ConfigError("it cannot be found out whether this %s has %s" % (node.paths.flavor, what))
    major, minor, patch = node.version
    enough = major > 1 or minor > max(since) or (minor in since and patch >= since[minor])
    if not enough:
        releases = ", ".join("1.%d.%d" % item for item in sorted(since.items()))
        raise ConfigError(
            "%s %d.%d.%d does not have %s, which came with %s; upgrade it"
            % (node.paths.flavor, major, minor, patch, what, releases)
        )


def waits_for(node: Node, wanted: ContainerdRuntime) -> list[str]:
    """Return why the generated file shows that a restart is still needed for the wanted runtime, as a list of str."""
    version = generated_version(node.paths, node.generated)
    document = keys.read(node.generated or "")
    entry = document.find((*PREFIXES[version], "default_runtime_name"))
    default = toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else "runc"
    reasons = []
    there = document.find((*PREFIXES[version], "runtimes", wanted.name)) is not None
    if not there and not has_runtime(node.drop_in, wanted.name):
        reasons.append("no runtime %s yet" % wanted.name)
    if wanted.set_default is not None and (default == wanted.name) is not wanted.set_default:
        reasons.append("the default runtime %s" % default)
    text = "%s has %s, and %s writes it only when it starts"
    return [text % (node.paths.generated, reason, node.paths.flavor) for reason in reasons]
