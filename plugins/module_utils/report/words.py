# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbers and lists as people read them. What is not known is a dash."""

from __future__ import annotations

from typing import Any, Iterable

UNKNOWN = "\u2013"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 node``, ``2 nodes``."""
    return "%s %s" % (number, noun if number == 1 else plural or noun + "s")


def gibibytes(number: Any) -> str:
    """Bytes as GiB, in whole numbers from 10 on."""
    if not _number(number):
        return UNKNOWN
    value = number / 2.0**30
    return "%.0f" % value if value >= 9.95 or value == int(value) else "%.1f" % value


def whole(number: Any, unit: str = "") -> str:
    """A number without fraction, with its unit."""
    return "%.0f%s" % (number, unit) if _number(number) else UNKNOWN


def text(value: object) -> str:
    """A value, or a dash."""
    return UNKNOWN if value is None or value == "" else "%s" % (value,)


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names in a row; what is too much is counted."""
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return "%s and %d more" % (", ".join(names[: most - 1]), len(names) - most + 1)


def natural(name: object) -> list[tuple[int, int, str]]:
    """Key that sorts ``gpu-2`` before ``gpu-10``."""
    parts, digits = [], ""
    for character in "%s\0" % (name,):
        if character in "0123456789":
            digits += character
            continue
        if digits:
            parts.append((0, int(digits), digits))
            digits = ""
        parts.append((1, ord(character), ""))
    return parts


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
