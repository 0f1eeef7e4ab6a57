"""Checks of the values of particular settings, and their conversion to what Config holds. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..model import SEVERITIES
from .checks import Check, ConfigError, choice, collecting, describe, integer, join, seconds, string

KUBELET_SOCKET = "/var/lib/kubelet/device-plugins/kubelet.sock"
LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def text(value: Any, _path: str) -> Any:
    """Any text, as NVIDIA's plugin accepts it."""
    return value


def optional_path(value: Any, path: str) -> Path | None:
    """A path; None for the empty string."""
    return Path(value) if string(value, path) else None


def root(value: Any, path: str) -> str:
    """A directory of the host below which other paths are; / for the empty string."""
    return string(value, path) or "/"


def kubelet_socket(value: Any, path: str) -> Path:
    """The kubelet's socket; the usual one for the empty string."""
    found = Path(string(value, path) or KUBELET_SOCKET)
    if not found.is_absolute():
        raise ConfigError(f"{path}: {describe(value)} is not an absolute path")
    # sun_path holds 108 bytes with the terminating zero, and our own socket's name is the longer one
    if len(bytes(found.parent)) > 80:
        raise ConfigError(f"{path}: {describe(value)}: the directory is too long for a socket (80 bytes)")
    return found


def address(value: Any, path: str) -> tuple[str, int] | None:
    """HOST:PORT, where an empty host stands for all addresses; None for the empty string."""
    if not string(value, path):
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"{path}: {describe(value)} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def imex_channel(value: Any, path: str) -> str:
    """An IMEX channel: a number, or the same as a string."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        return value
    return str(integer(0)(value, path))


def cdi_kind(value: Any, path: str) -> str:
    """The kind of a CDI specification."""
    if not re.fullmatch(rf"{LABEL}(\.{LABEL})*/[A-Za-z]([-_A-Za-z0-9]*[A-Za-z0-9])?", string(value, path)):
        raise ConfigError(f"{path}: {describe(value)} is not a CDI kind such as nvidia.com/gpu")
    return str(value)


def xid_severities(value: Any, path: str) -> tuple[tuple[int, str], ...]:
    """A mapping of XIDs to their severities, as pairs."""
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {describe(value)} is not a mapping of XIDs to {', '.join(SEVERITIES)}")
    found = {}
    problems: list[str] = []
    for key, severity in value.items():
        number = int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,9}", key) else key
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 10**9:
            problems.append(f"{path}: {describe(key)} is not an XID's number")
            continue
        with collecting(problems):
            found[number] = choice(*SEVERITIES)(severity, join(path, number))
    if problems:
        raise ConfigError(*problems)
    return tuple(found.items())


def sleep_interval(value: Any, path: str) -> float:
    """A duration in seconds, or `infinite`."""
    return float("inf") if value == "infinite" else seconds(value, path)


def not_empty(check: Check, reason: str) -> Check:
    """As `check`; an empty value is refused with `reason`."""

    def checked(value: Any, path: str) -> Any:
        found = check(value, path)
        if not found:
            raise ConfigError(f"{path}: {reason}")
        return found

    return checked


def supported(check: Check, *names: str) -> Check:
    """As `check`; of its values only `names` are supported here."""

    def checked(value: Any, path: str) -> Any:
        found = check(value, path)
        if found not in names:
            raise ConfigError(f"{path}: {found} is not supported by this version; use {' or '.join(names)}")
        return found

    return checked
