# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text with positions, and the one error that all scanners and edits raise."""

from __future__ import annotations

import codecs
import re

from . import masking

BOM = "\ufeff"
_INDENT = re.compile("[\ufeff \t]*")


class ConfigError(Exception):
    """A configuration file that cannot be read or must not be changed.

    message: str, what is wrong and what to do, without the place. line, column: int or None, counted from 1,
    columns in characters.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column

    def describe(self, path: str) -> str:
        """Return the message, secrets masked, with the file's path and the place in it as one str."""
        message = masking.mask(self.message)
        if self.line is None or self.column is None:
            return "%s: %s" % (path, message)
        return "%s, line %d, column %d: %s" % (path, self.line, self.column, message)


def position(text: str, offset: int) -> tuple[int, int]:
    """Return (line, column), both from 1, of the character at offset; a byte order mark has no column."""
    start = text.rfind("\n", 0, offset) + 1
    line = text.count("\n", 0, offset) + 1
    column = offset - start + 1
    if line == 1 and text.startswith(BOM) and column > 1:
        column -= 1
    return line, column


def error_at(text: str, offset: int, message: str) -> ConfigError:
    """Return a ConfigError for the character at offset."""
    line, column = position(text, offset)
    return ConfigError(message, line, column)


def decode(data: bytes) -> str:
    """Decode a file's bytes to str so that encoding the str gives the same bytes; a byte order mark is kept.

    Raises ConfigError for anything that is not UTF-8.
    """
    for mark, name in ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16")):
        if data.startswith(mark):
            raise ConfigError("the file is %s; save it as UTF-8" % name, 1, 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8")
        line, column = position(good, len(good))
        message = "byte 0x%02x is not UTF-8; save the file as UTF-8" % data[error.start]
        raise ConfigError(message, line, column) from error


def match_end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return the offset behind the match that begins at start; start itself if there is none."""
    match = pattern.match(text, start)
    return start if match is None else match.end()


def indent_of(line: str) -> str:
    """Return the white space that a line begins with, without a byte order mark."""
    return line[: match_end(_INDENT, line, 0)].lstrip(BOM)


def newline_of(text: str) -> str:
    """Return the line ending of the first line: CRLF or LF (also for a text without a line ending)."""
    end = text.find("\n")
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"


def replace(text: str, start: int, end: int, new: str) -> str:
    """Return text with text[start:end] replaced by new."""
    return text[:start] + new + text[end:]
