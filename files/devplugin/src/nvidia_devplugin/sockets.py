"""Unix sockets: made, looked for, asked."""

from __future__ import annotations

import os
import socket
from pathlib import Path

CONTROL_SOCKET = "ack.sock"
"""The name of the daemon's control socket, in whatever directory it is."""


def is_listening(path: Path) -> bool:
    """Whether a server accepts connections on the unix socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its queue is full, so somebody listens
        except OSError:
            return False
        return True


def bound(path: Path, group: bool = False) -> socket.socket:
    """A socket that is bound to `path`, which root alone can open, or its group as well. Raises OSError.

    It has its mode from the first moment on: a chmod afterwards could be led elsewhere by a link.
    """
    server = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117 if group else 0o177)
    try:
        server.bind(str(path))
    except OSError:
        server.close()
        raise
    finally:
        os.umask(before)
    return server


def ask_line(path: Path, line: str, seconds: float) -> str:
    """Send `line` to the server on the unix socket `path`; its answer without the leading `ok`.

    Raises ValueError with what follows `error`, OSError if there is no server or it does not answer in time.
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
