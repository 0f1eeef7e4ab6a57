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
from typing import Dict, List, Optional

from . import toml_text
from .memory import Memory, digest, keep_slot
from .text import BOM, ConfigError, error_at, newline_of, replace

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

    def values(self):
        """Return key -> value of the runtime's table."""
        wanted = {"runtime_path": self.path, "runtime_type": "oci"}
        wanted.update({key: value for key, value in self.options.items() if value is not None})
        return wanted


@dataclass(frozen=True)
class Edit:
    """text: str or None (no file). memory: what to remember or None."""

    text: Optional[str]
    memory: Optional[Memory]


def ensure_present(text, wanted, memory=None):
    """Return the Edit that gives a drop-in (str, or None for no file) the wanted CrioRuntime.

    Raises ConfigError if the text is not TOML or is written in a way that cannot be edited safely.
    """
    if memory is not None and memory.wrote(text):
        before = memory.before
    else:
        before = ensure_absent(text, wanted.name, memory).text
    editor = _Editor(text or "", list(memory.created) if memory else [])
    slots = dict(memory.slots) if memory else {}
    default = editor.string((*RUNTIME, _DEFAULT))
    if wanted.set_default and default != wanted.name:
        slots = keep_slot(slots, _DEFAULT, editor.raw((*RUNTIME, _DEFAULT)), toml_text.string_text(wanted.name))
        editor.set(RUNTIME, _DEFAULT, wanted.name)
    elif wanted.set_default is False and default == wanted.name:
        _restore_default(editor, wanted.name, slots)
    table = (*RUNTIME, "runtimes", wanted.name)
    if editor.document.find(table) is None:
        editor.check_way(table)
        lines = ["[%s]" % toml_text.path_text(table)]
        lines += ["%s = %s" % (key, toml_text.string_text(value)) for key, value in wanted.values().items()]
        editor.append(lines)
    else:
        for key, value in wanted.values().items():
            editor.set(table, key, value)
    if editor.text == text:
        return Edit(text, memory)
    return Edit(editor.text, Memory(before, digest(editor.text), slots, editor.created))


def ensure_absent(text, name, memory=None):
    """Return the Edit that takes the runtime called name out of a drop-in (str or None).

    With a memory of ours a text that nobody touched since comes back byte for byte; otherwise what we added is taken
    out, the former default_runtime comes back, and everything else stays. Raises ConfigError.
    """
    if text is None:
        return Edit(None, None)
    editor = _Editor(text, [])
    if memory is not None and memory.wrote(text):
        return Edit(memory.before, None)
    created = list(memory.created) if memory else []
    for block in reversed(created):
        if editor.text.count(block) == 1:
            editor.change(editor.text.replace(block, ""))
    editor.remove_runtime(name)
    if editor.string((*RUNTIME, _DEFAULT)) == name:
        _restore_default(editor, name, memory.slots if memory else {})
    for block in created:
        editor.remove_empty(block.strip().splitlines()[0])
    if memory is not None and memory.before is None and not editor.text.strip(BOM + " \t\r\n"):
        return Edit(None, None)
    return Edit(editor.text, None)


def _restore_default(editor, name, slots):
    former = slots[_DEFAULT].before if _DEFAULT in slots else None
    if former is not None:
        value = toml_text.to_python(toml_text.scan("x = %s\n" % former).find(("x",)))
        if value != name:
            editor.set_raw(RUNTIME, _DEFAULT, former)
            return
    editor.remove((*RUNTIME, _DEFAULT))


class _Editor:
    """A drop-in that is scanned again after every edit, so that positions stay right.

    New text goes to the end of a line, in front of its line ending, so that taking it out restores every byte.
    """

    def __init__(self, text, created):
        self.created: List[str] = created
        self.newline = newline_of(text)
        self.change(text)

    def change(self, text):
        self.text = text
        self.document = toml_text.scan(text)

    def raw(self, path):
        """The value at a path as it stands in the text, or None."""
        entry = self.document.find(path)
        return self.document.raw(entry.value) if isinstance(entry, toml_text.Entry) else None

    def string(self, path):
        """The value at a path as plain Python data, or None."""
        entry = self.document.find(path)
        return toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else None

    def line_end(self, offset):
        end = self.text.find("\n", offset)
        if end < 0:
            return len(self.text)
        return end - 1 if end > offset and self.text[end - 1] == "\r" else end

    def indent(self, offset):
        start = self.text.rfind("\n", 0, offset) + 1
        before = self.text[start:offset].lstrip(BOM)
        return before if not before.strip(" \t") else ""

    def set(self, table_path, key, value):
        self.set_raw(table_path, key, toml_text.string_text(value))

    def set_raw(self, table_path, key, raw):
        """Set one key of a table; a value that means the same already stays as it is."""
        found = self.document.find((*table_path, key))
        if isinstance(found, toml_text.Entry):
            wanted = toml_text.to_python(toml_text.scan("x = %s\n" % raw).find(("x",)))
            if toml_text.to_python(found) != wanted:
                self.change(replace(self.text, found.value.start, found.value.end, raw))
            return
        if found is not None:
            raise self.unsafe((*table_path, key), found)
        table = self.document.find(table_path)
        line = "%s = %s" % (key, raw)
        if table is None or (isinstance(table, toml_text.Table) and table.kind == "implicit"):
            self.check_way(table_path)
            self.append(["[%s]" % toml_text.path_text(table_path), line])
            return
        if not isinstance(table, toml_text.Table) or table.kind != "header":
            raise self.unsafe(table_path, table)
        if table.own:
            at, indent = table.own[-1].value.end, self.indent(table.own[-1].start)
        else:
            at, indent = table.end, self.indent(table.start)
        end = self.line_end(at)
        self.change(replace(self.text, end, end, self.newline + indent + line))

    def check_way(self, path):
        """Raise ConfigError unless every part of the path that exists can get a [table] below it."""
        for length in range(1, len(path)):
            there = self.document.find(path[:length])
            if there is None:
                return
            if not isinstance(there, toml_text.Table) or there.kind not in ("implicit", "header"):
                raise self.unsafe(path[:length], there)

    def unsafe(self, path, there):
        first = there[0] if isinstance(there, list) else there
        shown = toml_text.path_text(path)
        message = "%s is written in a way that cannot be edited safely; write it as a table [%s]" % (shown, shown)
        return error_at(self.text, first.start, message)

    def append(self, lines):
        """Add lines at the end of the file."""
        block = self.newline.join(lines)
        if not self.text.strip(BOM + " \t\r\n"):
            block += self.newline
            self.created.append(block)
            self.change(self.text + block)
            return
        end = len(self.text.rstrip("\r\n"))
        block = 2 * self.newline + block
        self.created.append(block)
        self.change(replace(self.text, end, end, block))

    def cut(self, start, end):
        """Remove whole lines from the one with offset start to the one with offset end."""
        first, last = self.text.rfind("\n", 0, start) + 1, self.line_end(end)
        if first == 0:
            following = self.text.find("\n", last)
            bom = len(BOM) if self.text.startswith(BOM) else 0
            self.change(self.text[:bom] + (self.text[following + 1 :] if following >= 0 else ""))
            return
        before = first - 2 if self.text[first - 2 : first] == "\r\n" else first - 1
        self.change(self.text[:before] + self.text[last:])

    def remove(self, path):
        """Remove one key."""
        found = self.document.find(path)
        if not isinstance(found, toml_text.Entry):
            return
        start = self.text.rfind("\n", 0, found.start) + 1
        if self.text[start : found.start].strip(BOM + " \t"):
            raise self.unsafe(path[:-1], self.document.find(path[:-1]))
        self.cut(found.start, found.value.end)

    def remove_empty(self, header):
        """Remove the [table] line header if nothing stands below it."""
        for known in self.document.headers:
            if self.text[known.start : known.end] == header and not known.table.own:
                self.cut(self.blank_above(known.start), known.end)
                return

    def blank_above(self, start):
        """Return an offset in the blank line above start, or start if there is none."""
        lines = self.text[:start].split("\n")
        return start - len(lines[-1]) - 1 if len(lines) > 2 and not lines[-2].strip() else start

    def remove_runtime(self, name):
        path = (*RUNTIME, "runtimes", name)
        while True:
            found = self.document.find(path)
            headers = [header for header in self.document.headers if header.path[: len(path)] == path]
            if headers:
                last = headers[-1]
                self.cut(self.blank_above(last.start), max(last.end, last.table.end))
            elif found is None:
                return
            elif isinstance(found, toml_text.Table) and found.kind == "dotted" and found.entries:
                self.remove((*path, list(found.entries)[-1]))
            else:
                raise self.unsafe(path, found)


def overridden(folder_files, path, wanted):
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


def problems(merged, wanted):
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


def side_effects(before, after, name):
    """Return what else than our keys differs between two scanned merged configurations, as a list of str."""
    old, new = _flat(before, name), _flat(after, name)
    return [
        "%s: %r -> %r" % (toml_text.path_text(path), old.get(path), new.get(path))
        for path in sorted(set(old) | set(new))
        if old.get(path) != new.get(path)
    ]


def _flat(document, name):
    found = {}

    def walk(value, path):
        if path in ((*RUNTIME, "runtimes", name), (*RUNTIME, _DEFAULT)):
            return
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        else:
            found[path] = value

    walk(toml_text.to_python(document.root), ())
    return found
