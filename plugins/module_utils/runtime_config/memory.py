# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What state=present leaves behind so that state=absent finds the way back.

The choice: one small JSON file per configuration file and runtime name in a directory of ours (default
/var/lib/kubegpu/runtime-config, mode 0700, files 0600, since a configuration may hold credentials). Not the backups:
the operator may delete them, and after several runs the newest is not the one to go back to.

It remembers two things:
- the text as it would be without us, and the SHA-256 of the text that we wrote. As long as the file still has
  that digest, absent puts the remembered text back byte for byte, or removes the file if there was none;
- value by value what was there before (the former default runtime), for the case that somebody edited the file
  since. Then their edits stay, and a value is put back only if it still is what we made it.

A further present run with other arguments keeps the first text; after somebody's edit it takes the edited text
without our part. The file is written before the configuration, so a run that dies in between leaves a memory
whose digest matches nothing, which is harmless.

It also keeps the last text that the daemon is known to have run with (good). A run that wrote and died before it
applied leaves no backup to the next one, which has this to go back to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional

FORMAT = 1


@dataclass(frozen=True)
class Slot:
    """One value that we set: the raw text of what we set and of what was there before (None: nothing)."""

    set: str
    before: Optional[str]


@dataclass(frozen=True)
class Good:
    """A text (None: no file) that the daemon ran with."""

    text: Optional[str]


@dataclass(frozen=True)
class Memory:
    """before: str or None, the text without us (None: no file); after: SHA-256 in hex of what we wrote;
    slots: value name -> Slot; created: names of containers (or raw blocks of text) that we added;
    good: the last text that was in effect before what we wrote, None if that is not known."""

    before: Optional[str]
    after: str
    slots: Dict[str, Slot] = field(default_factory=dict)
    created: List[str] = field(default_factory=list)
    good: Optional[Good] = None

    def wrote(self, text: str | None) -> bool:
        """True if text is exactly what we wrote last."""
        return text is not None and digest(text) == self.after


def roll_back(text: str | None, memory: Memory | None) -> tuple[str | None, Memory | None]:
    """Return (text to go back to, Memory that belongs to it or None) for a text that we wrote and that is not taken.

    That is the last text that was in effect, or the one without us. Returns (text, memory) if memory is None or the
    text is not what we wrote: then somebody else has been there.
    """
    if memory is None or not memory.wrote(text):
        return text, memory
    back = memory.good.text if memory.good is not None else memory.before
    if back is None or back == memory.before:
        # Without a file there is nothing of ours left to remember.
        return back, None
    return back, replace(memory, after=digest(back), good=None)


def digest(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def keep_slot(slots: dict[str, Slot], name: str, current: str | None, wanted: str) -> dict[str, Slot]:
    """Return slots with name noted: current is what is there now (raw text or None), wanted what will be.

    A value that already is as wanted is not ours unless we noted it earlier; one that we set earlier keeps what
    was before us; one that somebody changed since is what was before us from now on.
    """
    old = slots.get(name)
    if current == wanted:
        return dict(slots)
    before = old.before if old is not None and current == old.set else current
    return dict(slots, **{name: Slot(wanted, before)})


def dumps(memory: Memory, config_path: str, name: str) -> str:
    """Return the memory file's text."""
    data: Dict[str, Any] = {
        "format": FORMAT,
        "config_path": config_path,
        "runtime": name,
        "before": memory.before,
        "after_sha256": memory.after,
        "slots": {key: {"set": slot.set, "before": slot.before} for key, slot in memory.slots.items()},
        "created": memory.created,
    }
    if memory.good is not None:
        data["good"] = {"text": memory.good.text}
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def loads(text: str) -> Memory:
    """Return the Memory in a memory file's text. Raises ValueError if it is not one."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError("not a memory file of format %d" % FORMAT)
    try:
        slots = {key: Slot(str(slot["set"]), slot["before"]) for key, slot in data["slots"].items()}
        good = Good(data["good"]["text"]) if data.get("good") is not None else None
        memory = Memory(data["before"], str(data["after_sha256"]), slots, list(data["created"]), good)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("incomplete memory file: %s" % error) from error
    texts = [memory.before, *memory.created, *[slot.before for slot in memory.slots.values()], good and good.text]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError("a text in the memory file is not a string")
    return memory


def file_name(config_path: str, name: str) -> str:
    """Return the memory file's name for a configuration file (absolute path) and a runtime name."""
    readable = "".join(c if c.isalnum() or c in ".-" else "_" for c in config_path.strip("/"))[-80:]
    return "%s.%s.json" % (readable, digest(config_path + "\0" + name)[:12])
