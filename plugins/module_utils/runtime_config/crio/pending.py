# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running CRI-O still needs to match its files: none or restart. Pure.

CRI-O takes over runtimes on SIGHUP since 1.26 (pull request 6056 of cri-o/cri-o), but there are releases whose
inspection endpoint shows the new runtime while RunPodSandbox goes on with the old list (issue 10202 there), and nothing
that could be read back tells the two apart. A restart leaves containers alone, so it is the means to be sure.
"""

from __future__ import annotations

from ..pending import Pending
from ..process import Daemon


def crio(changed: bool, daemon: Daemon | None, file_changed: float | None, path: str) -> Pending:
    """Return the Pending. changed: this run changes the file; daemon: process.Daemon or None (not running);
    file_changed: time of the last change in seconds since the epoch, or None."""
    found = Pending()
    if daemon is None:
        return found
    if changed:
        found.add("restart", "%s changed, and CRI-O reads it only when it starts" % path)
    elif daemon.started is not None and file_changed is not None and file_changed > daemon.started:
        found.add("restart", "%s is newer than the running CRI-O, which reads it only when it starts" % path)
    return found
