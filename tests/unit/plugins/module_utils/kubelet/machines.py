"""Recorded machines: /proc, configuration files and sockets below a directory."""

from __future__ import annotations

import os
import socket
from pathlib import Path


class Machine:
    """A machine's file systems below ``root``."""

    def __init__(self, root: Path):
        self.root = str(root)
        self.path = root

    def file(self, path: str, content: str | bytes, mode: int = 0o644) -> Machine:
        target = self.path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)
        return self

    def process(self, pid: int, *arguments: str, nested: bool = False) -> Machine:
        """A process; ``nested``: inside of a container, seen from outside."""
        self.file(f"proc/{pid}/cmdline", "".join(argument + "\0" for argument in arguments))
        return self.file(
            f"proc/{pid}/status", f"Name:\tx\nPid:\t{pid}\nNSpid:\t{pid}{chr(9) + '7' if nested else ''}\n"
        )

    def program(self, path: str) -> Machine:
        return self.file(path, "#!/bin/sh\n", 0o755)

    def socket(self, path: str) -> Machine:
        target = self.path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        # The full path may be longer than the 107 bytes that an address holds.
        folder = os.open(target.parent, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{folder}/{target.name}")
        os.close(folder)
        return self
