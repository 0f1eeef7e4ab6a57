# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Linux says about a running daemon (proc(5), unix(7), cgroups(7)): its process id, arguments, start, program and
systemd unit."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from dataclasses import dataclass
from typing import List, Optional

PROC = "/proc"

_SERVICE = re.compile(r"/([^/]+\.service)(?=/|$)")
_DELETED = " (deleted)"


@dataclass(frozen=True)
class Daemon:
    """pid; arguments without argv[0]; started in seconds since the epoch, None if unknown."""

    pid: int
    arguments: List[str]
    started: Optional[float]


def find(program: str, socket_path: str, pid_file: str | None = None, proc: str = PROC) -> Daemon | None:
    """Return the Daemon that runs program (str, its name in /proc/<pid>/comm), or None.

    The one that listens on the socket, else the one in the pid file: with socket activation the listener
    is systemd.
    """
    for pid in (_listener(socket_path), _from_file(pid_file)):
        if pid and _comm(pid, proc) == program[:15]:
            words = _words(pid, proc)
            # none at all: a zombie, or one in the middle of its exec, whose name comes first
            if words:
                return Daemon(pid, words[1:], _started(pid, proc))
    return None


def program(pid: int, proc: str = PROC) -> str | None:
    """Return the path of the program that a process (int) runs, or None if there is no such program any more.

    Where a package was updated since the process started, it is the new program, which the next start takes.
    """
    try:
        path = os.readlink(os.path.join(proc, str(pid), "exe"))
    except OSError:
        return None
    path = path[: -len(_DELETED)] if path.endswith(_DELETED) else path
    return path if os.access(path, os.X_OK) else None


def unit(pid: int, proc: str = PROC) -> str | None:
    """Return the systemd service that a process (int) belongs to, or None."""
    return unit_of(_read(pid, "cgroup", proc).decode("utf-8", "replace"))


def unit_of(cgroups: str) -> str | None:
    """Return the innermost service in the text of /proc/<pid>/cgroup, or None."""
    for line in cgroups.splitlines():
        found: list[str] = _SERVICE.findall(line.split(":", 2)[-1])
        if found:
            return found[-1]
    return None


def _listener(path: str, timeout: float = 5.0) -> int | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid: int = struct.unpack("3i", credentials)[0]
        return pid
    except OSError:
        return None
    finally:
        connection.close()


def _from_file(path: str | None) -> int | None:
    try:
        with open(path or "", encoding="ascii") as stream:
            return int(stream.read(32))
    except (OSError, ValueError):
        return None


def _read(pid: int, name: str, proc: str) -> bytes:
    try:
        with open(os.path.join(proc, str(pid), name), "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def _comm(pid: int, proc: str) -> str:
    return _read(pid, "comm", proc).decode("utf-8", "replace").strip()


def _words(pid: int, proc: str) -> list[str]:
    raw = _read(pid, "cmdline", proc).decode("utf-8", "replace")
    return raw.rstrip("\0").split("\0") if raw else []


def _started(pid: int, proc: str) -> float | None:
    # The name in parentheses may hold anything; field 22 (start, clock ticks since boot) is the 20th behind it.
    fields = _read(pid, "stat", proc).rpartition(b")")[2].split()
    if len(fields) < 20:
        return None
    # Not btime of /proc/stat: it is cut to whole seconds, and a daemon that was restarted right after its file was
    # written would seem older than the file. The tick that is added makes up for the cut in the ticks.
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + (int(fields[19]) + 1) / os.sysconf("SC_CLK_TCK")
