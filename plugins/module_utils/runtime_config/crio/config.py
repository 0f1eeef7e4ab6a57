# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edits of a drop-in of CRI-O: (old text, wanted runtime) -> (new text, what to remember). Pure.

Keys as in crio.conf(5): the tables crio.runtime (default_runtime) and crio.runtime.runtimes.<name>. CRI-O reads its
main file and then every file below crio.conf.d in lexical order (crio.conf.d(5)); the last file that sets an option
wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.memory import (
    Memory,
    Slot,
    digest,
    keep_slot,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import BOM, ConfigError, error_at
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.toml_editor import TomlEditor

RUNTIME = ("crio", "runtime")
_DEFAULT = "default_runtime"


@dataclass(frozen=True)
class CrioRuntime:
    """The wanted runtime. set_default None means: leave default_runtime as it is. options: key of the runtime's table
    -> str for what is to be set besides runtime_path and runtime_type; a key that is None is left as it is."""

    name: str
    path: str
    set_default: Optional[bool] = None
    options: Dict[str, Optional[str]] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """Return key -> value of the runtime's table."""
        wanted = {"runtime_path": self.path, "runtime_type": "oci"}
        wanted.update({key: value for key, value in self.options.items() if value is not None})
        return wanted


@dataclass(frozen=True)
class Edit:
    """text: str or None (no file). memory: what to remember or None."""

    text: Optional[str]
    memory: Optional[Memory]


def ensure_present(text: str | None, wanted: CrioRuntime, memory: Memory | None = None) -> Edit:
    """Return the Edit that gives a drop-in (str, or None for no file) the wanted CrioRuntime.

    Raises ConfigError if the text is not TOML or is written in a way that cannot be edited safely.
    """
    if memory is not None and memory.wrote(text):
        before = memory.before
    else:
        before = ensure_absent(text, wanted.name, memory).text
    editor = _Editor(text or "")
    editor.created = list(memory.created) if memory else []
    slots = dict(memory.slots) if memory else {}
    default = editor.value((*RUNTIME, _DEFAULT))
    if wanted.set_default and default != wanted.name:
        slots = keep_slot(slots, _DEFAULT, editor.raw((*RUNTIME, _DEFAULT)), toml_text.string_text(wanted.name))
        editor.set_key(RUNTIME, _DEFAULT, toml_text.string_text(wanted.name))
    elif wanted.set_default is False and default == wanted.name:
        _restore_default(editor, wanted.name, slots)
    table = (*RUNTIME, "runtimes", wanted.name)
    if editor.document.find(table) is None:
        editor.check_way(table)
        lines = [editor.header(table)]
        lines += ["%s = %s" % (key, toml_text.string_text(value)) for key, value in wanted.values().items()]
        editor.append_block(lines)
    else:
        for key, value in wanted.values().items():
            editor.set_key(table, key, toml_text.string_text(value))
    if editor.text == text:
        return Edit(text, memory)
    return Edit(editor.text, Memory(before, digest(editor.text), slots, editor.created))


def ensure_absent(text: str | None, name: str, memory: Memory | None = None) -> Edit:
    """Return the Edit that takes the runtime called name out of a drop-in (str or None).

    With a memory of ours a text that nobody touched since comes back byte for byte; otherwise what we added is taken
    out, the former default_runtime comes back, and everything else stays. Raises ConfigError.
    """
    if text is None:
        return Edit(None, None)
    editor = _Editor(text)
    if memory is not None and memory.wrote(text):
        return Edit(memory.before, None)
    created = list(memory.created) if memory else []
    for block in reversed(created):
        if editor.text.count(block) == 1:
            editor.change(editor.text.replace(block, ""))
    editor.remove_runtime(name)
    if editor.value((*RUNTIME, _DEFAULT)) == name:
        _restore_default(editor, name, memory.slots if memory else {})
    for block in created:
        editor.remove_empty_table(block.strip().splitlines()[0])
    if memory is not None and memory.before is None and not editor.text.strip(BOM + " \t\r\n"):
        return Edit(None, None)
    return Edit(editor.text, None)


def _restore_default(editor: _Editor, name: str, slots: dict[str, Slot]) -> None:
    former = slots[_DEFAULT].before if _DEFAULT in slots else None
    if former is not None:
        value = toml_text.value_of(former)
        if value != name:
            editor.set_key(RUNTIME, _DEFAULT, former)
            return
    editor.remove_key((*RUNTIME, _DEFAULT))


class _Editor(TomlEditor):
    """A drop-in; blocks go to its end."""

    def unsafe(
        self, there: toml_text.Table | toml_text.Entry | list[toml_text.Table], path: tuple[str, ...], problem: str
    ) -> ConfigError:
        problem = "is written in a way that cannot be edited safely; write it as a table"
        first = there[0] if isinstance(there, list) else there
        shown = toml_text.path_text(path)
        return error_at(self.text, first.start, "%s %s [%s]" % (shown, problem, shown))

    def append_block(self, lines: list[str], indent: str = "") -> None:
        self.add_block(len(self.text.rstrip("\r\n")), lines, indent)

    def remove_key(self, path: tuple[str, ...]) -> None:
        found = self.document.find(path)
        if not isinstance(found, toml_text.Entry):
            return
        if not self.stands_alone(found):
            raise self.unsafe(self.document.find(path[:-1]) or found, path[:-1], "")
        self.remove_lines(found.start, found.value.end)

    def remove_runtime(self, name: str) -> None:
        path = (*RUNTIME, "runtimes", name)
        while True:
            found = self.document.find(path)
            if self.remove_table(path):
                continue
            if found is None:
                return
            if not isinstance(found, toml_text.Table) or found.kind != "dotted" or not found.entries:
                raise self.unsafe(found, path, "")
            self.remove_key((*path, list(found.entries)[-1]))


def overridden(folder_files: dict[str, str], path: str, wanted: CrioRuntime) -> list[str]:
    """Return the files (list of str) that CRI-O reads after path and that would undo what is wanted.

    folder_files: path -> text of the files below crio.conf.d; one that is not TOML counts as nothing. wanted:
    CrioRuntime. The order is CRI-O's: by path.
    """
    found = []
    for other in sorted(folder_files):
        if other <= path:
            continue
        try:
            document = toml_text.scan(folder_files[other])
        except ConfigError:
            continue
        runtime = document.find((*RUNTIME, "runtimes", wanted.name)) is not None
        entry = document.find((*RUNTIME, _DEFAULT))
        default = wanted.set_default and entry is not None and toml_text.to_python(entry) != wanted.name
        if runtime or default:
            found.append(other)
    return found


def problems(merged: toml_text.Document, wanted: CrioRuntime) -> list[str]:
    """Return what is wrong with a scanned merged configuration for the wanted CrioRuntime, as a list of str."""
    table = merged.find((*RUNTIME, "runtimes", wanted.name))
    plain = toml_text.to_python(table) if table is not None else {}
    found = [
        "%s of the runtime %s is %r instead of %r" % (key, wanted.name, plain.get(key), value)
        for key, value in wanted.values().items()
        if plain.get(key) != value
    ]
    entry = merged.find((*RUNTIME, _DEFAULT))
    default = toml_text.to_python(entry) if entry is not None else None
    if wanted.set_default and default != wanted.name:
        found.append("default_runtime is %r instead of %r" % (default, wanted.name))
    if wanted.set_default is False and default == wanted.name:
        found.append("default_runtime is still %r" % wanted.name)
    return found


def side_effects(before: toml_text.Document, after: toml_text.Document, name: str) -> list[str]:
    """Return what else than our keys differs between two scanned merged configurations, as a list of str."""
    old, new = _flat(before, name), _flat(after, name)
    return [
        "%s: %r -> %r" % (toml_text.path_text(path), old.get(path), new.get(path))
        for path in sorted(set(old) | set(new))
        if old.get(path) != new.get(path)
    ]


def _flat(document: toml_text.Document, name: str) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}

    def walk(value: object, path: tuple[str, ...]) -> None:
        if path in ((*RUNTIME, "runtimes", name), (*RUNTIME, _DEFAULT)):
            return
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        else:
            found[path] = value

    walk(toml_text.to_python(document.root), ())
    return found
