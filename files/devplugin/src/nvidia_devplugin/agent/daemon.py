"""The daemon, as the agent sees it: what it answers on its control socket."""

from __future__ import annotations

from pathlib import Path

from ..sockets import CONTROL_SOCKET, ask_line
from .state import State, parse

_SECONDS = 5.0
_WATCH_SECONDS = 40.0  # it answers after 30 at the latest


class Daemon:
    """All methods raise OSError if there is no daemon, ValueError for what it refuses or what cannot be understood."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / CONTROL_SOCKET

    def state(self) -> State:
        """What there is to tell now."""
        return parse(ask_line(self._path, "state", _SECONDS))

    def watch(self, version: int) -> State:
        """What there is to tell as soon as it is something else, or after half a minute."""
        return parse(ask_line(self._path, f"watch {version}", _WATCH_SECONDS))

    def acknowledge(self, name: str) -> str:
        """An operator vouches for this GPU or MIG device; its uuid."""
        return ask_line(self._path, f"ack {name}", _SECONDS)

    def choose(self, label: str) -> str:
        """The node's label has this value, empty for none; the name of the config in force."""
        return ask_line(self._path, f"config {label}".rstrip(), _SECONDS)
