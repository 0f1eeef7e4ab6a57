# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module in the file argv[1] and kills the process with SIGKILL at its argv[3]-th change of the file system
below the folder argv[2]: after the one before, before this one. 0 kills never; the number of changes goes to argv[4].

Python reports opens for writing, renames, removals and changes of mode and owner to audit hooks (PEP 578) before they
happen, so nothing in the module has to be prepared for this.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

module, folder, moment, count_file = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
seen = 0


def changes(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        return (mode is None or set("wax+") & set(mode or "")) and flags & (os.O_WRONLY | os.O_RDWR) and path
    if event in ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.chown", "os.utime", "os.link", "os.symlink"):
        return arguments[0]
    return None


def watch(event, arguments):
    global seen
    path = changes(event, arguments)
    if isinstance(path, (str, bytes)) and os.fsdecode(path).startswith(folder):
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(watch)
sys.argv[1:] = []
try:
    runpy.run_path(module, run_name="__main__")
finally:
    Path(count_file).write_text(str(seen))
