# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver's daemons: nvidia-persistenced and nv-fabricmanager.

They are looked for among the processes, not asked for from systemd: they also run in containers and without systemd.
"""

from __future__ import annotations

import os
import re
from typing import Any

_DIRECTORIES = ("usr/bin", "usr/sbin", "usr/local/bin", "opt/nvidia/bin", "run/nvidia/driver/usr/bin")
_NAME_LENGTH = 15  # what the kernel keeps of a process' name (Linux, proc(5), /proc/pid/comm)


def read(root: str = "/") -> dict[str, Any]:
    """Whether the daemons are installed and run.

    Args:
        root (str): directory below which ``proc`` and ``usr`` lie.

    Returns:
        dict: ``persistenced`` and ``fabric_manager``, each with ``installed`` and ``running``.
    """
    names = process_names(root)
    return {
        fact: {"installed": _installed(program, root), "running": program[:_NAME_LENGTH] in names}
        for fact, program in (("persistenced", "nvidia-persistenced"), ("fabric_manager", "nv-fabricmanager"))
    }


def unknown() -> dict[str, Any]:
    """The same keys where nobody looked."""
    return {fact: {"installed": None, "running": None} for fact in ("persistenced", "fabric_manager")}


def process_names(root: str = "/") -> set[str]:
    """Names of all processes, each cut to 15 characters."""
    folder = os.path.join(root, "proc")
    names = set()
    for entry in _entries(folder):
        if re.match(r"^\d+$", entry):
            try:
                with open(os.path.join(folder, entry, "comm"), encoding="utf-8", errors="replace") as file:
                    names.add(file.read().strip())
            except OSError:
                # It ended between being listed and being looked at.
                continue
    return names


def fabric_manager(daemon: dict[str, Any], devices: list[dict[str, Any]], gpus: list[dict[str, Any]]) -> dict[str, Any]:
    """The fabric manager, and whether this machine needs it.

    Machines with NVSwitches (HGX, DGX) do, and boards whose driver waits to be registered with an NVLink fabric. On
    the latter it may run elsewhere: on the host of a virtual machine, or as part of the rack.

    Args:
        daemon (dict): ``installed`` and ``running``, as of ``read``.
        devices (list[dict]): as ``host.devices_on_pci``.
        gpus (list[dict]): the GPUs.

    Returns:
        dict: ``needed``, ``installed``, ``running`` and ``fabric_state``: the least that one of the GPUs has reached
        of ``not_started``, ``in_progress``, ``completed``; None where no GPU is part of a fabric.
    """
    states = {gpu["fabric"]["state"] for gpu in gpus}
    state = next((step for step in ("not_started", "in_progress", "completed") if step in states), None)
    switches = any(device["kind"] == "nvswitch" for device in devices)
    return dict(daemon, needed=switches or state is not None, fabric_state=state)


def _installed(program: str, root: str) -> bool:
    return any(os.path.exists(os.path.join(root, folder, program)) for folder in _DIRECTORIES)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
