# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which facts to gather: names as in ``gather_subset`` of Ansible's setup module."""

from __future__ import annotations

from typing import Any

# What each name stands for, for people who read an error message.
SUBSETS = {
    "driver": "driver, versions, and what is wrong",
    "gpus": "who the GPUs are, their memory, PCI links and modes",
    "mig": "MIG mode and instances",
    "ecc": "ECC modes and errors, retired pages, remapped rows",
    "power": "power draw and limits",
    "clocks": "clocks, and why they are held down",
    "temperature": "temperatures, thresholds and fan",
    "utilization": "how busy the GPUs are",
    "processes": "processes on the GPUs",
    "nvlink": "NVLinks and where they lead",
    "topology": "how each two GPUs are connected",
    "services": "persistence daemon and fabric manager",
    "toolkit": "NVIDIA Container Toolkit",
    "host": "kernel, control groups, Secure Boot",
}
MINIMAL = frozenset(("driver",))
# Fields of a GPU that one subset fills; all other fields belong to "gpus".
GPU_FIELDS = {
    "mig": ("mig",),
    "ecc": ("ecc", "retired_pages", "remapped_rows"),
    "power": ("power",),
    "clocks": ("clocks",),
    "temperature": ("temperature", "fan_speed_percent"),
    "utilization": ("utilization",),
    "processes": ("process_count", "processes"),
    "nvlink": ("nvlink",),
}
# These say nothing without knowing the GPUs, and ask the driver for each of them.
OF_GPUS = frozenset(GPU_FIELDS) | {"topology"}


def choose(wanted: list[str]) -> frozenset[str]:
    """The subsets to gather.

    The rules are those of Ansible's setup: ``all``, ``min`` and names add, ``!`` takes away, a name that was given
    wins over ``!``, the minimal subset is gathered unless ``!min`` is there, and a list that only takes away starts
    from all.

    Args:
        wanted (Sequence[str]): as given to the module.

    Returns:
        frozenset[str]: of SUBSETS.

    Raises:
        ValueError: a name is not known; the message names it and lists those that are.
    """
    every = frozenset(SUBSETS)
    added = set(MINIMAL)
    excluded: set[str] = set()
    explicit: set[str] = set()
    only_takes_away = True
    for word in wanted:
        name = word[1:] if word.startswith("!") else word
        if name not in every and name not in ("all", "min"):
            raise ValueError(
                f"gather_subset: {word!r} is not one of all, min, {', '.join(sorted(every))}, or one of these after '!'"
            )
        if word.startswith("!"):
            excluded |= _taken_away(name, every)
            only_takes_away = only_takes_away and name != "all"
            continue
        only_takes_away = False
        added |= {"all": every, "min": MINIMAL}.get(name, {name})
        if name in every:
            explicit.add(name)
    if only_takes_away:
        added |= every
    chosen = added - (excluded - explicit)
    if chosen & OF_GPUS:
        chosen.add("gpus")
    return frozenset(chosen)


def _taken_away(name: str, every: frozenset[str]) -> frozenset[str]:
    if name == "all":
        return every - MINIMAL
    if name == "min":
        return MINIMAL
    return frozenset(OF_GPUS | {"gpus"} if name == "gpus" else {name})


def asks_the_driver(chosen: frozenset[str]) -> bool:
    """Whether any of the subsets needs NVML or nvidia-smi."""
    return bool(chosen & ({"driver", "gpus"} | OF_GPUS))


def mask(gpu: dict[str, Any], empty: dict[str, Any], chosen: frozenset[str]) -> None:
    """Puts a GPU's fields of other subsets back to what they are in ``empty``; changes ``gpu`` in place."""
    for subset, fields in GPU_FIELDS.items():
        if subset not in chosen:
            for field in fields:
                gpu[field] = empty[field]
