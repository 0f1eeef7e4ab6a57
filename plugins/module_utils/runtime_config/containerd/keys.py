# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's config.toml, scanned with the keys as containerd reads them. Pure.

A key of a Go struct may be spelled in several ways, and two spellings of one key may stand side by side (tried on
1.6.20, 1.7.24, 2.1.9 and 2.4.2):
- containerd 2.x (go-toml v2) ignores case. Below plugins it sorts the keys before it decodes them, and the last one
  wins, so binaryName beats BinaryName. At the top of the file the last one in the file wins.
- containerd 1.x (go-toml v1) tries the exact name, then all lower case, all upper case, and a lower first letter.
Keys that users choose (names of plugins and runtimes) are read as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, Optional, Tuple, Union

from ..text import toml_text
from ..text.lines import error_at

_CRI_1 = "io.containerd.grpc.v1.cri"
_CRI_2 = "io.containerd.cri.v1.runtime"

PREFIXES = {
    2: ("plugins", _CRI_1, "containerd"),
    3: ("plugins", _CRI_2, "containerd"),
    4: ("plugins", _CRI_2, "containerd"),
}
"""Config version -> path of the table that holds default_runtime_name and runtimes."""


@dataclass(frozen=True)
class _Struct:
    """A Go struct: its keys, with what is below them."""

    keys: Dict[str, Optional[_Node]]


@dataclass(frozen=True)
class _Map:
    """A Go map: what is below certain keys, and below all others."""

    known: Dict[str, _Node] = field(default_factory=dict)
    others: Optional[_Struct] = None


_Node = Union[_Struct, _Map]

_OPTIONS = _Struct(
    dict.fromkeys(
        [
            "BinaryName",
            "CriuImagePath",
            "CriuPath",
            "CriuWorkPath",
            "IoGid",
            "IoUid",
            "NoNewKeyring",
            "NoPivotRoot",
            "Root",
            "ShimCgroup",
            "SystemdCgroup",
        ]
    )
)
_RUNTIME = _Struct(
    dict(
        dict.fromkeys(
            [
                "base_runtime_spec",
                "cgroup_writable",
                "cni_conf_dir",
                "cni_max_conf_num",
                "container_annotations",
                "disable_pause_image_pull",
                "io_type",
                "pod_annotations",
                "privileged_without_host_devices",
                "privileged_without_host_devices_all_devices_allowed",
                "runtime_engine",
                "runtime_path",
                "runtime_root",
                "runtime_type",
                "sandbox_mode",
                "sandboxer",
                "snapshotter",
            ]
        ),
        options=_OPTIONS,
    )
)
_CRI = _Struct({"containerd": _Struct({"default_runtime_name": None, "runtimes": _Map(others=_RUNTIME)})})
_FILE = _Struct(
    {"version": None, "imports": None, "disabled_plugins": None, "plugins": _Map({_CRI_1: _CRI, _CRI_2: _CRI})}
)


def read(text: str, engine: int | None = None) -> toml_text.Document:
    """Return the scanned Document of a config.toml (str) with keys by the names that containerd's documentation uses.

    A key that is spelled in several ways is one Entry, the one that counts, with the others in Entry.others.
    engine: containerd's major version (int), None for the one that the config version suggests.
    Raises ConfigError if the text is not TOML, or if a table is spelled in two ways.
    """
    document = toml_text.scan(text)
    ignores_case = engine >= 2 if engine is not None else _version(document) >= 3
    _rename(document, document.root, _FILE, ignores_case)
    for header in document.headers:
        header.path = _renamed_path(header.path, ignores_case)
    return document


def _version(document: toml_text.Document) -> int:
    found = [toml_text.to_python(item) for key, item in document.root.entries.items() if key.lower() == "version"]
    return found[-1] if found and isinstance(found[-1], int) else 2


def _spellings(name: str) -> list[str]:
    """The spellings that containerd 1.x knows, the first one that is there counts."""
    return [name, name.lower(), name.upper(), name[0].lower() + name[1:]]


def _name(key: str, node: _Node | None, ignores_case: bool) -> str:
    if isinstance(node, _Struct):
        for name in node.keys:
            if key.lower() == name.lower() if ignores_case else key in _spellings(name):
                return name
    return key


def _below(node: _Node | None, name: str) -> _Node | None:
    if isinstance(node, _Struct):
        return node.keys.get(name)
    return node.known.get(name, node.others) if node is not None else None


def _renamed_path(path: Tuple[str, ...], ignores_case: bool) -> Tuple[str, ...]:
    node: Optional[_Node] = _FILE
    names = []
    for key in path:
        names.append(_name(key, node, ignores_case))
        node = _below(node, names[-1])
    return tuple(names)


def _rename(document: toml_text.Document, table: toml_text.Table, node: _Node, ignores_case: bool) -> None:
    groups: Dict[str, list[str]] = {}
    for key in table.entries:
        groups.setdefault(_name(key, node, ignores_case), []).append(key)
    table.entries = {
        name: table.entries[keys[0]] if len(keys) == 1 else _one(document, table, name, keys, node, ignores_case)
        for name, keys in groups.items()
    }
    for name, item in table.entries.items():
        below = _below(node, name)
        inner = item.value.table if isinstance(item, toml_text.Entry) else item
        if below is not None and isinstance(inner, toml_text.Table):
            _rename(document, inner, below, ignores_case)


def _one(
    document: toml_text.Document,
    table: toml_text.Table,
    name: str,
    keys: list[str],
    node: _Node,
    ignores_case: bool,
) -> toml_text.Entry:
    """The Entry that counts, of several spellings of one key."""
    found: list[tuple[str, toml_text.Entry]] = []
    for key in reversed(keys):
        item = table.entries[key]
        if not isinstance(item, toml_text.Entry) or item.value.table is not None:
            first = item[0] if isinstance(item, list) else item
            message = "%s are one key to containerd; write this table once" % " and ".join(keys)
            raise error_at(document.text, first.start, message)
        found.append((key, item))
    if not ignores_case:
        found.sort(key=lambda pair: _spellings(name).index(pair[0]))
    elif node is _FILE:
        found.sort(key=lambda pair: -pair[1].start)
    else:
        found.sort(key=lambda pair: pair[0], reverse=True)
    return replace(found[0][1], others=[entry for _key, entry in found[1:]])
