"""What others tell the daemon, through a socket that only root can open: an operator with `nvidia-devplugin ack GPU`,
and whoever reads the node's label.

One line asks (`ack GPU-…`, `config NAME`), one answers (`ok …` or `error …`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from .logs import Logger
from .sockets import is_listening

log = Logger("control")

RECHECK_SECONDS = 10.0
"""How often it is looked whether the socket is still there: somebody may remove its directory."""

_READ_SECONDS = 5.0
_LONGEST = 256


def directory(kubelet_socket: Path) -> Path:
    """Where the daemon keeps what is its own. Short, since a socket's path has 107 bytes at most."""
    return kubelet_socket.parent / "nvidia.d"


class Control:
    """Serves the socket. verbs: by a line's first word, what takes its rest and returns the answer, or raises
    ValueError."""

    def __init__(self, where: Path, verbs: Mapping[str, Callable[[str], str]]) -> None:
        self._path = where / "ack.sock"
        self._verbs = verbs

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
        if not self._path.parent.parent.is_dir():
            return  # no kubelet was ever here; it makes the directory
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, str(self._path), limit=_LONGEST)
        try:
            self._path.chmod(0o600)
            while self._path.exists():
                await asyncio.sleep(RECHECK_SECONDS)
        finally:
            server.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
                self._path.parent.rmdir()  # unless faults are remembered there

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _READ_SECONDS)
            writer.write(self._reply(line.decode("utf-8", "replace")).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            log.debug("control_failed", error=repr(error))
        finally:
            writer.close()

    def _reply(self, line: str) -> str:
        verb, _space, rest = line.strip().partition(" ")
        if verb not in self._verbs:
            return f"error expected one of: {', '.join(self._verbs)}"
        try:
            return f"ok {self._verbs[verb](rest)}"
        except ValueError as error:
            return f"error {' '.join(str(error).splitlines())}"


def ask(where: Path, line: str, seconds: float = 5.0) -> str:
    """Tell the daemon `line`; what it answers. Raises ValueError with what it has against it, OSError if there is none.

    `ack GPU`: this GPU is fit again; its uuid. `config NAME`: the node's label has this value, or, without a name, the
    node has no such label; the name of the config that is in force.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(seconds)
        client.connect(str(where / "ack.sock"))
        client.sendall(f"{line}\n".encode())
        answer = b""
        while not answer.endswith(b"\n") and (part := client.recv(4096)):
            answer += part
    verdict, _space, text = answer.decode("utf-8", "replace").strip().partition(" ")
    if verdict != "ok":
        raise ValueError(text or "no answer")
    return text
