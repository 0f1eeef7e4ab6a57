# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether dockerd would start or reload with a daemon.json. Nothing is started.

Flags are compared with the keys of the file for every dockerd; from 23.0 on `dockerd --validate` checks the rest.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any, Callable, List

from . import flags as docker_flags

VALIDATES = 23
"""First major version of dockerd that has --validate."""


@dataclass(frozen=True)
class Start:
    """One way in which dockerd is started.

    program: path of the executable; arguments: list of str without it; source: where they are from, for messages.
    """

    program: str
    arguments: List[str]
    source: str


def refusal(
    run: Callable[..., tuple[int, str, str]],
    start: Start,
    text: str | None,
    config: dict[str, Any],
    path: str,
    folder: str | None = None,
    validate: bool = True,
) -> str | None:
    """Return why dockerd would refuse text (str, or None for no file; config: the same as plain data), or None.

    run: function (list of str) -> (return code, stdout, stderr); path: where the text is to be; folder: for the
    temporary file, which is private to us, since a configuration may hold credentials; validate: False compares flags
    and keys alone.
    """
    found = docker_flags.conflicts(start.arguments, config)
    if found:
        parts = ["--%s and the key %s" % (flag, key) for key, flag in found]
        return (
            "the same option is a flag of %s and a key of %s: %s. Take the flag out of the unit (systemctl cat) or of "
            "its environment file, or the key out of the file" % (start.source, path, "; ".join(parts))
        )
    if not validate or not _validates(run, start.program):
        return None
    handle, candidate = tempfile.mkstemp(suffix=".json", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write((text or "{}").encode("utf-8"))
        # The last --config-file counts.
        code, output, errors = run([start.program, "--validate", *start.arguments, "--config-file=" + candidate])
    finally:
        os.unlink(candidate)
    if code == 0:
        return None
    words = _reason(errors or output) or "exit status %d" % code
    return "dockerd --validate, with the flags of %s, refuses %s: %s" % (
        start.source,
        path,
        words.replace(candidate, path),
    )


def _reason(output: str) -> str:
    """The words of dockerd's error without what it logs and without its help."""
    lines = [line.strip() for line in output.splitlines() if not line.startswith("time=")]
    return " ".join(itertools.takewhile(lambda line: line and not line.startswith("See "), lines))


def _validates(run: Callable[..., tuple[int, str, str]], program: str) -> bool:
    # A wrapper, such as dockerd-rootless.sh, would start the daemon.
    if os.path.basename(program) not in ("dockerd", "exe") or shutil.which(program) is None:
        return False
    code, output = run([program, "--version"])[:2]
    version = re.search(r"Docker version (\d+)\.", output)
    return code == 0 and version is not None and int(version.group(1)) >= VALIDATES
