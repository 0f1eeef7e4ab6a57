"""The control socket, for the command line (`nvidia-devplugin ack GPU`) and the agent.

A client sends one line, a verb and its argument, and gets one line: `ok …` or `error …`. Only root can open the socket
beside the kubelet's. The one in a directory that the pod's containers share is open to that directory's group too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..log import Logger
from ..sockets import CONTROL_SOCKET, ask_line, bound, is_listening

log = Logger("control")

RECHECK_SECONDS = 10.0
"""How often the socket is checked, in seconds: its directory may be removed."""

_READ_SECONDS = 5.0
_LONGEST = 256


def directory(kubelet_socket: Path) -> Path:
    """The daemon's own directory. The name is short, because a socket's path has at most 107 bytes."""
    return kubelet_socket.parent / "nvidia.d"


Verb = Callable[[str], Any]
"""A handler: takes the rest of the line, returns the answer (one line) or an awaitable of it. Raises ValueError."""


def path(where: Path) -> Path:
    """The path of the socket in the directory `where`."""
    return where / CONTROL_SOCKET


class Control:
    """Serves the control socket.

    where: its directory. verbs: handlers by the first word of a line. shared: `where` is not the daemon's directory,
    and its group may open the socket too.
    """

    def __init__(self, where: Path, verbs: Mapping[str, Verb], shared: bool = False) -> None:
        self._path = path(where)
        self._verbs = verbs
        self._shared = shared

    async def run(self) -> None:
        """Serve until cancelled. Errors are logged and retried: the GPUs do not depend on the socket."""
        while True:
            try:
                await self._serve()
            except OSError as error:
                log.warning("control_unavailable", path=self._path, error=error)
            await asyncio.sleep(RECHECK_SECONDS)

    async def _serve(self) -> None:
        if is_listening(self._path):
            raise OSError(f"another daemon listens on {self._path}")
        if not self._shared:
            if not self._path.parent.parent.is_dir():
                return  # the kubelet, which has not run yet, creates the directory
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, sock=bound(self._path, self._shared), limit=_LONGEST)
        try:
            while self._path.exists():
                await asyncio.sleep(RECHECK_SECONDS)
        finally:
            server.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
                if not self._shared:
                    self._path.parent.rmdir()  # fails if faults are stored there

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _READ_SECONDS)
            writer.write((await self._reply(line.decode("utf-8", "replace"))).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            log.debug("control_failed", error=repr(error))
        finally:
            writer.close()

    async def _reply(self, line: str) -> str:
        verb, _space, rest = line.strip().partition(" ")
        if verb not in self._verbs:
            return f"error expected one of: {', '.join(self._verbs)}"
        try:
            answer = self._verbs[verb](rest)
            return f"ok {answer if isinstance(answer, str) else await answer}"
        except ValueError as error:
            return f"error {' '.join(str(error).splitlines())}"


def ask(where: Path, line: str, seconds: float = 5.0) -> str:
    """Send `line` to the daemon whose socket is in `where`; returns its answer.

    Raises ValueError with the reason if the daemon refuses, OSError if none answers within `seconds`.
    """
    return ask_line(path(where), line, seconds)
