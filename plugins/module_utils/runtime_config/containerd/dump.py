# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the containerd binary: its version, and what it makes of a configuration. Nothing is started.

`containerd -c FILE config dump` prints the merged configuration of FILE, its imports and the built-in defaults, and
fails for a file that containerd would not start with. run: AnsibleModule.run_command or the like.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from typing import Callable

from ..text import toml_text
from ..text.lines import ConfigError
from . import keys
from .imports import candidate_text

_PREFIX = "kubegpu-containerd-"
_AT = re.compile(r"\((\d+), (\d+)\): ")


def major_version(run: Callable[..., tuple[int, str, str]], binary: str) -> int | None:
    """Return containerd's major version as int, or None if its output does not tell."""
    code, output, _unused = run([binary, "--version"])
    match = re.search(r" v?(\d+)\.\d+", output)
    return int(match.group(1)) if code == 0 and match else None


def dump(
    run: Callable[..., tuple[int, str, str]],
    binary: str,
    text: str,
    config_path: str,
    folder: str | None = None,
    imported: dict[str, str | None] | None = None,
) -> toml_text.Document:
    """Return the scanned toml_text.Document of what containerd makes of text if it stood at config_path.

    folder: for the temporary files (private to us, since a configuration may hold credentials). imported: path of an
    imported file -> its text (None: no file), for files that are to be tried as well. An error's place counts for
    config_path unless the message names another file.
    Raises ConfigError with containerd's own message.
    """
    temporary: dict[str, str | None] = {}
    try:
        for path, content in (imported or {}).items():
            temporary[path] = None if content is None else _temporary(content, folder)
        main = _temporary(candidate_text(text, config_path, glob.glob, temporary), folder)
        temporary[config_path] = main
        code, output, errors = run([binary, "-c", main, "config", "dump"])
    finally:
        for written in temporary.values():
            if written is not None:
                os.unlink(written)
    if code != 0:
        message = errors.strip() or output.strip() or "exit status %d" % code
        for path, stand_in in temporary.items():
            if stand_in is not None and path != config_path:
                message = message.replace(stand_in, path)
        raise _error(message, main, config_path)
    return keys.read(output)


def _temporary(text: str, folder: str | None) -> str:
    # .toml, since a pattern like conf.d/*.toml must go on matching what stands in for a drop-in
    handle, path = tempfile.mkstemp(prefix=_PREFIX, suffix=".toml", dir=folder)
    with os.fdopen(handle, "wb") as stream:
        stream.write(text.encode("utf-8"))
    return path


def imported_files(document: toml_text.Document) -> list[str]:
    """Return the imported files (list of str) that a dump names; containerd 2.x names patterns only."""
    entry = document.find(("imports",))
    listed = toml_text.to_python(entry) if entry is not None else []
    return [
        path
        for path in listed
        if isinstance(path, str) and not os.path.basename(path).startswith(_PREFIX) and "*" not in path
    ]


def _error(message: str, path: str, config_path: str) -> ConfigError:
    last = message.splitlines()[-1]
    match = _AT.search(last)
    inside = path in last or "failed to load TOML" not in last
    last = last.replace(path, config_path)
    if match and inside:
        return ConfigError("containerd refuses it: %s" % last, int(match.group(1)), int(match.group(2)))
    return ConfigError("containerd refuses it: %s" % last)
