# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which other files a config.toml imports. Pure."""

from __future__ import annotations

import fnmatch
import os.path
from typing import Callable

from ..text import toml_text
from ..text.lines import replace
from . import keys
from .config import version_of


def imports_of(document: toml_text.Document, config_path: str) -> list[str]:
    """Return the patterns (list of str, absolute) that a scanned file imports; relative ones count from its folder."""
    entry = document.find(("imports",))
    listed = toml_text.to_python(entry) if isinstance(entry, toml_text.Entry) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        return []
    return [os.path.normpath(os.path.join(os.path.dirname(config_path), item)) for item in listed]


def takes_drop_in(text: str | None, config_path: str, drop_in: str, engine: int | None) -> int | None:
    """Return the config version (int) that a drop-in at the path drop_in needs, or None if it would not be read or
    would do harm.

    containerd 2.x merges an imported file setting by setting; 1.x replaces each plugin's whole section by that of the
    imported file, so that a drop-in would lose the main file's settings of CRI.
    """
    if text is None or engine is None or engine < 2:
        return None
    document = keys.read(text, engine)
    if not any(fnmatch.fnmatch(drop_in, pattern) for pattern in imports_of(document, config_path)):
        return None
    return version_of(document, engine)


def candidate_text(
    text: str,
    config_path: str,
    matches: Callable[[str], list[str]],
    stand_ins: dict[str, str | None] | None = None,
) -> str:
    """Return the text for a trial `config dump` from another place, with the imports that the real place has.

    A pattern may match the file itself, whose old content would then be merged over the new one. matches: function
    (pattern) -> list of paths. stand_ins: imported path -> path of the file to take instead, None for no file.
    """
    document = keys.read(text)
    patterns = imports_of(document, config_path)
    stand_ins = dict(stand_ins or {})
    imports: list[str] = []
    for pattern in patterns:
        found = {pattern}
        ours = {path for path in (config_path, *stand_ins) if fnmatch.fnmatch(path, pattern)}
        if "*" in pattern and ours:
            found = set(matches(pattern)) | ours
        taken = [stand_ins.get(path, path) for path in sorted(found) if path != config_path]
        imports.extend(path for path in taken if path is not None)
    entry = document.find(("imports",))
    if not isinstance(entry, toml_text.Entry) or not patterns:
        return text
    raw = "[%s]" % ", ".join(map(toml_text.string_text, imports))
    return replace(text, entry.value.start, entry.value.end, raw)
