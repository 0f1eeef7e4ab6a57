# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pieces that the page's sections are made of: sections, tables, states and bars."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

from .markup import Html, element, join

# state -> sign and word: never told by colour alone
STATES = {
    "ok": ("\u2713", "ok"),
    "passed": ("\u2713", "passed"),
    "healthy": ("\u2713", "healthy"),
    "attention": ("!", "attention"),
    "degraded": ("!", "degraded"),
    "broken": ("\u2715", "broken"),
    "failed": ("\u2715", "failed"),
    "unhealthy": ("\u2715", "unhealthy"),
    "unreachable": ("\u2205", "unreachable"),
    "skipped": ("\u2013", "skipped"),
    "unknown": ("?", "unknown"),
}
TONES = {
    "ok": "good",
    "passed": "good",
    "healthy": "good",
    "attention": "warn",
    "degraded": "warn",
    "broken": "bad",
    "failed": "bad",
    "unhealthy": "bad",
    "unreachable": "away",
    "skipped": "none",
    "unknown": "none",
}


def section(name: str, title: str, note: str, *content: Any) -> Html:
    """A part of the page that its navigation can jump to.

    Args:
        name (str): its id, a constant.
        title (str): its heading.
        note (str): one sentence below the heading; may be empty.
        content (Html): what is in it.
    """
    return element(
        "section",
        {"id": name, "aria-labelledby": name + "-title"},
        element("h2", {"id": name + "-title"}, title),
        element("p", {"class": "note"}, note) if note else None,
        *content,
    )


def table(caption: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]], wide: bool = False) -> Html:
    """A table whose first column names the row.

    Args:
        caption (str): what the table shows; read out, not seen.
        columns (list[tuple[str, str]]): heading and class (``number`` for figures, else empty).
        rows (list[list[Html | str]]): as many cells as columns; ``td`` makes one with a value to sort by.
        wide (bool): has many columns, all narrow.
    """
    head = element(
        "thead",
        None,
        element("tr", None, [element("th", {"scope": "col", "class": kind or None}, name) for name, kind in columns]),
    )
    body = element("tbody", None, [element("tr", None, _cells(row, columns)) for row in rows])
    return element(
        "div",
        {"class": "scroll", "role": "region", "aria-label": caption, "tabindex": "0"},
        element(
            "table",
            {"class": "list wide" if wide else "list"},
            element("caption", {"class": "unseen"}, caption),
            head,
            body,
        ),
    )


def _cells(row: Sequence[Any], columns: Sequence[tuple[str, str]]) -> Iterator[Html]:
    for place, (cell, (_name, kind)) in enumerate(zip(row, columns)):  # noqa: B905 -- Python 3.10 and later only
        attributes: dict[str, Any] = {"class": kind or None}
        if isinstance(cell, tuple):
            cell, attributes["data-sort"] = cell
        if place == 0:
            attributes["scope"] = "row"
        yield element("td" if place else "th", attributes, cell)


def state(name: str, words: str | None = None) -> Html:
    """A state with its sign, in its colour."""
    sign, word = STATES.get(name, ("?", name))
    return element(
        "span",
        {"class": "state " + TONES.get(name, "none")},
        element("span", {"class": "sign", "aria-hidden": "true"}, sign),
        " ",
        words or word,
    )


def sign(name: str, label: str, title: str) -> Html:
    """A state as its sign alone, for narrow cells; its words are read out and shown on pointing."""
    mark, word = STATES.get(name, ("?", name))
    return element(
        "span",
        {"class": "state " + TONES.get(name, "none"), "title": "%s: %s" % (label, title)},
        element("span", {"class": "sign", "aria-hidden": "true"}, mark),
        element("span", {"class": "unseen"}, word),
    )


def share_bar(parts: Sequence[tuple[str, float]], total: float, label: str) -> Html:
    """Shares of a whole as a bar; what it shows stands beside it as text.

    Args:
        parts (list[tuple[str, float]]): tone and amount.
        total (float): what the whole bar is.
        label (str): of the bar's content, for those who do not see it.
    """
    drawn, start = [], 0.0
    for tone, amount in parts:
        width = 100.0 * amount / total if total else 0.0
        if width > 0:
            attributes = {"class": tone, "x": "%.2f" % start, "y": "0", "width": "%.2f" % width, "height": "6"}
            drawn.append(element("rect", attributes))
        start += width
    return element(
        "svg",
        {"class": "bar", "viewBox": "0 0 100 6", "preserveAspectRatio": "none", "role": "img", "aria-label": label},
        drawn,
    )


def muted(*content: Any) -> Html:
    """Less important words."""
    return element("span", {"class": "muted"}, *content)


def code(text: str) -> Html:
    """An identifier, in a font in which characters can be told apart."""
    return element("code", None, text)


def lines(items: Sequence[Html | str]) -> Html:
    """One below the other."""
    return join([element("div", None, item) for item in items])
