# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs between nodes that should be the same, and between the GPUs of one node."""

from __future__ import annotations

from typing import Any, Iterable

from .words import natural


def compare(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Settings in which nodes of one group differ.

    Args:
        nodes (list[dict]): ``host``, ``group`` and ``settings``: name -> value, or list of the distinct values of the
            node's GPUs. None and empty lists are not known, and never a difference.

    Returns:
        list[dict]: ``group``, ``hosts`` (how many), ``setting``, and ``values``: a list of ``value`` and ``hosts``, the
        most common first. Ordered by group, then as the settings are.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        groups.setdefault(node["group"], []).append(node)
    found = []
    for name in sorted(groups, key=natural):
        members = groups[name]
        for setting in _settings(members):
            values = _values(members, setting)
            # What all of several nodes have in the same mixture is meant to be so, like MIG on one GPU of four.
            if len(values) > 1 or (len(members) == 1 and any(value["mixed"] for value in values)):
                found.append({"group": name, "hosts": len(members), "setting": setting, "values": values})
    return found


def _settings(nodes: list[dict[str, Any]]) -> list[str]:
    names = []
    for node in nodes:
        names += [name for name in node["settings"] if name not in names]
    return names


def _values(nodes: list[dict[str, Any]], setting: str) -> list[dict[str, Any]]:
    hosts: dict[tuple[str, ...], list[str]] = {}
    for node in nodes:
        value = node["settings"].get(setting)
        values = value if isinstance(value, list) else [value]
        key = tuple(sorted({"%s" % (item,) for item in values if item is not None and item != ""}, key=natural))
        if key:
            hosts.setdefault(key, []).append(node["host"])
    ordered = sorted(hosts.items(), key=lambda item: (-len(item[1]), [natural(part) for part in item[0]]))
    return [
        {"value": " + ".join(key), "mixed": len(key) > 1, "hosts": sorted(names, key=natural)} for key, names in ordered
    ]


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values that are known, each once, in the order of their appearance."""
    found = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found
