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
from typing import Mapping

from . import toml_text
from .text import ConfigError, error_at, newline_of, replace

CLI = ("nvidia-container-cli",)
RUNTIME = ("nvidia-container-runtime",)

PLACES = {
    "mode": (RUNTIME, "mode"),
    "debug": (RUNTIME, "debug"),
    "log_level": (RUNTIME, "log-level"),
    "cli_debug": (CLI, "debug"),
    "no_cgroups": (CLI, "no-cgroups"),
    "accept_envvar_when_unprivileged": ((), "accept-nvidia-visible-devices-envvar-when-unprivileged"),
    "accept_as_volume_mounts": ((), "accept-nvidia-visible-devices-as-volume-mounts"),
}
"""Option of the module -> (path of the table, key)."""


def apply(text: str, settings: Mapping[str, bool | str]) -> str:
    """Return text with the settings (option -> bool or str) in it; what means the same already stays as it is.

    Raises ConfigError with line and column for what is not TOML or cannot be edited safely.
    """
    for option in sorted(settings):
        table, key = PLACES[option]
        text = _set(text, table, key, settings[option])
    document = toml_text.scan(text)
    for option in settings:
        table, key = PLACES[option]
        found = document.find((*table, key))
        # a commented line in the middle of a string of several lines is none
        if not isinstance(found, toml_text.Entry) or toml_text.to_python(found) != settings[option]:
            raise ConfigError("no safe place for %s was found; add it by hand" % toml_text.path_text((*table, key)))
    return text


def _raw(value: bool | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return toml_text.string_text(value)


def _set(text: str, table_path: tuple[str, ...], key: str, value: bool | str) -> str:
    document = toml_text.scan(text)
    found = document.find((*table_path, key))
    if isinstance(found, toml_text.Entry):
        if toml_text.to_python(found) == value:
            return text
        return replace(text, found.value.start, found.value.end, _raw(value))
    if found is not None:
        raise _unsafe(text, found, (*table_path, key))
    line = "%s = %s" % (toml_text.key_text(key), _raw(value))
    newline = newline_of(text)
    table = document.find(table_path) if table_path else document.root
    if table is None:
        body = text if not text or text.endswith("\n") else text + newline
        return body + (newline if body.strip() else "") + "[%s]%s%s%s" % (
            toml_text.path_text(table_path), newline, line, newline,
        )  # fmt: skip
    if not isinstance(table, toml_text.Table) or table.kind not in ("root", "header"):
        raise _unsafe(text, table, table_path)
    start, end = _body(document, table)
    # A commented line of this key in the table's body gives its place up.
    comment = re.compile(r"^[ \t]*#[ \t]*%s[ \t]*=[^\r\n]*" % re.escape(key), re.MULTILINE).search(text, start, end)
    if comment:
        return replace(text, comment.start(), comment.end(), line)
    if table.own or table.kind == "header":
        at = _line_end(text, table.own[-1].value.end if table.own else table.end)
        return replace(text, at, at, newline + line)
    return replace(text, start, start, line + newline)


def _body(document: toml_text.Document, table: toml_text.Table) -> tuple[int, int]:
    """Return the offsets between which a table's own statements and comments stand."""
    starts = [header.start for header in document.headers]
    if table.kind == "root":
        return document.root.start, min(starts, default=len(document.text))
    header = [header for header in document.headers if header.table is table][-1]
    return header.end, min([start for start in starts if start > header.start], default=len(document.text))


def _line_end(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    if end < 0:
        return len(text)
    return end - 1 if text[end - 1] == "\r" else end


def _unsafe(
    text: str, there: toml_text.Table | toml_text.Entry | list[toml_text.Table], path: tuple[str, ...]
) -> ConfigError:
    first = there[0] if isinstance(there, list) else there
    message = "%s is written in a way that cannot be edited safely; write it as a plain table or key"
    return error_at(text, first.start, message % toml_text.path_text(path))
