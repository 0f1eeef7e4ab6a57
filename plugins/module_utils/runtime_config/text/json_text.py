# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A JSON scanner that keeps positions, and edits that leave every other byte as it was.

The standard library's parser forgets where things are, how numbers and escapes were written, and that a key
was there twice. Grammar: RFC 8259.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, List, Optional, Sequence

from .lines import (
    BOM,
    ConfigError,
    error_at,
    indent_of,
    match_end,
    newline_of,
    position,
    replace,
)

MAX_DEPTH = 100
"""Deeper nesting is refused: no configuration needs it, and Python's stack is finite."""

_SPACE = re.compile("[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_STRING_GOOD_PART = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_WORDS = (("true", True), ("false", False), ("null", None))
_KIND_NAMES = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "number": "a number",
    "boolean": "a boolean",
    "null": "null",
}


@dataclass
class Member:
    """One "key": value of an object; offsets into the text."""

    key: str
    start: int
    key_end: int
    value: "Node"


@dataclass
class Node:
    """One JSON value: text[start:end]. value holds strings decoded, booleans and null; numbers stay text."""

    kind: str
    start: int
    end: int
    value: Any = None
    members: List[Member] = field(default_factory=list)
    items: List["Node"] = field(default_factory=list)

    def get(self, key: str) -> Member | None:
        """Return the Member with this key or None."""
        for member in self.members:
            if member.key == key:
                return member
        return None

    @property
    def kind_name(self) -> str:
        """The kind with its article, for messages."""
        return _KIND_NAMES[self.kind]


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = len(BOM) if text.startswith(BOM) else 0

    def fail(self, message: str, offset: int | None = None) -> ConfigError:
        return error_at(self.text, self.at if offset is None else offset, message)

    def skip(self) -> None:
        self.at = match_end(_SPACE, self.text, self.at)

    def found(self) -> str:
        if self.at >= len(self.text):
            return "the end of the file"
        return _shown(self.text[self.at])

    def document(self) -> Node:
        self.skip()
        node = self.value(0)
        self.skip()
        if self.at < len(self.text):
            raise self.fail("nothing may follow the top level value, found %s" % self.found())
        return node

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.fail("nested deeper than %d levels" % MAX_DEPTH)
        character = self.text[self.at : self.at + 1]
        if character == "{":
            return self.object(depth)
        if character == "[":
            return self.array(depth)
        start = self.at
        if character == '"':
            return Node("string", start, self.string_end(), json.loads(self.text[start : self.at]))
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            return Node("number", start, self.at, number.group())
        for word, meaning in _WORDS:
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return Node("null" if meaning is None else "boolean", start, self.at, meaning)
        raise self.fail("expected a value, found %s" % self.found())

    def string_end(self) -> int:
        match = _STRING.match(self.text, self.at)
        if not match:
            good = match_end(_STRING_GOOD_PART, self.text, self.at)
            if good >= len(self.text):
                raise self.fail("this string is never closed")
            if self.text[good] == "\\":
                raise self.fail("bad escape in a string; a backslash itself is written \\\\", good)
            raise self.fail("%s inside a string; is a closing quote missing?" % _shown(self.text[good]), good)
        self.at = match.end()
        return self.at

    def object(self, depth: int) -> Node:
        node = Node("object", self.at, self.at)
        seen: dict[str, int] = {}
        self.at += 1
        self.skip()
        while not (self.text.startswith("}", self.at) and not node.members):
            if not self.text.startswith('"', self.at):
                hint = "; remove the comma before it" if self.text.startswith("}", self.at) else ""
                raise self.fail("expected a key in double quotes, found %s%s" % (self.found(), hint))
            start = self.at
            key = json.loads(self.text[start : self.string_end()])
            key_end = self.at
            if key in seen:
                line, column = position(self.text, seen[key])
                message = "the key %s is here twice, first in line %d, column %d; remove one of the two"
                raise self.fail(message % (_shown(key), line, column), start)
            seen[key] = start
            self.skip()
            if not self.text.startswith(":", self.at):
                raise self.fail("expected ':' after the key %s, found %s" % (_shown(key), self.found()))
            self.at += 1
            self.skip()
            node.members.append(Member(key, start, key_end, self.value(depth + 1)))
            self.skip()
            if self.text.startswith("}", self.at):
                break
            if not self.text.startswith(",", self.at):
                raise self.fail("expected ',' or '}', found %s" % self.found())
            self.at += 1
            self.skip()
        self.at += 1
        node.end = self.at
        return node

    def array(self, depth: int) -> Node:
        node = Node("array", self.at, self.at)
        self.at += 1
        self.skip()
        while not (self.text.startswith("]", self.at) and not node.items):
            node.items.append(self.value(depth + 1))
            self.skip()
            if self.text.startswith("]", self.at):
                break
            if not self.text.startswith(",", self.at):
                raise self.fail("expected ',' or ']', found %s" % self.found())
            self.at += 1
            self.skip()
        self.at += 1
        node.end = self.at
        return node


def _shown(string: str) -> str:
    return json.dumps(string)


def scan(text: str) -> Node:
    """Return the Node of the text's top level value. Raises ConfigError with line and column."""
    return _Scanner(text).document()


def is_empty(text: str) -> bool:
    """True if there is nothing but white space (and a byte order mark), which Docker takes for {}."""
    return _SPACE.fullmatch(text[len(BOM) :] if text.startswith(BOM) else text) is not None


def to_python(text: str, node: Node) -> Any:
    """Return a Node as plain Python data; a number that Python cannot hold exactly stays a str."""
    if node.kind == "object":
        return {_plain(member.key): to_python(text, member.value) for member in node.members}
    if node.kind == "array":
        return [to_python(text, item) for item in node.items]
    if node.kind == "number":
        return _number(node.value)
    return _plain(node.value) if node.kind == "string" else node.value


def _plain(string: str) -> str:
    # A lone surrogate, legal in JSON as an escape, cannot leave a module as UTF-8.
    return string.encode("utf-8", "replace").decode("utf-8")


def _number(raw: str) -> float | str:
    if re.fullmatch("-?[0-9]{1,400}", raw):
        return int(raw)
    number = float(raw) if len(raw) <= 400 else float("inf")
    return raw if number in (float("inf"), float("-inf")) else number


@dataclass(frozen=True)
class Style:
    """How a file is laid out: unit of indentation, line ending, text between key and value, one line or many."""

    unit: str
    newline: str
    colon: str
    inline: bool


def style_of(text: str, root: Node | None) -> Style:
    """Return the Style of a text whose top level object is root (None: there is nothing yet)."""
    newline = newline_of(text)
    if root is None or not root.members:
        return Style("    ", newline, ": ", False)
    first = root.members[0]
    colon = text[first.key_end : first.value.start]
    if "\n" in colon:
        colon = ": "
    lead = text[root.start + 1 : first.start]
    if "\n" not in lead:
        return Style("", newline, colon, True)
    unit = lead[lead.rfind("\n") + 1 :]
    return Style(unit, newline, colon, False)


def render(value: Any, style: Style, indent: str) -> str:
    """Return a value as JSON text whose first line is indented already and whose other lines get indent."""
    comma = ", " if style.colon.endswith(" ") or not style.inline else ","
    if not isinstance(value, dict) or not value:
        return json.dumps(value, separators=(comma, ": "))
    inner = indent + style.unit
    parts = [json.dumps(key) + style.colon + render(item, style, inner) for key, item in value.items()]
    if style.inline:
        return "{" + comma.join(parts) + "}"
    between = "," + style.newline + inner
    return "{" + style.newline + inner + between.join(parts) + style.newline + indent + "}"


def _line_indent(text: str, offset: int) -> str:
    start = text.rfind("\n", 0, offset) + 1
    return indent_of(text[start:offset])


def add_member(text: str, parent: Node, key: str, value: Any, style: Style) -> str:
    """Return text with "key": value as the last member of the object node parent."""
    if parent.members:
        last = parent.members[-1]
        before = parent.members[-2].value.end if len(parent.members) > 1 else parent.start + 1
        gap = text[before : last.start]
        # Between two members stands white space, a comma, white space; between brace and key only the latter.
        gap = gap[gap.rfind(",") + 1 :]
        # A first member that hugs its brace needs a space after the comma that now precedes its neighbour.
        if len(parent.members) == 1 and not gap:
            gap = " " if style.colon.endswith(" ") else ""
        inline = Style(style.unit, style.newline, style.colon, "\n" not in gap)
        rendered = json.dumps(key) + style.colon + render(value, inline, gap[gap.rfind("\n") + 1 :])
        return replace(text, last.value.end, last.value.end, "," + gap + rendered)
    outer = _line_indent(text, parent.start)
    return replace(text, parent.start, parent.end, render({key: value}, style, outer))


def set_value(text: str, node: Node, value: Any, style: Style) -> str:
    """Return text with the value at node replaced."""
    return replace(text, node.start, node.end, render(value, style, _line_indent(text, node.start)))


def remove_member(text: str, parent: Node, key: str) -> str:
    """Return text without the member key of the object node parent; undoes add_member byte for byte,
    except that an object left empty becomes {}."""
    index = [member.key for member in parent.members].index(key)
    member = parent.members[index]
    if len(parent.members) == 1:
        return replace(text, parent.start, parent.end, "{}")
    if index + 1 < len(parent.members):
        return replace(text, member.start, parent.members[index + 1].start, "")
    return replace(text, parent.members[index - 1].value.end, member.value.end, "")


def find(root: Node, path: Sequence[str]) -> Optional[Node]:
    """Return the Node at a path of keys below root, or None."""
    node: Optional[Node] = root
    for key in path:
        member = node.get(key) if node is not None else None
        node = member.value if member else None
    return node


__all__ = [
    "ConfigError",
    "Member",
    "Node",
    "Style",
    "add_member",
    "find",
    "is_empty",
    "remove_member",
    "render",
    "scan",
    "set_value",
    "style_of",
    "to_python",
]
