"""Checks of one value at one path: small functions from (value, path) to the value, or a ConfigError. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], Any]


_NO_TEXT = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")
LARGEST = 2**31 - 1


class ConfigError(Exception):
    """A setting that cannot be used; the message says where, what, and what is allowed."""


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
        return f"the string {value!a}" if len(value) <= 60 else f"a string of {len(value)} characters"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return f"a value of type {type(value).__name__}"


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**30 else describe(value)


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: {describe(value)} is not a boolean (true or false)")
    return value


def string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {describe(value)} is not a string")
    if _NO_TEXT.search(value):
        raise ConfigError(f"{path}: {describe(value)} has control characters, or what is no character")
    return value


def integer(minimum: int, maximum: int = LARGEST) -> Check:
    def check(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{path}: {describe(value)} is not a whole number")
        if value < minimum:
            raise ConfigError(f"{path}: {_short(value)} is not >= {minimum}")
        if value > maximum:
            raise ConfigError(f"{path}: {_short(value)} is not <= {maximum}")
        return value

    return check


def choice(*allowed: str) -> Check:
    def check(value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ConfigError(f"{path}: {describe(value)} is not one of {', '.join(allowed)}")
        return value

    return check


_LONGEST_NANOSECONDS = 2**63 - 1  # what Go's type holds: 292 years
_GO_DURATION = re.compile(r"(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def duration(value: Any, path: str) -> Any:
    """Go's notation (`60s`, `1h30m`), or nanoseconds as a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LONGEST_NANOSECONDS:
        return value
    if isinstance(value, str) and (value == "0" or re.fullmatch(f"({_GO_DURATION.pattern})+", value)):
        return value
    raise ConfigError(f"{path}: {describe(value)} is not a duration such as 60s or 1h30m")


_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(value: Any, path: str) -> float:
    """A duration in Go's notation, or in nanoseconds as a number, in seconds."""
    checked = duration(value, path)
    if isinstance(checked, (int, float)):
        return checked * 1e-9
    total = sum(float(found[1]) * _SECONDS[found[3]] for found in _GO_DURATION.finditer(checked))
    if total > _LONGEST_NANOSECONDS * 1e-9:
        raise ConfigError(f"{path}: {describe(value)} is longer than 292 years")
    return total


def list_of(item: Check) -> Check:
    def check(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise ConfigError(f"{path}: {describe(value)} is not a list")
        return [item(entry, f"{path}[{index}]") for index, entry in enumerate(value)]

    return check


def one_or_list_of(item: Check) -> Check:
    """A single value stands for a list of one; a string may hold several with commas in between."""

    def check(value: Any, path: str) -> list[Any]:
        if isinstance(value, str):
            return [item(part.strip(), path) for part in value.split(",")]
        return list(list_of(item)(value, path))

    return check


def _key(key: Any) -> str:
    """A key that is no plain text."""
    return str(key) if isinstance(key, int) and abs(key) < 10**30 else f"({describe(key)})"


def mapping(keys: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """A mapping with these keys and no others; a key whose value is null counts as absent."""

    def check(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ConfigError(f"{path or 'the file'}: {describe(value)} is not a mapping")
        result = {}
        for key, entry in value.items():
            shown = key if isinstance(key, str) and key.isprintable() else _key(key)
            at = f"{path}.{shown}" if path else shown
            if not isinstance(key, str) or key not in keys:
                raise ConfigError(f"{at}: unknown key; allowed here: {', '.join(keys)}")
            if entry is not None:
                result[key] = keys[key](entry, at)
        for key in required:
            if key not in result:
                raise ConfigError(f"{path}.{key}: missing")
        return result

    return check
