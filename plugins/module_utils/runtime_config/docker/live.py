# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the running Docker Engine says: GET /info over its unix socket (Engine API, operation SystemInfo).

Only the standard library: the managed node need not have Docker's SDK.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

TIMEOUT = 10.0
"""Seconds; /info counts containers, which takes a while on a busy node."""

_LARGEST = 16 * 1024 * 1024


class LiveError(Exception):
    """The daemon is there but did not answer as the Engine API says."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def socket_path(docker_host: str) -> str:
    """Return the path in unix:///path. Raises ValueError for anything else."""
    if not docker_host.startswith("unix:///"):
        raise ValueError("docker_host must be unix:///path/of/the.sock, not %r" % docker_host)
    return docker_host[len("unix://") :]


def read(path: str, timeout: float = TIMEOUT) -> dict[str, Any] | None:
    """Return the live state as a dict (see live_state), or None if no daemon listens on the socket at path.

    Raises LiveError if it cannot be asked or answers nonsense.
    """
    connection = _UnixConnection(path, timeout)
    try:
        connection.request("GET", "/info")
        response = connection.getresponse()
        body = response.read(_LARGEST)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, http.client.HTTPException) as error:
        raise LiveError("Docker did not answer on %s: %s" % (path, error)) from error
    finally:
        connection.close()
    if response.status != 200:
        raise LiveError("Docker answered %d to GET /info on %s" % (response.status, path))
    try:
        info = json.loads(body.decode("utf-8"))
        return live_state(info)
    except (ValueError, AttributeError, TypeError) as error:
        raise LiveError("Docker's answer to GET /info on %s is not usable: %s" % (path, error)) from error


def live_state(info: dict[str, Any]) -> dict[str, Any]:
    """Return the part of /info that matters here: default_runtime (str), runtimes (name -> {path, runtimeArgs}),
    live_restore (bool), containers_running (int), server_version (str), cdi (bool, None where the daemon is
    too old to tell: before 25.0), cgroup_driver (cgroupfs, systemd or none) and cgroup_version ("1" or "2"; both
    str, empty where the daemon does not tell: the version since 20.10)."""
    runtimes = {}
    for name, entry in (info.get("Runtimes") or {}).items():
        runtimes[name] = {"path": entry.get("path") or "", "runtimeArgs": entry.get("runtimeArgs") or []}
    return {
        "default_runtime": info.get("DefaultRuntime") or "runc",
        "runtimes": runtimes,
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "containers_running": int(info.get("ContainersRunning") or 0),
        "server_version": str(info.get("ServerVersion") or ""),
        "cdi": bool(info["CDISpecDirs"]) if "CDISpecDirs" in info else None,
        "cgroup_driver": str(info.get("CgroupDriver") or ""),
        "cgroup_version": str(info.get("CgroupVersion") or ""),
    }
