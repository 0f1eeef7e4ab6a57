"""A client of the daemon's control socket."""

from __future__ import annotations

from pathlib import Path

from ..sockets import CONTROL_SOCKET, ask_line
from .state import DaemonState, parse_state

_SECONDS = 5.0
_WATCH_SECONDS = 40.0  # the daemon answers within 30


class DaemonClient:
    """All methods raise OSError if no daemon answers, ValueError for a refusal or an answer that cannot be parsed.

    directory: where the control socket is.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / CONTROL_SOCKET

    def state(self) -> DaemonState:
        """The daemon's state now."""
        return parse_state(ask_line(self._path, "state", _SECONDS))

    def watch(self, version: int) -> DaemonState:
        """The daemon's state as soon as its version differs from `version`, or after half a minute."""
        return parse_state(ask_line(self._path, f"watch {version}", _WATCH_SECONDS))

    def acknowledge(self, name: str) -> str:
        """Clear the fatal fault of the GPU or MIG device with this UUID or index; returns its UUID."""
        return ask_line(self._path, f"ack {name}", _SECONDS)

    def choose_config(self, label: str) -> str:
        """Set the value of the node's label, empty for none; returns the name of the config in force."""
        return ask_line(self._path, f"config {label}".rstrip(), _SECONDS)
