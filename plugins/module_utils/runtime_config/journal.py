# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When we last changed a configuration file, for daemons that read it only when they start.

A file's own modification time tells that as long as there is a file. A run that died between removing a file and
restarting the daemon would leave nothing to see, so the time is kept beside what we remember: it is the modification
time of an empty file. It is set before a change, in case we die right behind it, and once more behind it.
"""

from __future__ import annotations

import os

from . import memory


def path_of(folder: str, config_path: str) -> str:
    """Return the path of the file that keeps the time for a configuration file (absolute path)."""
    return os.path.join(folder, memory.file_name(config_path, "") + ".changed")


def note(folder: str, config_path: str) -> None:
    """Note that config_path is about to be changed, or just was. Raises OSError."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = path_of(folder, config_path)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.utime(path)
        os.fsync(handle)
    finally:
        os.close(handle)


def noted(folder: str, config_path: str) -> float | None:
    """Return the time of our last change in seconds since the epoch, or None."""
    try:
        return os.stat(path_of(folder, config_path)).st_mtime
    except OSError:
        return None
