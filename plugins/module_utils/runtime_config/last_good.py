# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last text of a configuration file that its daemon is known to have run with, for state=rolled_back.

For daemons that read their files only when they start. A run may write and not be allowed to restart; the run that
restarts, and finds that the daemon does not come up, has nothing of its own to put back. So the text that was in effect
is kept, over all runs that write before the next successful start, with the memories that belong to it: in one JSON
file (mode 0600) for each configuration file, beside the memories.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from . import files
from . import memory as memories
from .text.lines import ConfigError


@dataclass(frozen=True)
class LastGood:
    """text: in effect, None for no file; memories: runtime name -> Memory that belongs to it, None for none;
    after: digest of what was written over it, the empty str for a file that was removed."""

    text: Optional[str]
    memories: Dict[str, Optional[memories.Memory]] = field(default_factory=dict)
    after: str = ""


def find(folder: str, config_path: str, text: str | None) -> LastGood | None:
    """Return the LastGood of a file (absolute path) that holds the text (str, None for no file), or None if there is
    none, or if the file was changed by others since."""
    known = _read(folder, config_path)
    return known if known is not None and known.after == _digest(text) else None


def note(
    module: Any,
    folder: str,
    config_path: str,
    name: str,
    old: tuple[str | None, memories.Memory | None],
    new: str | None,
    in_effect: bool,
) -> None:
    """Note that a file is about to be changed for the runtime called name. Raises OSError.

    old: what it holds, with the memory for name. new: what it will hold, None for no file. in_effect: whether the
    daemon is known to run with what it holds; if not, what an earlier run noted stays.
    """
    known = None if in_effect else find(folder, config_path, old[0])
    good = known if known is not None else LastGood(old[0])
    kept = dict(good.memories)
    kept.setdefault(name, old[1])
    _write(module, folder, config_path, LastGood(good.text, kept, _digest(new)))


def forget(folder: str, config_path: str) -> None:
    """Remove what was noted for a file (absolute path). Raises OSError."""
    path = os.path.join(folder, _file_name(config_path))
    if os.path.exists(path):
        os.unlink(path)


def _digest(text: str | None) -> str:
    return "" if text is None else memories.digest(text)


def _file_name(config_path: str) -> str:
    return memories.file_name(config_path, "") + ".good"


def _read(folder: str, config_path: str) -> LastGood | None:
    try:
        data = json.loads(files.read(os.path.join(folder, _file_name(config_path))) or "null")
        kept = {name: None if text is None else memories.loads(text) for name, text in (data or {})["memories"].items()}
        return LastGood(data["text"], kept, str(data["after"]))
    except (AttributeError, ConfigError, KeyError, OSError, TypeError, ValueError):
        return None


def _write(module: Any, folder: str, config_path: str, good: LastGood) -> None:
    kept = {
        name: None if memory is None else memories.dumps(memory, config_path, name)
        for name, memory in good.memories.items()
    }
    text = json.dumps({"text": good.text, "memories": kept, "after": good.after}, indent=1, sort_keys=True) + "\n"
    files.write_private(module, os.path.join(folder, _file_name(config_path)), text)
