"""Checks: functions from (value, path) to the checked value, or a ConfigError. Pure."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Check = Callable[[Any, str], Any]

LARGEST = 2**31 - 1
LONGEST_SHOWN = 60
"""Characters of a value or key that a message repeats; longer ones are described."""

MOST_TOLD = 20
"""Problems that a message lists; the rest is counted."""

_NO_TEXT = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")


class ConfigError(Exception):
    """Settings that cannot be used.

    problems: one message each, that says where, what, and what is allowed.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    @property
    def lines(self) -> list[str]:
        """The first problems, and how many more there are."""
        more = len(self.problems) - MOST_TOLD
        return [*self.problems[:MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]

    def __str__(self) -> str:
        return "; ".join(self.lines)


@contextlib.contextmanager
def collecting(problems: list[str]) -> Iterator[None]:
    """Append what a ConfigError inside says to `problems`, and go on."""
    try:
        yield
    except ConfigError as error:
        problems.extend(error.problems)


def describe(value: Any) -> str:
    """A value as messages show it: short, with its kind in the terms of YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of many digits"  # that Python may refuse to show
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value!a}" if len(value) <= LONGEST_SHOWN else f"a string of {len(value)} characters"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return f"a value of type {type(value).__name__}"


def join(path: str, key: Any) -> str:
    """The path of `key` below `path`, as messages show it."""
    if isinstance(key, str) and key.isprintable() and len(key) <= LONGEST_SHOWN:
        shown = key
    else:
        shown = str(key) if isinstance(key, int) and abs(key) < 10**30 else f"({describe(key)})"
    return f"{path}.{shown}" if path else shown


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: {describe(value)} is not a boolean (true or false)")
    return value


def negated(value: Any, path: str) -> bool:
    """A boolean whose field in Config says the opposite."""
    return not boolean(value, path)


def string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {describe(value)} is not a string")
    if _NO_TEXT.search(value):
        raise ConfigError(f"{path}: {describe(value)} has control characters or invalid characters")
    return value


def integer(minimum: int, maximum: int = LARGEST) -> Check:
    def check(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{path}: {describe(value)} is not a whole number")
        if not minimum <= value <= maximum:
            shown = str(value) if abs(value) < 10**30 else describe(value)
            raise ConfigError(f"{path}: {shown} is not {f'>= {minimum}' if value < minimum else f'<= {maximum}'}")
        return value

    return check


def choice(*allowed: str) -> Check:
    def check(value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ConfigError(f"{path}: {describe(value)} is not one of {', '.join(allowed)}")
        return value

    return check


_LONGEST_NANOSECONDS = 2**63 - 1  # what Go's type holds: 292 years
_GO_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(value: Any, path: str) -> float:
    """A duration in Go's notation (`60s`, `1h30m`), or in nanoseconds as a number; in seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LONGEST_NANOSECONDS:
        return value * 1e-9
    if not isinstance(value, str) or not (value == "0" or re.fullmatch(f"({_GO_DURATION.pattern})+", value, re.ASCII)):
        raise ConfigError(f"{path}: {describe(value)} is not a duration such as 60s or 1h30m")
    total = sum(float(number) * _SECONDS[unit] for number, unit in _GO_DURATION.findall(value))
    if total > _LONGEST_NANOSECONDS * 1e-9:
        raise ConfigError(f"{path}: {describe(value)} is longer than 292 years")
    return total


@dataclass(frozen=True)
class ListOf:
    """A list whose entries pass `item`, as a tuple. together: checks all entries."""

    item: Check
    together: Check = lambda entries, _path: entries

    def __call__(self, value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise ConfigError(f"{path}: {describe(value)} is not a list")
        entries: list[Any] = []
        problems: list[str] = []
        for index, entry in enumerate(value):
            with collecting(problems):
                entries.append(self.item(entry, f"{path}[{index}]"))
        if problems:
            raise ConfigError(*problems)
        return self.together(tuple(entries), path)


def one_or_list_of(item: Check) -> Check:
    """A list without repetitions. A single value is a list of one; a string may hold several, separated by commas."""
    entries = ListOf(item)

    def check(value: Any, path: str) -> tuple[Any, ...]:
        if isinstance(value, str):
            found = tuple(item(part.strip(), path) for part in value.split(",")) if value else ()
        else:
            found = entries(value, path)
        return tuple(dict.fromkeys(found))

    return check


@dataclass(frozen=True)
class Keys:
    """A mapping whose keys are checked each by its own check. A key with the value null counts as absent.

    Other keys are left out: known_keys reports them. together: checks the mapping when all its keys are right, and
    converts it.
    """

    keys: Mapping[str, Check]
    required: tuple[str, ...] = ()
    together: Check = lambda found, _path: found

    def __call__(self, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise ConfigError(f"{path or 'the file'}: {describe(value)} is not a mapping")
        found: dict[str, Any] = {}
        problems: list[str] = []
        for key, check in self.keys.items():
            if value.get(key) is not None:
                with collecting(problems):
                    found[key] = check(value[key], join(path, key))
            elif key in self.required:
                problems.append(f"{join(path, key)}: missing")
        if problems:
            raise ConfigError(*problems)
        return self.together(found, path)
