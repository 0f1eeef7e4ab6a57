# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends a module's process by SIGKILL at its n-th change of the file system: after the one before, before this one.

The process really dies, so nothing is cleaned up. Python reports opens for writing, renames, removals and changes of
mode and owner to audit hooks (PEP 578) before they happen, so nothing in the module has to be prepared for this.
This file is also the program of that process: killer.py MODULE FOLDER MOMENT.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.chown", "os.utime", "os.link", "os.symlink")


def kill_at(moment, name, folder, /, **arguments):
    """Run a module and kill it at its moment-th (from 1) change below folder; return False if it ended before that."""
    module = ROOT / "plugins" / "modules" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, __file__, module, folder, str(moment)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments, _ansible_check_mode=False, _ansible_diff=False)}),
        env=dict(os.environ, PYTHONPATH=str(ROOT / ".cache" / "collections")),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode in (0, -signal.SIGKILL), done.stdout
    return done.returncode != 0


def changed(event, arguments):
    """Return the path that an audit event is about to change, or None."""
    if event == "open":
        path, mode, flags = arguments
        writes = mode is None or set("wax+") & set(mode)
        return path if writes and flags & (os.O_WRONLY | os.O_RDWR) else None
    return arguments[0] if event in CHANGES else None


def main(module, folder, moment):
    left = int(moment)

    def watch(event, arguments):
        nonlocal left
        path = changed(event, arguments)
        if isinstance(path, (str, bytes)) and os.fsdecode(path).startswith(folder):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    sys.argv[1:] = []
    runpy.run_path(module, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
