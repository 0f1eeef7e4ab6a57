"""The lines of the tables that the check prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    what: str
    values: tuple[str, ...]
    verdict: str  # ok, moves, DIFFERS, -


def verdict(good: bool) -> str:
    return "ok" if good else "DIFFERS"


def compared(what: str, found: object, wanted: object, *, hidden: bool = False) -> Row:
    """A line that wants two values to be equal; `hidden` keeps them out of the table."""
    shown = ("(hidden)", "(hidden)") if hidden else (str(found), str(wanted))
    return Row(what, shown, verdict(found == wanted))


def table(title: str, heads: tuple[str, ...], rows: list[Row]) -> None:
    print(f"\n### {title}\n\n| | {' | '.join(heads)} | |\n|{' --- |' * (len(heads) + 2)}")
    for row in rows:
        values = (value.replace("|", "/").replace("\n", " ") for value in row.values)
        print(f"| {row.what} | {' | '.join(values)} | {row.verdict} |")
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("ok", "moves", "DIFFERS", "-")}
    print(f"\n{', '.join(f'{number} {name}' for name, number in counts.items())}")
