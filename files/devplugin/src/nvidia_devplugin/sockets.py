"""Unix sockets, beside what gRPC does with them."""

from __future__ import annotations

import socket
from pathlib import Path


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
