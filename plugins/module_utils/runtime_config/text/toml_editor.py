# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edits of a TOML text that leave everything else as it stands: comments, order, indentation, line endings. Pure."""

from __future__ import annotations

import re
from typing import Any, List

from . import toml_text
from .lines import (
    BOM,
    ConfigError,
    error_at,
    indent_of,
    newline_of,
    replace,
)


class TomlEditor:
    """A text that is scanned again after every edit, so that positions stay right.

    New text always goes to the end of a line, in front of its line ending: a file that does not end in a line
    ending still does not, and taking the text out again restores the file byte for byte. What was added as a block
    is in created. A subclass knows where blocks belong (append_block), how headers are spelled (header) and how keys
    below a header are indented (inner_indent).
    """

    inner_indent = ""

    def __init__(self, text: str) -> None:
        self.created: List[str] = []
        self.newline = newline_of(text)
        self.change(text)

    def change(self, text: str) -> None:
        """Take the text (str) over. Raises ConfigError if it is not TOML."""
        self.text = text
        self.document = self.scan(text)

    def scan(self, text: str) -> toml_text.Document:
        """Return the Document of a text. Raises ConfigError if it is not TOML."""
        return toml_text.scan(text)

    def value(self, path: tuple[str, ...]) -> Any:
        """Return the value at a path as plain Python data; None if there is none or a [table]."""
        entry = self.document.find(path)
        return toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else None

    def raw(self, path: tuple[str, ...]) -> str | None:
        """Return the value at a path as it stands in the text, or None."""
        entry = self.document.find(path)
        return self.document.raw(entry.value) if isinstance(entry, toml_text.Entry) else None

    def line_end(self, offset: int) -> int:
        """Return the offset of the end of the line, in front of its line ending."""
        end = self.text.find("\n", offset)
        if end < 0:
            return len(self.text)
        return end - 1 if end > offset and self.text[end - 1] == "\r" else end

    def line_start(self, offset: int) -> int:
        """Return the offset of the beginning of the line."""
        return self.text.rfind("\n", 0, offset) + 1

    def indent(self, offset: int) -> str:
        """Return the white space that the line begins with."""
        return indent_of(self.text[self.line_start(offset) : offset])

    def unsafe(
        self, there: toml_text.Table | toml_text.Entry | list[toml_text.Table], path: tuple[str, ...], problem: str
    ) -> ConfigError:
        """Return the ConfigError for something (as document.find gives it) that cannot be edited."""
        first = there[0] if isinstance(there, list) else there
        message = "%s %s; write it as [%s]" % (toml_text.path_text(path), problem, toml_text.path_text(path))
        return error_at(self.text, first.start, message)

    def check_way(self, path: tuple[str, ...]) -> None:
        """Raise ConfigError unless every part of the path that exists can get a [table] below it."""
        for length in range(1, len(path)):
            there = self.document.find(path[:length])
            if there is None:
                return
            if not isinstance(there, toml_text.Table) or there.kind not in ("implicit", "header"):
                problem = "is written as an inline table, a dotted key or a list, which cannot be extended safely"
                raise self.unsafe(there, path[:length], problem)

    def header(self, path: tuple[str, ...]) -> str:
        """Return the [header] line for a path."""
        return "[%s]" % toml_text.path_text(path)

    def header_indent(self) -> str:
        """Return the white space in front of a new header."""
        return ""

    def append_block(self, lines: list[str], indent: str = "") -> None:
        """Add lines where a subclass says that they belong."""
        raise NotImplementedError

    def add_block(self, at: int, lines: list[str], indent: str = "") -> None:
        """Add lines behind the line with offset at, a blank line between; to an empty file as they are."""
        block = self.newline.join(indent + line for line in lines)
        if self.is_blank():
            # Nothing there yet: no line to stand behind.
            block += self.newline
            at = len(self.text)
        else:
            block = 2 * self.newline + block
        self.created.append(block)
        self.change(replace(self.text, at, at, block))

    def is_blank(self) -> bool:
        """True if there is nothing but white space."""
        return not self.text.strip(BOM + " \t\r\n")

    def set_key(self, table_path: tuple[str, ...], key: str, raw: str) -> None:
        """Set one key of a table, in all its spellings, to raw TOML text; a value that means the same already stays as
        it is."""
        found = self.document.find((*table_path, key))
        if isinstance(found, toml_text.Entry):
            text = self.text
            for entry in sorted([found, *found.others], key=lambda entry: -entry.start):
                if toml_text.to_python(entry) != toml_text.value_of(raw):
                    text = replace(text, entry.value.start, entry.value.end, raw)
            if text != self.text:
                self.change(text)
            return
        if found is not None:
            raise self.unsafe(found, (*table_path, key), "is a table, but must be a value")
        table = self.document.find(table_path)
        line = "%s = %s" % (key, raw)
        if table is None or (isinstance(table, toml_text.Table) and table.kind == "implicit"):
            self.check_way(table_path)
            self.append_block([self.header(table_path), self.inner_indent + line], indent=self.header_indent())
            return
        if not isinstance(table, toml_text.Table) or table.kind != "header":
            self.check_way((*table_path, key))
            raise self.unsafe(table, table_path, "is written in a way that cannot be extended safely")
        if table.own:
            at, indent = table.own[-1].value.end, self.indent(table.own[-1].start)
        else:
            at, indent = table.end, self.indent(table.start) + self.inner_indent
        end = self.line_end(at)
        self.change(replace(self.text, end, end, self.newline + indent + line))

    def remove_lines(self, start: int, end: int) -> None:
        """Remove whole lines from the one with offset start to the one with offset end."""
        first, last = self.line_start(start), self.line_end(end)
        if first == 0:
            following = re.compile("\r?\n").match(self.text, last)
            bom = len(BOM) if self.text.startswith(BOM) else 0
            self.change(self.text[:bom] + self.text[following.end() if following else last :])
            return
        before = first - 2 if self.text[first - 2 : first] == "\r\n" else first - 1
        self.change(self.text[:before] + self.text[last:])

    def stands_alone(self, entry: toml_text.Entry) -> bool:
        """True if nothing stands in front of a key in its line."""
        return not self.text[self.line_start(entry.start) : entry.start].strip(BOM + " \t")

    def remove_table(self, path: tuple[str, ...]) -> bool:
        """Remove the last [table] at or below a path with what is in it; return whether there was one."""
        headers = [header for header in self.document.headers if header.path[: len(path)] == path]
        if headers:
            last = headers[-1]
            self.remove_lines(self.with_blank_line_above(last.start), max(last.end, last.table.end))
        return bool(headers)

    def remove_empty_table(self, header: str) -> None:
        """Remove the [table] line header if nothing stands below it."""
        for known in self.document.headers:
            if self.text[known.start : known.end] == header and not known.table.own:
                self.remove_lines(self.with_blank_line_above(known.start), known.end)
                return

    def with_blank_line_above(self, start: int) -> int:
        """Return start, or an offset in the blank line above it, so that the line goes along."""
        above = re.search("\r?\n([ \t]*)\r?\n[ \t]*$", self.text[:start])
        return above.start(1) if above else start
