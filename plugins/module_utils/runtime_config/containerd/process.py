# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which systemd unit and which program a process belongs to (systemd.special(7), cgroups(7), proc(5))."""

from __future__ import annotations

import os
import re

_SERVICE = re.compile(r"/([^/]+\.service)(?=/|$)")


def unit_of(cgroups: str) -> str | None:
    """Return the innermost service in the text of /proc/<pid>/cgroup, or None."""
    for line in cgroups.splitlines():
        found: list[str] = _SERVICE.findall(line.split(":", 2)[-1])
        if found:
            return found[-1]
    return None


def unit(pid: int, proc: str = "/proc") -> str | None:
    """Return the service that a process (int) belongs to, or None."""
    try:
        with open(os.path.join(proc, str(pid), "cgroup"), encoding="utf-8", errors="replace") as stream:
            return unit_of(stream.read())
    except OSError:
        return None


def program(pid: int, proc: str = "/proc") -> str | None:
    """Return the path of the program that a process (int) runs, or None if there is no such program any more.

    Where a package was updated since the process started, it is the new program, which the next start takes.
    """
    try:
        path = os.readlink(os.path.join(proc, str(pid), "exe"))
    except OSError:
        return None
    deleted = " (deleted)"
    path = path[: -len(deleted)] if path.endswith(deleted) else path
    return path if os.access(path, os.X_OK) else None
