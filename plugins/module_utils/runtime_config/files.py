# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading and replacing a configuration file and our memory of it.

Members of AnsibleModule in use: atomic_move, preserved_copy, set_mode_if_different, check_mode.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from typing import Any

from . import memory as memories
from .text import masking
from .text.lines import ConfigError, decode

LARGEST = 8 * 1024 * 1024
"""Bytes; a larger file is not a daemon's configuration."""


def read(path: str) -> str | None:
    """Return the file's text, or None if there is no file. Raises ConfigError or OSError."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(data) > LARGEST:
        raise ConfigError("the file is larger than %d bytes" % LARGEST)
    return decode(data)


def check_writable(path: str) -> None:
    """Raise OSError, in words, if the file at path (which need not be there) is on a read-only file system."""
    folder = os.path.dirname(os.path.abspath(path))
    for place in (path, folder):
        while not os.path.exists(place):
            place = os.path.dirname(place)
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            message = (
                "%s is on a file system that is mounted read-only (findmnt --target %s). Nothing was changed. Mount it "
                "writable, or name another file that the daemon reads" % (place, place)
            )
            raise OSError(errno.EROFS, message, path)


def sweep(path: str) -> None:
    """Remove what runs that were killed left beside the file at path: temporary files whose process is gone."""
    folder, start = os.path.dirname(path), _temporary_prefix(path)
    try:
        names = [name for name in os.listdir(folder) if name.startswith(start)]
    except OSError:
        return
    for name in names:
        pid = name[len(start) :].partition("-")[0]
        if pid.isdigit() and not os.path.exists("/proc/" + pid):
            try:
                os.unlink(os.path.join(folder, name))
            except OSError:
                continue


def _temporary_prefix(path: str) -> str:
    # Matches no *.toml or *.json import pattern.
    return ".%s.kubegpu-" % os.path.basename(path)


def _temporary(path: str) -> tuple[int, str]:
    # In the same folder, so that the move is a rename.
    prefix = "%s%d-" % (_temporary_prefix(path), os.getpid())
    return tempfile.mkstemp(prefix=prefix, dir=os.path.dirname(path))


def memory_path(folder: str, config_path: str, name: str) -> str:
    """Return the path of the memory file."""
    return os.path.join(folder, memories.file_name(config_path, name))


def read_memory(folder: str, config_path: str, name: str) -> tuple[memories.Memory | None, str | None]:
    """Return (Memory or None, warning or None)."""
    path = memory_path(folder, config_path, name)
    try:
        text = read(path)
        return (None if text is None else memories.loads(text)), None
    except (ConfigError, OSError, ValueError) as error:
        return None, "%s is not usable and counts as not there: %s" % (path, error)


def write_memory(module: Any, folder: str, config_path: str, name: str, memory: memories.Memory | None) -> None:
    """Write or, for None, remove the memory file."""
    path = memory_path(folder, config_path, name)
    if memory is None:
        if os.path.exists(path):
            os.unlink(path)
        return
    write_private(module, path, memories.dumps(memory, config_path, name))


def write_private(module: Any, path: str, text: str) -> None:
    """Make the file at path, one of ours in a folder of ours, hold text (str). Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    _replace(module, path, text, "0600")


def write(module: Any, path: str, text: str | None, backup: bool) -> str | None:
    """Make the file at path (not a link) hold text, or remove it for None; return the backup's path or None.

    The file keeps owner, mode and SELinux context; a new one gets mode 0644. Raises OSError.
    """
    exists = os.path.exists(path)
    backup_file = _back_up(module, path) if backup and exists else None
    if text is None:
        if exists:
            os.unlink(path)
            sync_folder(os.path.dirname(path))
        return backup_file or None
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    _replace(module, path, text, None if exists else "0644")
    return backup_file or None


def _replace(module: Any, path: str, text: str, mode: str | None) -> None:
    handle, temporary = _temporary(path)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        module.atomic_move(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    if mode is not None:
        module.set_mode_if_different(path, mode, False)
    sync_folder(os.path.dirname(path))


def _back_up(module: Any, path: str) -> str:
    """Copy the file at path beside it, with owner, mode and context; named as Ansible's own backups are.

    By rename as well: half a backup is worse than none.
    """
    backup = "%s.%d.%s~" % (path, os.getpid(), time.strftime("%Y-%m-%d@%H:%M:%S", time.localtime()))
    handle, temporary = _temporary(path)
    try:
        module.preserved_copy(path, temporary)
        os.fsync(handle)
        os.rename(temporary, backup)
    finally:
        os.close(handle)
        if os.path.exists(temporary):
            os.unlink(temporary)
    return backup


def sync_folder(folder: str) -> None:
    """Have the entries of a folder on disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def diff(path: str, before: str | None, after: str | None) -> dict[str, str]:
    """Return the diff as Ansible prints it, secrets masked; None is a file that is not there."""
    return {
        "before_header": path if before is not None else path + " (not there)",
        "after_header": path if after is not None else path + " (removed)",
        "before": masking.mask(before or ""),
        "after": masking.mask(after or ""),
    }


def changed_at(path: str) -> float | None:
    """Return the file's modification time in seconds since the epoch, or None."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
