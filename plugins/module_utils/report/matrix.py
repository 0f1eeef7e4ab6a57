# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The topology of a node as a matrix, and the nodes that share it."""

from __future__ import annotations

from typing import Any


def matrix(gpus: list[int], pairs: list[dict[str, Any]] | None) -> list[list[str | None]]:
    """How each two GPUs are connected.

    Args:
        gpus (list[int]): indices.
        pairs (list[dict] | None): ``gpus`` (two indices) and ``connection``, as nvidia_gpu_facts returns them.

    Returns:
        list[list[str | None]]: a row for each GPU; ``X`` on the diagonal, None where nothing is known.
    """
    known = {}
    for pair in pairs or []:
        one, other = pair["gpus"]
        known[one, other] = known[other, one] = pair.get("connection")
    return [["X" if one == other else known.get((one, other)) for other in gpus] for one in gpus]


def group(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nodes by the topology that they have in common; those with less than two GPUs have none.

    Args:
        nodes (list[dict]): ``host``, ``model``, ``indices``, ``numa`` and ``pairs``.

    Returns:
        list[dict]: ``model``, ``indices``, ``numa``, ``rows`` (see matrix) and ``hosts``; the most common one first.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for node in nodes:
        if len(node["indices"]) < 2:
            continue
        rows = matrix(node["indices"], node["pairs"])
        if not any(cell not in (None, "X") for row in rows for cell in row):
            continue
        key = (node["model"], tuple(node["indices"]), tuple(node["numa"]), tuple(tuple(row) for row in rows))
        groups.setdefault(key, []).append(node["host"])
    found = [
        {
            "model": key[0],
            "indices": list(key[1]),
            "numa": list(key[2]),
            "rows": [list(row) for row in key[3]],
            "hosts": hosts,
        }
        for key, hosts in groups.items()
    ]
    return sorted(found, key=lambda item: (-len(item["hosts"]), item["model"], item["hosts"]))


def kind(connection: str | None) -> str:
    """Class of a connection: ``nvlink``, ``pix``, ``pxb``, ``phb``, ``node``, ``sys`` or ``unknown``."""
    word = ("%s" % (connection,)).upper()
    if word.startswith("NV") and word[2:].isdigit():
        return "nvlink"
    return word.lower() if word in ("PIX", "PXB", "PHB", "NODE", "SYS") else "unknown"
