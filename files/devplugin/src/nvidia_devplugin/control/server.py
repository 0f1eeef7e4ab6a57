"""What others ask and tell the daemon, through a socket: an operator with `nvidia-devplugin ack GPU`, and the agent,
which speaks with the Kubernetes API.

One line asks, one answers (`ok …` or `error …`): `ack GPU`, `config NAME`, `state` (one line of JSON), `watch VERSION`
(the same, as soon as its version is another). Only root can open the socket beside the kubelet's; the one in a
directory that a pod's containers share also who has that directory's group.
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
"""How often it is looked whether the socket is still there: somebody may remove its directory."""

_READ_SECONDS = 5.0
_LONGEST = 256


def directory(kubelet_socket: Path) -> Path:
    """Where the daemon keeps what is its own. Short, since a socket's path has 107 bytes at most."""
    return kubelet_socket.parent / "nvidia.d"


Verb = Callable[[str], Any]
"""Takes the rest of the line; the answer in one line, or an awaitable of it. Raises ValueError."""


def path(where: Path) -> Path:
    """The socket in the daemon's directory, or in the shared one."""
    return where / CONTROL_SOCKET


class Control:
    """Serves the socket. verbs: by a line's first word.

    shared: `where` is somebody else's directory; whoever has its group may speak as well.
    """

    def __init__(self, where: Path, verbs: Mapping[str, Verb], shared: bool = False) -> None:
        self._path = path(where)
        self._verbs = verbs
        self._shared = shared

    async def run(self) -> None:
        """Until cancelled. What cannot be served is said in the log and tried again: GPUs do not depend on it."""
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
                return  # no kubelet was ever here; it makes the directory
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
                    self._path.parent.rmdir()  # unless faults are remembered there

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
    """Tell the daemon `line`; what it answers. Raises ValueError with what it has against it, OSError if there is none.

    `ack GPU`: this GPU is fit again; its uuid. `config NAME`: the node's label has this value, or, without a name, the
    node has no such label; the name of the config that is in force.
    """
    return ask_line(path(where), line, seconds)
