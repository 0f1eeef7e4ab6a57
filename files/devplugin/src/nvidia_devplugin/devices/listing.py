"""Lists in error texts: bounded, since they repeat what a request contains."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 10


def listed(texts: Iterable[str], separator: str = ", ", longest: int = 200) -> str:
    """The first ten of `texts`, each cut to `longest` characters, and how many more there are."""
    everything = list(texts)
    shown = [text if len(text) <= longest else text[:longest] + "…" for text in everything[:_MOST]]
    more = len(everything) - len(shown)
    return separator.join([*shown, *([f"and {more} more"] if more else [])])
