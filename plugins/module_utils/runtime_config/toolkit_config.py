# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings in /etc/nvidia-container-runtime/config.toml, edited as text.

The packages ship the file with most settings commented out, such as `#no-cgroups = false`. A setting takes the place of
its commented line, so that the file keeps its order; without one it goes below its table's last setting. Keys and their
types are those of the toolkit (internal/config of NVIDIA/nvidia-container-toolkit).
"""

from __future__ import annotations

import re
from typing import List, Mapping, Union

from .memory import Memory, Slot, digest
from .text import toml_text
from .text.lines import ConfigError, replace
from .text.toml_editor import TomlEditor

Setting = Union[bool, str, List[str]]

CLI = ("nvidia-container-cli",)
RUNTIME = ("nvidia-container-runtime",)

PLACES = {
    "mode": (RUNTIME, "mode"),
    "runtimes": (RUNTIME, "runtimes"),
    "debug": (RUNTIME, "debug"),
    "log_level": (RUNTIME, "log-level"),
    "cli_debug": (CLI, "debug"),
    "no_cgroups": (CLI, "no-cgroups"),
    "accept_envvar_when_unprivileged": ((), "accept-nvidia-visible-devices-envvar-when-unprivileged"),
    "accept_as_volume_mounts": ((), "accept-nvidia-visible-devices-as-volume-mounts"),
}
"""Option of the module -> (path of the table, key)."""


def apply(text: str, settings: Mapping[str, Setting]) -> str:
    """Return text with the settings (option -> value) in it; what means the same already stays as it is.

    Raises ConfigError with line and column for what is not TOML or cannot be edited safely.
    """
    editor = _Editor(text)
    for option in sorted(settings):
        table, key = PLACES[option]
        editor.set_key(table, key, _raw(settings[option]))
    for option in settings:
        table, key = PLACES[option]
        # a commented line in the middle of a string of several lines is none
        if editor.value((*table, key)) != settings[option]:
            raise ConfigError("no safe place for %s was found; add it by hand" % toml_text.path_text((*table, key)))
    return editor.text


def remember(text: str, settings: Mapping[str, Setting], memory: Memory | None) -> Memory | None:
    """Return what to remember before the settings are applied to text; memory is that of earlier runs or None.

    It is what restore needs to take them back. Raises ConfigError.
    """
    after = apply(text, settings)
    if after == text:
        return memory
    old, new = _Editor(text), _Editor(after)
    slots = dict(memory.slots) if memory else {}
    for option in settings:
        place = (*PLACES[option][0], PLACES[option][1])
        current, wanted = old.raw(place), new.raw(place)
        if wanted is not None and current != wanted:
            # One that we set earlier keeps what was before us.
            ours = option in slots and slots[option].set == current
            slots[option] = Slot(wanted, slots[option].before if ours else current)
    before = restore(text, memory) if memory else text
    return Memory(before, digest(after), slots)


def restore(text: str, memory: Memory) -> str:
    """Return text without what the runs of memory set: byte for byte if it was not edited since, else value by value,
    as far as they are still ours. Raises ConfigError."""
    if memory.wrote(text) and memory.before is not None:
        return memory.before
    editor = _Editor(text)
    for option, slot in memory.slots.items():
        table, key = PLACES[option]
        if editor.raw((*table, key)) != slot.set:
            continue
        if slot.before is not None:
            editor.set_key(table, key, slot.before)
        else:
            editor.remove_key((*table, key))
    return editor.text


def _raw(value: Setting) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[%s]" % ", ".join(map(toml_text.string_text, value))
    return toml_text.string_text(value)


class _Editor(TomlEditor):
    """Knows commented settings, and keys that are in no table."""

    def append_block(self, lines: list[str], indent: str = "") -> None:
        self.add_block(len(self.text.rstrip("\r\n")), lines, indent)

    def remove_key(self, path: tuple[str, ...]) -> None:
        """Remove a key that has a line of its own."""
        found = self.document.find(path)
        if isinstance(found, toml_text.Entry) and self.stands_alone(found):
            self.remove_lines(found.start, found.value.end)

    def set_key(self, table_path: tuple[str, ...], key: str, raw: str) -> None:
        table = self.document.find(table_path) if table_path else self.document.root
        if (
            self.document.find((*table_path, key)) is not None
            or not isinstance(table, toml_text.Table)
            or table.kind not in ("root", "header")
        ):
            super().set_key(table_path, key, raw)
            return
        line = "%s = %s" % (key, raw)
        start, end = self._body(table)
        # A commented line of this key in the table's body gives its place up.
        comment = re.compile(r"^[ \t]*#[ \t]*%s[ \t]*=[^\r\n]*" % re.escape(key), re.MULTILINE).search(
            self.text, start, end
        )
        if comment:
            self.change(replace(self.text, comment.start(), comment.end(), line))
        elif table.kind == "header":
            super().set_key(table_path, key, raw)
        elif table.own:
            at = self.line_end(table.own[-1].value.end)
            self.change(replace(self.text, at, at, self.newline + line))
        else:
            self.change(replace(self.text, start, start, line + self.newline))

    def _body(self, table: toml_text.Table) -> tuple[int, int]:
        """Return the offsets between which a table's own statements and comments stand."""
        starts = [header.start for header in self.document.headers]
        if table.kind == "root":
            return self.document.root.start, min(starts, default=len(self.text))
        header = [header for header in self.document.headers if header.table is table][-1]
        return header.end, min([start for start in starts if start > header.start], default=len(self.text))
