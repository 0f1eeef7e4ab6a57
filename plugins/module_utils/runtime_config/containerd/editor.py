# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edits of one config.toml at the places where containerd has its runtimes. Pure."""

from __future__ import annotations

import re
from typing import Tuple

from ..text import toml_text
from ..text.toml_editor import TomlEditor
from . import keys
from .keys import PREFIXES

DEFAULT = "default_runtime_name"


class Editor(TomlEditor):
    """A config.toml; prefix is the path of the table that holds default_runtime_name and runtimes."""

    inner_indent = "  "

    def __init__(self, text: str, engine: int | None = None) -> None:
        self.engine = engine
        self.prefix: Tuple[str, ...] = ()
        super().__init__(text)

    def scan(self, text: str) -> toml_text.Document:
        """Return the Document with the keys as containerd reads them."""
        return keys.read(text, self.engine)

    def default(self) -> str | None:
        """Return default_runtime_name (str) as the file states it, or None."""
        name: str | None = self.value((*self.prefix, DEFAULT))
        return name

    def header(self, path: tuple[str, ...]) -> str:
        """The [header] line for a path, its beginning spelled as the file spells it already."""
        for length in range(len(path) - 1, 1, -1):
            for known in self.document.headers:
                if known.path[:length] == path[:length] and known.table.kind == "header":
                    raw = self.text[known.start : known.end].strip("[] \t")
                    spelled = _key_parts(raw)
                    return "[%s]" % ".".join([*spelled[:length], *map(toml_text.key_text, path[length:])])
        parts = [
            "'%s'" % part if "." in part and path[1] == PREFIXES[3][1] else toml_text.key_text(part) for part in path
        ]
        return "[%s]" % ".".join(parts)

    def _last_below(self, path: tuple[str, ...]) -> toml_text.Header | None:
        below = [header for header in self.document.headers if header.path[: len(path)] == path]
        return below[-1] if below else None

    def header_indent(self) -> str:
        last = self._last_below((*self.prefix, "runtimes")) or self._last_below(self.prefix)
        return self.indent(last.start) if last else ""

    def append_runtime(
        self, name: str, fields: dict[str, str], options: dict[str, str], note: str | None = None
    ) -> None:
        """Add the tables of a new runtime behind the last runtime."""
        path = (*self.prefix, "runtimes", name)
        self.check_way(path)
        self.check_way((*self.prefix, "runtimes", ""))
        sibling = [h for h in self.document.headers if h.path[:-1] == path[:-1]]
        indent = self.indent(sibling[-1].start) if sibling else self.header_indent()
        inner = (
            indent
            if sibling and sibling[-1].table.own and self.indent(sibling[-1].table.own[-1].start) == indent
            else indent + "  "
        )
        block = [note] if note else []
        block.append(self.header(path))
        block += [inner[len(indent) :] + "%s = %s" % (toml_text.key_text(key), raw) for key, raw in fields.items()]
        if options:
            block += [inner[len(indent) :] + self.header((*path, "options"))]
            block += [
                2 * inner[len(indent) :] + "%s = %s" % (toml_text.key_text(key), raw) for key, raw in options.items()
            ]
        self.append_block(block, indent)

    def append_block(self, lines: list[str], indent: str = "") -> None:
        """Add lines behind the last table of the runtimes, else of CRI's containerd part, else of the file."""
        last = self._last_below((*self.prefix, "runtimes")) or self._last_below(self.prefix)
        if last is None or last.table.kind != "header":
            at = len(self.text.rstrip(" \t\r\n"))
        else:
            at = max([last.end, last.table.end])
        end = self.line_end(at)
        # A comment right below belongs to what stands above it.
        while True:
            following = re.compile("\r?\n[ \t]*#[^\n]*").match(self.text, end)
            if not following:
                break
            end = self.line_end(following.start() + following.group().index("#"))
        self.add_block(end, lines, indent)

    def remove_key(self, path: tuple[str, ...]) -> None:
        """Remove one key in all its spellings. Raises ConfigError for one in an inline table."""
        found = self.document.find(path)
        if not isinstance(found, toml_text.Entry):
            return
        for length in range(1, len(path)):
            there = self.document.find(path[:length])
            if isinstance(there, toml_text.Entry):
                raise self.unsafe(there, path[:length], "is an inline table, from which nothing can be taken safely")
        for entry in sorted([found, *found.others], key=lambda entry: -entry.start):
            self.remove_lines(entry.start, entry.value.end)

    def remove_runtime(self, name: str) -> None:
        """Remove the runtime called name. Raises ConfigError for one in an inline table."""
        path = (*self.prefix, "runtimes", name)
        while True:
            found = self.document.find(path)
            if found is None:
                return
            if self.remove_table(path):
                continue
            entries = _entries(found)
            if not entries:
                return
            if not self.stands_alone(entries[-1]):
                problem = "is inside an inline table, from which nothing can be taken safely"
                raise self.unsafe(entries[-1], path, problem)
            self.remove_lines(entries[-1].start, entries[-1].value.end)


def _entries(item: toml_text.Table | toml_text.Entry | list[toml_text.Table]) -> list[toml_text.Entry]:
    """The statements that make up an Entry or a dotted Table, in the order of the file."""
    if isinstance(item, toml_text.Entry):
        return [item]
    if isinstance(item, list):
        return []
    found = [entry for below in item.entries.values() for entry in _entries(below)]
    return sorted(found, key=lambda entry: entry.start)


def _key_parts(raw: str) -> list[str]:
    """Split a dotted key into its parts as they are spelled."""
    return re.findall(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_-]+", raw)
