# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containerd makes of its files (the merged text that `config dump` prints), and what is wrong with it. Pure."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any, Optional, Tuple

from ..text import toml_text
from .editor import DEFAULT
from .keys import PREFIXES

RUNTIME_TYPE = "io.containerd.runc.v2"


@dataclass(frozen=True)
class ContainerdRuntime:
    """The wanted runtime. set_default None means: leave default_runtime_name as it is.

    on_conflict: what to do about a runtime of this name that another tool made otherwise: keep, replace or fail.
    enable_cri: whether to take CRI out of disabled_plugins.
    """

    name: str
    path: str
    set_default: Optional[bool] = None
    on_conflict: str = "keep"
    enable_cri: bool = False


@dataclass(frozen=True)
class Effective:
    """The CRI part of what `containerd config dump` printed."""

    document: toml_text.Document
    prefix: Tuple[str, ...]

    def runtime(self, name: str) -> toml_text.Table | toml_text.Entry | list[toml_text.Table] | None:
        """Return the runtime's toml_text.Table or None."""
        return self.document.find((*self.prefix, "runtimes", name))

    @property
    def default_runtime_name(self) -> str | None:
        """Return default_runtime_name as str or None."""
        entry = self.document.find((*self.prefix, DEFAULT))
        return toml_text.to_python(entry) if entry is not None else None


def effective_of(document: toml_text.Document) -> Effective | None:
    """Return the Effective of a scanned `config dump`, or None if CRI is disabled or not built in."""
    for version in sorted(PREFIXES, reverse=True):
        if isinstance(document.find(PREFIXES[version]), toml_text.Table):
            return Effective(document, PREFIXES[version])
    return None


def is_zero(value: object) -> bool:
    """True for what containerd takes for not set: empty text, list or table, 0, false."""
    return value in ("", 0, False, None) or value == [] or value == {}


def problems(
    after: Effective | None, wanted: ContainerdRuntime, expected_default: str | None, kept: bool = False
) -> list[str]:
    """Return what is wrong with an Effective (or None) for the wanted runtime, as a list of str.

    expected_default: str or None for not of interest. A runtime that must not be the default and is counts as wrong.
    kept: whether it is a foreign runtime, which may have any settings.
    """
    if after is None:
        return []
    runtime = after.runtime(wanted.name)
    if runtime is None:
        return ["the runtime %s is not there" % wanted.name]
    plain = toml_text.to_python(runtime)
    found = []
    options = plain.get("options") or {}
    for key, value, expected in (
        ("runtime_type", plain.get("runtime_type"), (RUNTIME_TYPE,)),
        ("options.BinaryName", options.get("BinaryName"), (wanted.path, posixpath.basename(wanted.path))),
    ):
        if value not in expected and not kept:
            found.append("%s of the runtime %s is %r instead of %r" % (key, wanted.name, value, expected[0]))
    if expected_default is not None and after.default_runtime_name != expected_default:
        found.append("default_runtime_name is %r instead of %r" % (after.default_runtime_name, expected_default))
    if wanted.set_default is False and after.default_runtime_name == wanted.name:
        found.append("default_runtime_name is still %r" % wanted.name)
    return found


def missing_default(effective: Effective | None) -> str | None:
    """Return the name of a default runtime that is not among the runtimes, with which CRI does not start, or None."""
    name = effective.default_runtime_name if effective is not None else None
    return name if effective is not None and name and effective.runtime(name) is None else None


def side_effects(before: toml_text.Document, after: toml_text.Document, names: tuple[str, ...]) -> list[str]:
    """Return what else than our keys differs between two scanned dumps, as a sorted list of str.

    names: runtimes that may differ. A key at its zero value counts as not there: containerd prints the built-in runtime
    with all keys, and one from the file with those that are set."""
    old, new = _flat(before, names), _flat(after, names)
    return [
        "%s: %r -> %r" % (toml_text.path_text(path), old.get(path), new.get(path))
        for path in sorted(set(old) | set(new), key=str)
        if old.get(path) != new.get(path)
    ]


def _flat(document: toml_text.Document, names: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    ours: list[tuple[str, ...]] = [(*prefix, "runtimes", name) for prefix in PREFIXES.values() for name in names]
    ours += [(*prefix, DEFAULT) for prefix in PREFIXES.values()]
    found = {}

    def walk(value: object, path: tuple[str, ...]) -> None:
        if path in ours or path in (("imports",), ("version",)):
            return
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        elif not is_zero(value):
            found[path] = value

    walk(toml_text.to_python(document.root), ())
    return found
