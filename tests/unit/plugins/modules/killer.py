# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends a module's process by SIGKILL right before the n-th of its system calls that change something on disk.

Put before the module's own code by kill_at; the process really dies, so nothing is cleaned up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
CALLS = ("rename", "replace", "unlink", "remove", "fsync", "makedirs", "utime")

_PROGRAM = """
import os, runpy, signal, sys
module, moment, *calls = sys.argv[1:]
left, sys.argv = [int(moment)], [module]
def armed(call):
    def wrapper(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return wrapper
for name in calls:
    setattr(os, name, armed(getattr(os, name)))
runpy.run_path(module, run_name="__main__")
"""


def kill_at(moment, name, /, **arguments):
    """Run a module and kill it at its moment-th (from 1) change; return False if it ended before that."""
    path = str(ROOT / "plugins" / "modules" / f"{name}.py")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, path, str(moment), *CALLS],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments, _ansible_check_mode=False, _ansible_diff=False)}),
        env=dict(os.environ, PYTHONPATH=str(ROOT / ".cache" / "collections")),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == -9:
        return True
    assert done.returncode == 0, done.stdout + done.stderr
    return False
