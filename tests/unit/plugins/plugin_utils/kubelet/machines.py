"""Recorded machines: /proc, configuration files and sockets below a directory, looked at by a real shell."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet import machine

SHELL = ["/bin/sh", "-c"]


class Machine:
    """A machine's file systems below ``root``."""

    def __init__(self, root: Path):
        self.root = str(root)
        self.path = root
        self.scripts: list[str] = []

    def look(self, versions: bool = True) -> machine.Machine:
        """What its shell says; ``scripts`` are the questions."""

        def ask(script: str) -> tuple[int, str, str]:
            self.scripts.append(script)
            done = subprocess.run([*SHELL, script], capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr

        return machine.Machine(ask, self.root, versions)

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

    def program(self, path: str, says: str | None = None) -> Machine:
        """A program that prints something, or fails."""
        does = "exit 1" if says is None else f"cat <<'END'\n{says}\nEND"
        return self.file(path, f"#!/bin/sh\n{does}\n", 0o755)

    def socket(self, path: str) -> Machine:
        target = self.path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        # The full path may be longer than the 107 bytes that an address holds.
        folder = os.open(target.parent, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{folder}/{target.name}")
        os.close(folder)
        return self
