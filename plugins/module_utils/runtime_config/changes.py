# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One or more files that change together: reading them, writing them, and their diff.

Members of AnsibleModule in use: those of files.py, and warn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, List, Optional

from . import files, journal, last_good
from .memory import Memory


@dataclass
class Target:
    """One file: what is there (text, None for no file, and our memory) and what shall be (new_text, new_memory).

    restored: what it goes back to, if that is so."""

    path: str
    text: Optional[str]
    memory: Optional[Memory]
    new_text: Optional[str] = None
    new_memory: Optional[Memory] = None
    planned: bool = False
    restored: Optional[last_good.LastGood] = None

    def plan(self, text: str | None, memory: Memory | None) -> None:
        """Set what shall be."""
        self.new_text, self.new_memory, self.planned = text, memory, True

    @property
    def changed(self) -> Any:
        """True if the file's content changes."""
        return self.planned and self.new_text != self.text


@dataclass
class Written:
    """What apply did to one file. backup_file: path or None; existed: whether there was a file before."""

    path: str
    backup_file: Optional[str]
    existed: bool


@dataclass
class Outcome:
    """The files that apply changed, in the order in which it did."""

    written: List[Written] = field(default_factory=list)

    def as_list(self) -> Any:
        """Return the files as a list of dicts, as modules return them."""
        return [vars(item) for item in self.written]


def read(module: Any, folder: str, path: str, name: str) -> Target:
    """Return the Target of a file. folder: where the memories are. Raises ConfigError or OSError."""
    memory, warning = files.read_memory(folder, path, name)
    if warning:
        module.warn(warning)
    return Target(path, files.read(path), memory)


def apply(
    module: Any,
    folder: str,
    name: str,
    targets: list[Target],
    backup: bool,
    write: Callable[..., str | None] = files.write,
    in_effect: bool | None = None,
) -> Outcome:
    """Write the planned Targets and their memories; return the Outcome. Raises OSError.

    write: function (module, path, text or None, backup) -> path of the backup or None. in_effect: whether the daemon is
    known to run with what the files hold, for plan_roll_back; None to note nothing for it.
    """
    outcome = Outcome()
    for target in targets:
        if not target.planned:
            continue
        # What to remember goes first: without it the way back would be lost if we died in between.
        if target.new_memory is not None and target.new_memory != target.memory:
            files.write_memory(module, folder, target.path, name, target.new_memory)
        if target.changed:
            journal.note(folder, target.path)
            if in_effect is not None and target.restored is None:
                old = (target.text, target.memory)
                last_good.note(module, folder, target.path, name, old, target.new_text, in_effect)
            backup_file = write(module, target.path, target.new_text, backup)
            journal.note(folder, target.path)
            outcome.written.append(Written(target.path, backup_file, target.text is not None))
        if target.new_memory is None and target.memory is not None:
            files.write_memory(module, folder, target.path, name, None)
        if target.restored is not None:
            for other, memory in target.restored.memories.items():
                files.write_memory(module, folder, target.path, other, memory)
            last_good.forget(folder, target.path)
    return outcome


def plan_roll_back(folder: str, name: str, targets: list[Target]) -> None:
    """Plan that Targets which only earlier runs changed since then get the last text that was in effect."""
    for target in targets:
        target.restored = last_good.find(folder, target.path, target.text)
        if target.restored is not None:
            target.plan(target.restored.text, target.restored.memories.get(name))


def last_change(folder: str, paths: list[str]) -> float | None:
    """Return the time of the newest change of the paths in seconds since the epoch, or None."""
    times = [files.changed_at(path) for path in paths] + [journal.noted(folder, path) for path in paths]
    return max([time for time in times if time is not None], default=None)


def diff(targets: list[Target], fallback: Target) -> list[dict[str, str]] | dict[str, str]:
    """Return the diff of the Targets that change: one dict, or a list of them for several files.

    fallback: Target to show where none changes."""
    shown = [target for target in targets if target.changed] or [fallback]
    found = [files.diff(item.path, item.text, item.new_text if item.planned else item.text) for item in shown]
    return found[0] if len(found) == 1 else found
