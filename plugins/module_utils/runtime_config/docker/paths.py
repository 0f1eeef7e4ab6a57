# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Docker keeps its things: as a package, as a snap, or rootless. Pure but for what is handed in.

Rootless: Docker's "Run the Docker daemon as a non-root user" (daemon.json in ~/.config/docker, the socket in
$XDG_RUNTIME_DIR). Snap: the docker-snap's README (configuration in $SNAP_DATA/config).
"""

from __future__ import annotations

import os
import re
from typing import Callable, Mapping, Sequence

from . import flags as docker_flags

PACKAGE = "/etc/docker/daemon.json"
SNAP = "/var/snap/docker/current/config/daemon.json"
PROGRAMS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")


def config_path(
    command_lines: Sequence[list[str] | None],
    uid: int,
    environment: Mapping[str, str],
    exists: Callable[[str], bool] = os.path.exists,
) -> str:
    """Return the path of the daemon.json that dockerd reads.

    command_lines: arguments of the running dockerd and of the one that would be started, each a list of str or None;
    uid: whose daemon it is; environment: dict with HOME and XDG_CONFIG_HOME.
    """
    for arguments in command_lines:
        path = docker_flags.config_file(arguments or [])
        if path is not None:
            return path
    if uid != 0:
        folder = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME", "/"), ".config")
        return os.path.join(folder, "docker", "daemon.json")
    if exists(os.path.dirname(os.path.dirname(SNAP))) and not any(exists(path) for path in PROGRAMS):
        return SNAP
    return PACKAGE


def host(uid: int, environment: Mapping[str, str]) -> str:
    """Return the address of the daemon's socket."""
    if uid == 0:
        return "unix:///var/run/docker.sock"
    folder = environment.get("XDG_RUNTIME_DIR") or "/run/user/%d" % uid
    return "unix://" + os.path.join(folder, "docker.sock")


def state_dir(uid: int, environment: Mapping[str, str]) -> str:
    """Return the directory for what is remembered."""
    if uid == 0:
        return "/var/lib/kubegpu/runtime-config"
    folder = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME", "/"), ".local", "state")
    return os.path.join(folder, "kubegpu", "runtime-config")


def lasting(path: str) -> str:
    """Return path as it is called for good: a refresh of the snap copies its files to a folder of another number."""
    return re.sub(r"^/var/snap/docker/(?:x?[0-9]+)/", "/var/snap/docker/current/", path)
