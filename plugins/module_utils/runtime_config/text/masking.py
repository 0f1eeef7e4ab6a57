# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Masks secrets in what is shown of a configuration: diffs, messages, returned values. Pure.

A secret is the value of a key such as password, identitytoken or splunk-token, every value of a table or object called
auth (registries of containerd), and the user and password in a URL. It works on any text, JSON, TOML or prose, since a
commented line or a daemon's message may hold a secret as well. It masks a value too many rather than one too few.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "********"

_NAMES = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|auth|authorization|credentials?|cookie"
    r"|(?:access|account|api|encryption|licen[cs]e|private|secret|signing)[-_ ]?key)"
)
_FLAGS = re.IGNORECASE | re.DOTALL

_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', _FLAGS)
_SECRET_KEY = re.compile(_NAMES + r"\Z", re.IGNORECASE)
_KEYED = re.compile(r"%s(?:[\"']?\.[\"']?[\w-]{1,64}){0,8}\\*[\"']?\s*[:=]" % _NAMES, _FLAGS)
_ANY_KEY = re.compile("[:=]")
_ARROW = " -> "
_BRACKET = re.compile(r"%s|#[^\n]*|([\[{])|([\]}])" % _STRING.pattern, _FLAGS)
# What is masked of a value without quotes: a word, or what stands between quotes that are escaped.
_WORD = re.compile(
    r"([ \t]*)(\\+[\"']|)(?:(?<=[\"'])[^\"'\\\n]+|(?:(?:basic|bearer|digest)[ \t]+)?[^\s,;&\"'\]})\\]+)", _FLAGS
)
_NO_SECRET = re.compile(r"[ \t]*(?:true|false|null|none)\b", _FLAGS)
_HEADER = r"^[ \t]*\[{1,2}[^\[\]\n,]*%s[ \t]*\]{1,2}[ \t]*(?:#[^\n]*)?\r?$"
_SECTION = re.compile(
    r"(%s)(.*?)(?=%s|\Z)" % (_HEADER % (_NAMES + "[\"']?"), _HEADER % r"[^\[\]\n,]"), _FLAGS | re.MULTILINE
)
_URL = re.compile(r"(:(?:\\?/){2})[^\s\"'/]*@")
_NO_SCHEME = re.compile(r"(^|[\s\"'=])[^\s\"'/:@=]+:[^\s\"'/@]*@(?=[\w.\[-])(?!sha\d+:)", re.MULTILINE)


def mask(text: str) -> str:
    """Return text (str) with secrets replaced by MASK; structure, keys and all other values stay."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        text = _SECTION.sub(lambda match: match[1] + _mask_values(match[2], _ANY_KEY), text)
    text = _mask_values(text, _KEYED)
    text = _URL.sub(r"\g<1>%s@" % MASK, text)
    return _NO_SCHEME.sub(r"\g<1>%s@" % MASK, text)


def mask_data(value: Any, secret: bool = False) -> Any:
    """Return plain data (dict, list, scalars) with secrets replaced by MASK. secret: whether value is one."""
    if isinstance(value, dict):
        return {key: mask_data(item, secret or bool(_SECRET_KEY.search(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [mask_data(item, secret) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if secret:
        return MASK
    return mask(value) if isinstance(value, str) else value


def _mask_values(text: str, keys: re.Pattern[str]) -> str:
    """Mask the value behind each match of keys."""
    parts, at = [], 0
    match = keys.search(text)
    while match is not None:
        parts.append(text[at : match.end()])
        at, masked = _masked(text, match.end())
        parts.append(masked)
        # "key: old -> new", as messages have it
        while text.startswith(_ARROW, at):
            at, masked = _masked(text, at + len(_ARROW))
            parts += [_ARROW, masked]
        match = keys.search(text, at)
    return "".join(parts) + text[at:]


def _masked(text: str, start: int) -> tuple[int, str]:
    """Return (offset behind the value that begins at start, the value as it is shown)."""
    value = start
    while text[value : value + 1].isspace():
        value += 1
    space = text[start:value]
    string = _STRING.match(text, value)
    if string:
        return string.end(), space + _hollow(string)
    if text[value : value + 1] in ("[", "{"):
        end = _closing(text, value)
        if end is None:
            return (text + "\n").index("\n", value), space + MASK
        inside = text[value:end]
        return end, space + (_mask_values(inside, _ANY_KEY) if inside[0] == "{" else _STRING.sub(_hollow, inside))
    literal = _NO_SECRET.match(text, start)
    if literal:
        return literal.end(), literal[0]
    word = _WORD.match(text, start)
    return (word.end(), word[1] + word[2] + MASK) if word else (start, "")


def _closing(text: str, start: int) -> int | None:
    """Return the offset behind the bracket that closes the one at start, or None."""
    depth = 0
    for match in _BRACKET.finditer(text, start):
        depth += (match[1] is not None) - (match[2] is not None)
        if depth == 0 and match[2] is not None:
            return match.end()
    return None


def _hollow(string: re.Match[str]) -> str:
    quotes = string[0][:3] if string[0][:3] in ('"""', "'''") else string[0][0]
    return quotes + MASK + quotes
