# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTML that cannot be broken out of: text becomes markup here and nowhere else, and is escaped on the way."""

from __future__ import annotations

import re
from typing import Any

# What may not stand in an HTML document (WHATWG, "control" and "surrogate"), but for tab and the ends of lines.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# They change the direction of what follows, so that a name could show itself as another (UAX #9).
_DIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Braces too: a page that went through a template by mistake must not be read as one.
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "{": "&#123;", "}": "&#125;"}
_NAME = re.compile(r"^[a-z][a-z0-9-]*$", re.IGNORECASE)
_VOID = frozenset(("meta", "br", "hr", "input", "col"))


class Html(str):
    """Text that is markup already. Only this module makes it from anything but constants."""

    __slots__ = ()


def clean(value: object) -> str:
    """A value as text that a page may show: characters that no page may hold become U+FFFD.

    Args:
        value (object): anything; None is no text.

    Returns:
        str: not escaped.
    """
    text = "" if value is None else "%s" % (value,)
    return _DIRECTIONAL.sub("\ufffd", _FORBIDDEN.sub("\ufffd", text)).replace("\r", "\n")


def escape(value: object) -> Html:
    """A value as markup that shows it, usable between tags and in quoted attributes."""
    if isinstance(value, Html):
        return value
    return Html("".join(_ESCAPES.get(character, character) for character in clean(value)))


def join(*parts: Any) -> Html:
    """Markup of several parts one after the other; lists and generators are taken apart, None and False are nothing."""
    pieces = []
    for part in parts:
        if part is None or part is False:
            continue
        pieces.append(join(*part) if isinstance(part, (list, tuple)) or hasattr(part, "__next__") else escape(part))
    return Html("".join(pieces))


def element(name: str, attributes: dict[str, Any] | None = None, *children: object) -> Html:
    """One element.

    Args:
        name (str): a constant of the caller, never data.
        attributes (dict | None): names are constants of the caller, values may be data. None and False leave an
            attribute out, True gives it no value.
        children (object): text, markup, or lists of both.

    Returns:
        Html: the element.

    Raises:
        ValueError: a name that is not one.
    """
    if not _NAME.match(name):
        raise ValueError("%r is no name of an element" % name)
    pieces = ["<", name]
    for key, value in (attributes or {}).items():
        if not _NAME.match(key):
            raise ValueError("%r is no name of an attribute" % key)
        if value is None or value is False:
            continue
        pieces.append(" " + key if value is True else ' %s="%s"' % (key, escape(value)))
    pieces.append(">")
    if name not in _VOID:
        pieces += [join(*children), "</", name, ">"]
    return Html("".join(pieces))


def raw(name: str, attributes: dict[str, Any] | None, text: str) -> Html:
    """An element whose content HTML reads as it is: a style or a script of ours.

    Raises:
        ValueError: a text that would end its element.
    """
    if re.search(r"</|<!--", text):
        raise ValueError("the text of <%s> would end it" % name)
    opening = element(name, attributes)
    return Html(opening[: -len("</%s>" % name)] + text + "</%s>" % name)
