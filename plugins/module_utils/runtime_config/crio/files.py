# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CRI-O's drop-ins on disk.

CRI-O reads every file below crio.conf.d, whatever its name (Config.UpdateFromPath walks the folder), hidden ones
too. So neither a backup nor the temporary file of an atomic write may lie there, not even for a moment: both get a
place of their own, on the same file system in the case of the temporary file.

Members of AnsibleModule in use: atomic_move, set_mode_if_different.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from typing import Any, Callable

from .. import files
from ..text.lines import ConfigError

TEMPORARY = ".kubegpu-crio-"


def writer(backups: str) -> Callable[..., str | None]:
    """Return a function as changes.apply takes it. backups: folder for backups, made if need be."""

    def write(module: Any, path: str, text: str | None, backup: bool) -> str | None:
        """Make the file at path hold text, or remove it for None; return the backup's path or None. Raises OSError."""
        exists = os.path.exists(path)
        backup_file = _back_up(path, backups) if backup and exists else None
        folder = os.path.dirname(path)
        if text is None:
            if exists:
                os.unlink(path)
                files.sync_folder(folder)
            return backup_file
        os.makedirs(folder, mode=0o755, exist_ok=True)
        # beside crio.conf.d, not in it
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=os.path.dirname(folder))
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text.encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())
            # a mounted folder would make the move a copy through a file in crio.conf.d
            _same_file_system(temporary, folder)
            module.atomic_move(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
        if not exists:
            module.set_mode_if_different(path, "0644", False)
        files.sync_folder(folder)
        return backup_file

    return write


def _same_file_system(path: str, folder: str) -> None:
    if os.stat(path).st_dev != os.stat(folder).st_dev:
        raise OSError(
            errno.EXDEV, "is on another file system than the folder above it, so it cannot be replaced safely", folder
        )


def _back_up(path: str, backups: str) -> str:
    os.makedirs(backups, mode=0o700, exist_ok=True)
    stamp = time.strftime("%Y-%m-%d@%H:%M:%S", time.localtime())
    target = os.path.join(backups, "%s.%d.%s~" % (os.path.basename(path), os.getpid(), stamp))
    shutil.copy2(path, target)
    return target


def below(folder: str) -> dict[str, str]:
    """Return path -> text of all files below a folder as CRI-O reads them; what is not text is left out."""
    found = {}
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                text = files.read(path)
            except (ConfigError, OSError):
                continue
            if text is not None:
                found[path] = text
    return found


def leftovers(folder: str) -> list[str]:
    """Return the temporary files (list of paths) that a killed run left beside a drop-in folder."""
    try:
        names = os.listdir(os.path.dirname(folder))
    except OSError:
        return []
    return [os.path.join(os.path.dirname(folder), name) for name in sorted(names) if name.startswith(TEMPORARY)]
