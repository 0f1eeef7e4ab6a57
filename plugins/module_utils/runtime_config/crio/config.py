# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edits of a drop-in of CRI-O: (old text, wanted runtime) -> (new text, what to remember). Pure.

Keys as in crio.conf(5): the tables crio.runtime (default_runtime) and crio.runtime.runtimes.<name>. CRI-O reads its
main file and then every file below crio.conf.d in the order of filepath.Walk (crio.conf.d(5)); the last file that sets
an option wins.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Sequence

from ..memory import (
    Memory,
    Slot,
    digest,
    keep_slot,
)
from ..text import toml_text
from ..text.lines import BOM, ConfigError, error_at
from ..text.toml_editor import TomlEditor
from . import merge

RUNTIME = ("crio", "runtime")
OPERATOR = "/usr/local/nvidia/toolkit/"
"""Where NVIDIA's GPU operator installs the toolkit."""

_DEFAULT = "default_runtime"
_PATH = "runtime_path"


@dataclass(frozen=True)
class CrioRuntime:
    """The wanted runtime.

    set_default: None leaves default_runtime as it is. options: key of the runtime's table -> str for what is to be set
    besides runtime_path and runtime_type, None for what the default runtime has. inherited: key -> value of what is
    set where neither options nor the table have it. on_conflict: what to do about a runtime of this name that somebody
    else made: keep, replace or fail.
    """

    name: str
    path: str
    set_default: Optional[bool] = None
    options: Dict[str, Optional[str]] = field(default_factory=dict)
    inherited: Dict[str, Any] = field(default_factory=dict)
    on_conflict: str = "keep"

    def values(self) -> dict[str, str]:
        """Return key -> value of what the runtime's table must have."""
        wanted = {_PATH: self.path, "runtime_type": "oci"}
        wanted.update({key: value for key, value in self.options.items() if value is not None})
        return wanted


@dataclass(frozen=True)
class Edit:
    """text: str or None (no file). memory: what to remember or None. conflict: in what a foreign runtime of this
    name, which was kept or replaced, differs, or None."""

    text: Optional[str]
    memory: Optional[Memory]
    conflict: Optional[str] = None


def without(text: str | None, name: str, memory: Memory | None) -> str | None:
    """Return the text (str or None) as it would be without what earlier runs did. Raises ConfigError."""
    return text if memory is None else ensure_absent(text, name, memory).text


def ensure_present(
    text: str | None, wanted: CrioRuntime, memory: Memory | None = None, elsewhere: dict[str, Any] | None = None
) -> Edit:
    """Return the Edit that gives a drop-in (str, or None for no file) the wanted CrioRuntime.

    elsewhere: the table of a runtime of this name that another file has, as plain data. A text that nobody touched
    since we wrote it is made again from the one before, so that it follows what is inherited.
    Raises ConfigError if the text is not TOML, is written in a way that cannot be edited safely, or holds somebody
    else's runtime of this name with on_conflict fail.
    """
    before = without(text, wanted.name, memory)
    now = _Editor(text or "")
    now.check_spelling(wanted.name)
    owned = now.owned(wanted.name, memory)
    theirs = now.table(wanted.name) if now.has(wanted.name) else elsewhere
    conflict = None if owned or theirs is None else _difference(theirs, wanted.path)
    if conflict is not None and wanted.on_conflict == "fail":
        raise now.refusal(wanted.name, conflict)

    untouched = memory is not None and memory.wrote(text)
    editor = _Editor(before or "") if untouched else now
    slots = dict(memory.slots) if memory and not untouched else {}
    editor.created = list(memory.created) if memory and not untouched else []
    set_default = wanted.set_default
    if set_default is None and untouched and now.value((*RUNTIME, _DEFAULT)) == wanted.name:
        set_default = True
    _set_default(editor, wanted.name, set_default, slots)
    if conflict is None or wanted.on_conflict == "replace":
        _set_runtime(editor, wanted, slots, memory if owned else None)

    good = memory.good if memory else None
    if editor.text == (text or ""):
        return Edit(text, memory, conflict)
    return Edit(editor.text, Memory(before, digest(editor.text), slots, editor.created, good), conflict)


def _set_default(editor: _Editor, name: str, wanted: bool | None, slots: dict[str, Slot]) -> None:
    there = editor.value((*RUNTIME, _DEFAULT))
    if wanted and there != name:
        slots.update(keep_slot(slots, _DEFAULT, editor.raw((*RUNTIME, _DEFAULT)), toml_text.string_text(name)))
        editor.set_key(RUNTIME, _DEFAULT, toml_text.string_text(name))
    elif wanted is False and there == name:
        _restore_default(editor, name, slots)


def _set_runtime(editor: _Editor, wanted: CrioRuntime, slots: dict[str, Slot], memory: Memory | None) -> None:
    """Set the runtime's table. memory: that of an entry that is ours already, or None."""
    table = (*RUNTIME, "runtimes", wanted.name)
    values: dict[str, Any] = dict(wanted.values())
    inherited = {key: value for key, value in wanted.inherited.items() if key not in values}
    path = toml_text.string_text(wanted.path)
    if memory is not None and _PATH in memory.slots:
        slots[_PATH] = Slot(path, memory.slots[_PATH].before)
    else:
        slots[_PATH] = Slot(path, None if memory is not None else editor.raw((*table, _PATH)))
    if not editor.has(wanted.name):
        editor.check_way(table)
        lines = [editor.header(table)]
        lines += ["%s = %s" % (key, value_text(value)) for key, value in {**values, **inherited}.items()]
        editor.append_block(lines)
        return
    for key, value in values.items():
        editor.set_key(table, key, value_text(value))
    for key, value in inherited.items():
        if editor.document.find((*table, key)) is None:
            editor.set_key(table, key, value_text(value))


def ensure_absent(text: str | None, name: str, memory: Memory | None = None) -> Edit:
    """Return the Edit that takes the runtime called name out of a drop-in (str or None).

    With a memory of ours a text that was not edited since comes back byte for byte; otherwise what we added is taken
    out, a runtime that we replaced and the former default_runtime come back, and everything else stays. A runtime that
    we have no memory of is foreign and stays. Raises ConfigError.
    """
    if text is None:
        return Edit(None, None)
    editor = _Editor(text)
    if memory is not None and memory.wrote(text):
        return Edit(memory.before, None)
    if memory is not None and text == memory.before:
        return Edit(text, None)
    created = list(memory.created) if memory else []
    slots = memory.slots if memory else {}
    conflict = None
    owned = editor.owned(name, memory)
    for block in reversed(created):
        if editor.text.count(block) == 1:
            editor.change(editor.text.replace(block, ""))
    if editor.has(name):
        former = slots[_PATH].before if _PATH in slots else None
        if owned and former is not None:
            editor.set_key((*RUNTIME, "runtimes", name), _PATH, former)
        elif owned:
            editor.remove_runtime(name)
        else:
            conflict = "no run of ours is known to have made it"
    if editor.value((*RUNTIME, _DEFAULT)) == name and (_DEFAULT in slots or not editor.has(name)):
        _restore_default(editor, name, slots)
    for block in created:
        editor.remove_empty_table(block.strip().splitlines()[0])
    if memory is not None and memory.before is None and not editor.text.strip(BOM + " \t\r\n"):
        return Edit(None, None)
    return Edit(editor.text, None, conflict)


def _restore_default(editor: _Editor, name: str, slots: dict[str, Slot]) -> None:
    former = slots[_DEFAULT].before if _DEFAULT in slots else None
    if former is not None:
        value = toml_text.value_of(former)
        if value != name:
            editor.set_key(RUNTIME, _DEFAULT, former)
            return
    editor.remove_key((*RUNTIME, _DEFAULT))


def _difference(table: dict[str, Any], path: str) -> str | None:
    """In what a foreign runtime (table: plain data) differs, or None if it starts the same program."""
    found = table.get(_PATH)
    if table.get("runtime_type", "") not in merge.OCI:
        return "its runtime_type is %s" % json.dumps(table["runtime_type"])
    if found == path:
        return None
    maker = ", which is NVIDIA's GPU operator's" if isinstance(found, str) and found.startswith(OPERATOR) else ""
    return "its runtime_path is %s%s, not %s" % (json.dumps(found), maker, json.dumps(path))


def value_text(value: Any) -> str:
    """Return plain data (str, bool, int, float, list, dict) as TOML in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_text.string_text(value)
    if isinstance(value, list):
        return "[%s]" % ", ".join(map(value_text, value))
    if isinstance(value, dict):
        pairs = ["%s = %s" % (toml_text.key_text(key), value_text(item)) for key, item in value.items()]
        return "{%s}" % ", ".join(pairs)
    return str(value)


class _Editor(TomlEditor):
    """A drop-in; blocks go to its end."""

    def unsafe(
        self, there: toml_text.Table | toml_text.Entry | list[toml_text.Table], path: tuple[str, ...], problem: str
    ) -> ConfigError:
        problem = "is written in a way that cannot be edited safely; write it as a table"
        first = there[0] if isinstance(there, list) else there
        shown = toml_text.path_text(path)
        return error_at(self.text, first.start, "%s %s [%s]" % (shown, problem, shown))

    def has(self, name: str) -> bool:
        """Whether there is a runtime of this name."""
        return self.document.find((*RUNTIME, "runtimes", name)) is not None

    def table(self, name: str) -> dict[str, Any]:
        """The runtime's table as plain data, empty if there is none."""
        found = self.document.find((*RUNTIME, "runtimes", name))
        plain = toml_text.to_python(found) if found is not None else {}
        return plain if isinstance(plain, dict) else {}

    def owned(self, name: str, memory: Memory | None) -> bool:
        """Whether the runtime (or its absence) is what an earlier run made of it."""
        if memory is None:
            return False
        if memory.wrote(self.text) and _PATH in memory.slots:
            return True
        path = (*RUNTIME, "runtimes", name, _PATH)
        current = self.raw(path)
        if _PATH in memory.slots:
            return current in (None, memory.slots[_PATH].set)
        # What was there before us as it is now is what we kept.
        return current is not None and current != _Editor(memory.before or "").raw(path)

    def refusal(self, name: str, conflict: str) -> ConfigError:
        message = (
            "somebody else has made the runtime %s: %s. Nothing was changed. Keep it, have it replaced "
            "(on_conflict), or choose another name" % (name, conflict)
        )
        there = self.document.find((*RUNTIME, "runtimes", name))
        return error_at(self.text, there.start, message) if isinstance(there, toml_text.Table) else ConfigError(message)

    def check_spelling(self, name: str) -> None:
        """Raise ConfigError for a key that only CRI-O takes for one of those that we set: it ignores case."""
        for path in (RUNTIME[:1], RUNTIME, (*RUNTIME, _DEFAULT), (*RUNTIME, "runtimes")):
            self._check_spelling(path[:-1], path[-1:])
        table = (*RUNTIME, "runtimes", name)
        self._check_spelling(table, [key.lower() for key in self.table(name)])

    def _check_spelling(self, table_path: tuple[str, ...], keys: Sequence[str]) -> None:
        table = self.document.find(table_path) if table_path else self.document.root
        for key, there in table.entries.items() if isinstance(table, toml_text.Table) else ():
            if key.lower() in keys and key != key.lower():
                first = there[0] if isinstance(there, list) else there
                message = "CRI-O reads keys without regard to case; write %s as %s" % (key, key.lower())
                raise error_at(self.text, first.start, message)

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


def order(path: str) -> list[str]:
    """Return the key by which CRI-O's order of files sorts (filepath.Walk: folder by folder, by name)."""
    return path.split("/")


def overridden(folder_files: dict[str, str], path: str, wanted: CrioRuntime, kept: bool = False) -> list[str]:
    """Return the files (list of str) that CRI-O reads after path and that would undo what is wanted.

    folder_files: path -> text of the files below crio.conf.d; one that is not TOML counts as nothing. wanted:
    CrioRuntime. kept: a foreign runtime of this name stays, wherever it is.
    """
    found = []
    for other in sorted(folder_files, key=order):
        if order(other) <= order(path):
            continue
        config = merge.effective([folder_files[other]])
        runtime = wanted.name in config.runtimes and not kept
        default = wanted.set_default and config.default not in (None, wanted.name)
        if runtime or default:
            found.append(other)
    return found


def problems(merged: merge.Effective, wanted: CrioRuntime, kept: bool = False) -> list[str]:
    """Return what is wrong with CRI-O's Effective configuration for the wanted CrioRuntime, as a list of str.

    kept: a foreign runtime of this name stays as it is.
    """
    plain = merged.runtimes.get(wanted.name, {})
    found = [
        "%s of the runtime %s is %r instead of %r" % (key, wanted.name, plain.get(key), value)
        for key, value in (wanted.values() if not kept else {}).items()
        if plain.get(key) != value
    ]
    if wanted.set_default and merged.default != wanted.name:
        found.append("default_runtime is %r instead of %r" % (merged.default, wanted.name))
    if wanted.set_default is False and merged.default == wanted.name:
        found.append("default_runtime is still %r" % wanted.name)
    return found


def side_effects(before: str, after: str, name: str, defaults: str = "") -> list[str]:
    """Return what else than our keys differs between two merged configurations (TOML), as a list of str.

    `crio config` prints what is at its default as a comment, and the built-in runtimes with all their keys as soon as
    there are others. So what is not there counts as in defaults (TOML of `crio config --default`).
    """
    old, new = ({**_flat(defaults, name), **_flat(text, name)} for text in (before, after))
    return [
        "%s: %r -> %r" % (toml_text.path_text(path), old.get(path), new.get(path))
        for path in sorted(set(old) | set(new))
        if old.get(path) != new.get(path)
    ]


def _flat(text: str, name: str) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}

    def walk(value: object, path: tuple[str, ...]) -> None:
        if path in ((*RUNTIME, "runtimes", name), (*RUNTIME, _DEFAULT)):
            return
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        else:
            found[path] = value

    walk(toml_text.to_python(toml_text.scan(text).root), ())
    return found
