# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TOML scanner that keeps positions. Grammar: TOML 1.0.0.

Python has tomllib from 3.11 only, and no parser of the standard library tells where a value stands. The scanner
takes all of TOML; where it is more lenient than the specification (the inside of dates), containerd has the
last word, since every text that we write is checked by it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .lines import (
    BOM,
    ConfigError,
    error_at,
    match_end,
    position,
)

MAX_DEPTH = 100

_BLANK = re.compile("[ \t]*")
_BARE = re.compile("[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\(?:["\\bfnrt]|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*')
_LITERAL = re.compile(r"'[^'\x00-\x08\x0a-\x1f\x7f]*")
_ML_CHARACTER = re.compile("\r?\n|[^\x00-\x08\x0b-\x1f\x7f]")
_ML_ESCAPE = re.compile(r'\\(?:["\\bfnrt]|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[ \t]*\r?\n)')
_COMMENT = re.compile("#[^\x00-\x08\x0a-\x1f\x7f]*")
_SCALAR = re.compile(r"[A-Za-z0-9_+.:-]+(?: [0-9][0-9:.Z+-]*)?")
_INTEGER = re.compile(
    r"[+-]?(?:0|[1-9](?:_?[0-9])*)|0x[0-9a-fA-F](?:_?[0-9a-fA-F])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*"
)
_FLOAT = re.compile(r"[+-]?(?:inf|nan|(?:0|[1-9](?:_?[0-9])*)(?:\.[0-9](?:_?[0-9])*)?(?:[eE][+-]?[0-9](?:_?[0-9])*)?)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)?)?|\d\d:\d\d:\d\d(?:\.\d+)?")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


@dataclass
class Value:
    """One value: text[start:end]. kind: string, integer, float, boolean, date, array, inline.

    value: decoded (dates, and floats that are not finite, stay text); arrays hold Values in items."""

    kind: str
    start: int
    end: int
    value: Any = None
    items: List[Value] = field(default_factory=list)
    table: Optional[Table] = None


@dataclass
class Entry:
    """One `key = value` statement of a table or inline table; start is where its key begins.

    others: statements of the same key in other spellings, for a format whose reader takes them for one key."""

    start: int
    value: Value
    others: List[Entry] = field(default_factory=list)


@dataclass
class Table:
    """A table. kind: root, implicit (named by a longer header only), header, dotted, inline.

    start: of its header or first key; end: behind the last statement of its own body (for a header without one,
    behind the header). own: keys of statements right in its body, for layout."""

    kind: str
    start: int
    end: int
    entries: Dict[str, Union[Table, Entry, List[Table]]] = field(default_factory=dict)
    own: List[Entry] = field(default_factory=list)


@dataclass
class Header:
    """One [table] or [[array of tables]] line: its path, its text[start:end], and the table that it opens."""

    path: Tuple[str, ...]
    start: int
    end: int
    table: Table


@dataclass
class Document:
    """A scanned text."""

    text: str
    root: Table
    headers: List[Header] = field(default_factory=list)

    def find(self, path: Sequence[str]) -> list[Table] | Entry | Table | None:
        """Return the Table, Entry or list of Tables at a path of keys, or None; looks into inline tables."""
        here: Table | Entry | list[Table] | None = self.root
        for key in path:
            if isinstance(here, Entry):
                here = here.value.table
            if not isinstance(here, Table):
                return None
            here = here.entries.get(key)
            if here is None:
                return None
        return here

    def raw(self, value: Value) -> str:
        """Return a Value as it stands in the text."""
        return self.text[value.start : value.end]


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = len(BOM) if text.startswith(BOM) else 0

    def fail(self, message: str, offset: int | None = None) -> ConfigError:
        return error_at(self.text, self.at if offset is None else offset, message)

    def starts(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def found(self) -> str:
        if self.at >= len(self.text):
            return "the end of the file"
        character = self.text[self.at]
        return "the end of the line" if character in "\r\n" else repr(character)

    def blank(self) -> None:
        self.at = match_end(_BLANK, self.text, self.at)

    def blank_and_lines(self) -> None:
        """Skip white space, line ends and comments."""
        while True:
            self.blank_and_comment()
            if not (self.starts("\n") or self.starts("\r\n")):
                return
            self.at += 1 if self.starts("\n") else 2

    def blank_and_comment(self) -> None:
        self.blank()
        if self.starts("#"):
            self.at = match_end(_COMMENT, self.text, self.at)
            if not self.at_line_end():
                raise self.fail("control character in a comment")

    def at_line_end(self) -> bool:
        return self.at >= len(self.text) or self.starts("\n") or self.starts("\r\n")

    def line_end(self) -> None:
        self.blank_and_comment()
        if not self.at_line_end():
            raise self.fail("expected the end of the line, found %s" % self.found())

    def document(self) -> Document:
        root = Table("root", self.at, self.at)
        document = Document(self.text, root)
        current = root
        while True:
            self.blank_and_lines()
            if self.at >= len(self.text):
                return document
            if self.starts("["):
                current = self.header(document)
            else:
                entry = self.statement(current, 0)
                current.own.append(entry)
                current.end = entry.value.end
            self.line_end()

    def header(self, document: Document) -> Table:
        start = self.at
        array = self.starts("[[")
        self.at += 2 if array else 1
        path = self.key()
        if not self.starts("]]" if array else "]"):
            raise self.fail("expected '%s' to end the table's name, found %s" % ("]]" if array else "]", self.found()))
        self.at += 2 if array else 1
        table = self.open_table(document.root, path, start, array)
        table.end = self.at
        document.headers.append(Header(tuple(path), start, self.at, table))
        return table

    def open_table(self, root: Table, path: Sequence[str], start: int, array: bool) -> Table:
        here = root
        for key in path[:-1]:
            below = here.entries.setdefault(key, Table("implicit", start, start))
            here = self.enter(below, path, start)
        there = here.entries.get(path[-1])
        if array:
            table = Table("header", start, start)
            if there is None:
                here.entries[path[-1]] = [table]
            elif isinstance(there, list):
                there.append(table)
            else:
                raise self.taken(path, there, start)
            return table
        if there is None:
            there = here.entries[path[-1]] = Table("header", start, start)
        elif isinstance(there, Table) and there.kind == "implicit":
            there.kind, there.start = "header", start
        else:
            raise self.taken(path, there, start)
        return there

    def enter(self, below: Table | Entry | list[Table], path: Sequence[str], start: int) -> Table:
        if isinstance(below, list):
            return below[-1]
        if isinstance(below, Entry):
            raise self.taken(path, below, start)
        return below

    def taken(self, path: Sequence[str], there: Table | Entry | list[Table], start: int) -> ConfigError:
        first = there[0] if isinstance(there, list) else there
        line, column = position(self.text, first.start)
        return self.fail("%s is already there in line %d, column %d" % (path_text(path), line, column), start)

    def statement(self, table: Table, depth: int) -> Entry:
        start = self.at
        path = self.key()
        if not self.starts("="):
            raise self.fail("expected '=' after the key %s, found %s" % (path_text(path), self.found()))
        self.at += 1
        self.blank()
        here = table
        for key in path[:-1]:
            below = here.entries.setdefault(key, Table("dotted", start, start))
            if not isinstance(below, Table) or below.kind != "dotted":
                raise self.taken(path, below, start)
            here = below
        if path[-1] in here.entries:
            raise self.taken(path, here.entries[path[-1]], start)
        entry = Entry(start, self.value(depth))
        here.entries[path[-1]] = entry
        if here is not table:
            here.own.append(entry)
            here.end = entry.value.end
        return entry

    def key(self) -> list[str]:
        """Read a dotted key and the white space around it."""
        parts = []
        while True:
            self.blank()
            bare = _BARE.match(self.text, self.at)
            if bare:
                parts.append(bare.group())
                self.at = bare.end()
            elif self.starts('"') and not self.starts('"""'):
                parts.append(self.basic_string())
            elif self.starts("'") and not self.starts("'''"):
                parts.append(self.literal_string())
            else:
                raise self.fail("expected a key, found %s" % self.found())
            self.blank()
            if not self.starts("."):
                return parts
            self.at += 1

    def value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise self.fail("nested deeper than %d levels" % MAX_DEPTH)
        start = self.at
        if self.starts('"""'):
            string = self.multi_line('"""', True)
            return Value("string", start, self.at, string)
        if self.starts("'''"):
            string = self.multi_line("'''", False)
            return Value("string", start, self.at, string)
        if self.starts('"'):
            string = self.basic_string()
            return Value("string", start, self.at, string)
        if self.starts("'"):
            string = self.literal_string()
            return Value("string", start, self.at, string)
        if self.starts("["):
            return self.array(depth)
        if self.starts("{"):
            return self.inline(depth)
        return self.scalar()

    def scalar(self) -> Value:
        start = self.at
        match = _SCALAR.match(self.text, self.at)
        if not match:
            raise self.fail("expected a value, found %s" % self.found())
        raw = match.group()
        if not _DATE.fullmatch(raw):
            raw = raw.split(" ")[0]
        self.at = start + len(raw)
        if raw in ("true", "false"):
            return Value("boolean", start, self.at, raw == "true")
        if _DATE.fullmatch(raw):
            return Value("date", start, self.at, raw)
        if _INTEGER.fullmatch(raw) and len(raw) < 400:
            return Value("integer", start, self.at, int(raw.replace("_", ""), 0))
        if _FLOAT.fullmatch(raw):
            number = float(raw.replace("_", ""))
            return Value("float", start, self.at, number if math.isfinite(number) else raw)
        raise self.fail("%r is not a value; strings need quotes" % raw, start)

    def array(self, depth: int) -> Value:
        node = Value("array", self.at, self.at)
        self.at += 1
        self.blank_and_lines()
        while not self.starts("]"):
            node.items.append(self.value(depth + 1))
            self.blank_and_lines()
            if self.starts("]"):
                break
            if not self.starts(","):
                raise self.fail("expected ',' or ']' in a list, found %s" % self.found())
            self.at += 1
            self.blank_and_lines()
        self.at += 1
        node.end = self.at
        return node

    def inline(self, depth: int) -> Value:
        start = self.at
        table = Table("inline", start, start)
        self.at += 1
        self.blank()
        while not (self.starts("}") and not table.own):
            entry = self.statement(table, depth + 1)
            table.own.append(entry)
            self.blank()
            if self.starts("}"):
                break
            if not self.starts(","):
                raise self.fail("expected ',' or '}' in an inline table, found %s" % self.found())
            self.at += 1
            self.blank()
        self.at += 1
        table.end = self.at
        _seal(table)
        return Value("inline", start, self.at, None, [], table)

    def basic_string(self) -> str:
        start = self.at
        good = match_end(_BASIC, self.text, start)
        if not self.text.startswith('"', good):
            raise self.bad_string(good, start)
        self.at = good + 1
        return _unescape(self, self.text[start + 1 : good], start + 1)

    def literal_string(self) -> str:
        start = self.at
        good = match_end(_LITERAL, self.text, start)
        if not self.text.startswith("'", good):
            raise self.bad_string(good, start)
        self.at = good + 1
        return self.text[start + 1 : good]

    def bad_string(self, good: int, start: int) -> ConfigError:
        if good >= len(self.text) or self.text[good] in "\r\n":
            return self.fail("this string is never closed", start)
        if self.text[good] == "\\":
            return self.fail("bad escape in a string; a backslash itself is written \\\\", good)
        return self.fail("control character in a string", good)

    def multi_line(self, quotes: str, escapes: bool) -> str:
        start = self.at
        self.at += 3
        first = self.at
        while not self.starts(quotes):
            if escapes and self.starts("\\"):
                match = _ML_ESCAPE.match(self.text, self.at)
            else:
                match = _ML_CHARACTER.match(self.text, self.at)
            if not match:
                if self.at >= len(self.text):
                    raise self.fail("this string is never closed", start)
                raise self.bad_string(self.at, start)
            self.at = match.end()
        # Up to two quotes may stand right before the closing three.
        for _unused in range(2):
            if self.text.startswith(quotes[0], self.at + 3):
                self.at += 1
        content = re.sub("^\n", "", self.text[first : self.at].replace("\r\n", "\n"))
        self.at += 3
        if not escapes:
            return content
        content = re.sub(r"(?<!\\)((?:\\\\)*)\\[ \t]*\r?\n[ \t\r\n]*", r"\1", content)
        return _unescape(self, content, first)


def _unescape(scanner: _Scanner, raw: str, start: int) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] not in "uU":
            return _ESCAPES[code]
        number = int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise scanner.fail("\\%s is not a Unicode character" % code, start)
        return chr(number)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", one, raw)


def _seal(table: Table) -> None:
    """Make the dotted tables inside an inline table inline as well: nothing may be added to either."""
    for below in table.entries.values():
        if isinstance(below, Table):
            below.kind = "inline"
            _seal(below)


def scan(text: str) -> Document:
    """Return the Document of a TOML text. Raises ConfigError with line and column."""
    return _Scanner(text).document()


def key_text(key: str) -> str:
    """Return a key as TOML: bare if it may be, else in double quotes."""
    return key if _BARE.fullmatch(key) else string_text(key)


def path_text(path: Sequence[str]) -> str:
    """Return a path of keys as TOML."""
    return ".".join(key_text(key) for key in path)


def string_text(string: str) -> str:
    """Return a str as a TOML basic string."""
    escaped = string.replace("\\", "\\\\").replace('"', '\\"')
    return '"%s"' % re.sub("[\x00-\x1f\x7f]", lambda match: "\\u%04x" % ord(match.group()), escaped)


def value_of(raw: str) -> Any:
    """Return a value written as TOML text (str) as plain Python data."""
    return to_python(scan("x = %s\n" % raw).find(("x",)))


def to_python(value: Any) -> Any:
    """Return a Value, Entry, Table or list of Tables as plain Python data."""
    if isinstance(value, list):
        return [to_python(item) for item in value]
    if isinstance(value, Entry):
        return to_python(value.value)
    if isinstance(value, Table):
        return {key: to_python(item) for key, item in value.entries.items()}
    if value.kind == "array":
        return [to_python(item) for item in value.items]
    if value.kind == "inline":
        return to_python(value.table)
    return value.value
