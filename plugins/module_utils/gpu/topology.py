# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each two GPUs are connected, in the words of ``nvidia-smi topo -m``.

``NV<n>``: n bonded NVLinks. Else the path over PCI Express: ``PIX`` at most one bridge, ``PXB`` several bridges,
``PHB`` the host bridge, ``NODE`` between host bridges of one NUMA node, ``SYS`` between NUMA nodes.
"""

from __future__ import annotations

import os
import re
from typing import Any

# NVML's nvmlGpuTopologyLevel_t. Level 0 is two GPUs on one board, which meet in that board's one bridge.
PATHS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_WORDS = frozenset(PATHS.values())
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_ADDRESS = re.compile(r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")


def pair(one: int, other: int, nvlinks: int | None, path: str | None) -> dict[str, Any]:
    """The connection of two GPUs.

    Args:
        one (int): index of a GPU.
        other (int): index of another.
        nvlinks (int | None): how many NVLinks connect them; None: unknown.
        path (str | None): over PCI Express.

    Returns:
        dict: ``gpus``, ``connection`` (NVLink before PCI Express; None: unknown) and ``nvlinks``.
    """
    return {"gpus": [one, other], "connection": f"NV{nvlinks}" if nvlinks else path, "nvlinks": nvlinks}


def parse(text: str, gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Connections from the matrix that ``nvidia-smi topo -m`` prints.

    Args:
        text (str): its output. Columns of network cards and affinities, and rows of the cards, are left out.
        gpus (list[dict]): the GPUs, of which those that are not in the matrix are lost.

    Returns:
        list[dict]: as ``pair``, for each two GPUs.
    """
    rows, columns = {}, None
    for line in _ESCAPES.sub("", text).splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        if columns is None and cells[0] == "" and "GPU0" in cells:
            columns = cells
        elif columns is not None and re.match(r"^GPU\d+$", cells[0]):
            rows[cells[0]] = dict(zip(columns[1:], cells[1:]))  # noqa: B905 -- Python 3.10 and later only
    # The matrix numbers the GPUs that answer, which are ours without the lost ones.
    names = {gpu["index"]: f"GPU{place}" for place, gpu in enumerate(gpu for gpu in gpus if not gpu["lost"])}
    pairs = []
    for place, one in enumerate(gpus):
        for other in gpus[place + 1 :]:
            a, b = one["index"], other["index"]
            pairs.append(pair(a, b, *_cell(rows.get(names.get(a) or "", {}).get(names.get(b) or ""))))
    return pairs


def _cell(word: str | None) -> tuple[int | None, str | None]:
    links = re.match(r"^NV(\d+)$", word or "")
    if links:
        return int(links.group(1)), None
    return (0, word) if word in _WORDS else (None, None)


def from_sysfs(gpus: list[dict[str, Any]], root: str = "/") -> list[dict[str, Any]]:
    """Connections as far as the kernel knows them: of NVLinks it knows nothing.

    Args:
        gpus (list[dict]): with ``pci.bus_id`` and ``pci.numa_node``.
        root (str): directory below which ``sys`` lies.

    Returns:
        list[dict]: as ``pair``, with ``nvlinks`` None.
    """
    pairs = []
    for place, one in enumerate(gpus):
        for other in gpus[place + 1 :]:
            pairs.append(pair(one["index"], other["index"], None, path(one["pci"], other["pci"], root)))
    return pairs


def path(one: dict[str, Any], other: dict[str, Any], root: str = "/") -> str | None:
    """The path over PCI Express between two devices.

    Args:
        one (dict): ``bus_id`` and ``numa_node`` of a device.
        other (dict): of another.
        root (str): directory below which ``sys`` lies.

    Returns:
        str | None: ``PIX``, ``PXB``, ``PHB``, ``NODE`` or ``SYS``; None where sysfs does not tell.
    """
    nodes = {one["numa_node"], other["numa_node"]}
    if None not in nodes and len(nodes) == 2:
        return "SYS"
    first, second = _bridges(one["bus_id"], root), _bridges(other["bus_id"], root)
    if not first or not second:
        return None
    if first[0] != second[0]:
        # Two host bridges: in one node if the kernel says so, or if it knows of no nodes at all.
        return "NODE"
    common = 0
    while common < min(len(first), len(second)) and first[common] == second[common]:
        common += 1
    if common == 1:
        return "PHB"
    # A switch is one bridge upwards and one downwards to each device; two devices below one switch pass only it.
    between = max(len(first), len(second)) - common
    return "PIX" if between <= 1 else "PXB"


def _bridges(address: str, root: str) -> list[str]:
    """What lies between the root of the PCI tree and a device, from the host bridge down, without the device."""
    if not address:
        return []
    device = os.path.join(root, "sys/bus/pci/devices", address)
    if not os.path.islink(device):
        return []
    parts = os.path.realpath(device).split(os.sep)[:-1]
    start = next((place for place, part in enumerate(parts) if re.match(r"^pci[0-9a-f]{4,}:[0-9a-f]{2}$", part)), None)
    if start is None:
        return []
    return [parts[start]] + [part for part in parts[start + 1 :] if _ADDRESS.match(part)]
