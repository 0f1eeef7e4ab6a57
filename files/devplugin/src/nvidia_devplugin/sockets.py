"""Unix sockets: rights, whether a server listens, and the one-line protocol of the control socket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

CONTROL_SOCKET = "ack.sock"
"""The name of the daemon's control socket, in whatever directory it is."""


def is_listening(path: Path) -> bool:
    """Whether a server accepts connections on the unix socket `path`.

    Raises OSError if that cannot be found out: PermissionError, for instance, where SELinux forbids the connection.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its queue is full, so a server listens
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


@contextlib.contextmanager
def private(group: bool = False) -> Iterator[None]:
    """Sockets that are bound within have mode 0600, or 0660 with `group`, from the first moment.

    A chmod after the bind would leave them open for a moment, and could follow a link.
    """
    before = os.umask(0o117 if group else 0o177)
    try:
        yield
    finally:
        os.umask(before)


def bound(path: Path, group: bool = False) -> socket.socket:
    """A socket that is bound to `path`, which only root can open, or with `group` its group as well. Raises OSError."""
    server = socket.socket(socket.AF_UNIX)
    try:
        with private(group):
            server.bind(str(path))
    except OSError:
        server.close()
        raise
    return server


def ask_line(path: Path, line: str, seconds: float) -> str:
    """Send `line` to the server on the unix socket `path`; its answer without the leading `ok`.

    Raises ValueError with what follows `error`, OSError if there is no server or no answer within `seconds`.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(seconds)
        client.connect(str(path))
        client.sendall(f"{line}\n".encode())
        answer = b""
        while not answer.endswith(b"\n") and (part := client.recv(65536)):
            answer += part
    verdict, _space, text = answer.decode("utf-8", "replace").strip().partition(" ")
    if verdict != "ok":
        raise ValueError(text or "no answer")
    return text
