# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fields of a GPU and their units: every source fills the same dict, and what it cannot know stays None."""

from __future__ import annotations

import re
from typing import Any, Iterable

# NVML's nvmlBrandType_t (nvml.h), with the names that nvidia-smi prints.
BRANDS = {
    1: "Quadro",
    2: "Tesla",
    3: "NVS",
    4: "GRID",
    5: "GeForce",
    6: "Titan",
    7: "NVIDIA Virtual Applications",
    8: "NVIDIA Virtual PC",
    9: "NVIDIA Virtual Compute Server",
    10: "NVIDIA RTX Virtual Workstation",
    11: "NVIDIA Cloud Gaming",
    12: "Quadro RTX",
    13: "NVIDIA RTX",
    14: "NVIDIA",
    15: "GeForce RTX",
    16: "Titan RTX",
}

# NVML's nvmlDeviceArchitecture_t (nvml.h), with the names that nvidia-smi prints.
ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada Lovelace",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}

# NVML's nvmlComputeMode_t.
COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}

# NVML's nvmlGpuVirtualizationMode_t.
VIRTUALIZATION_MODES = {0: "none", 1: "pass_through", 2: "vgpu", 3: "host_vgpu", 4: "host_vsga"}

# NVML's nvmlClocksEventReasons (nvml.h), bit by bit: why clocks are lower than they could be.
CLOCK_EVENT_REASONS = (
    (0x1, "gpu_idle"),
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clocks_setting"),
)

# NVML's nvmlDeviceGpuRecoveryAction_t: what the driver itself wants to be done with a GPU.
RECOVERY_ACTIONS = {
    0: "none",
    1: "reset",
    2: "reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}

# NVML's nvmlGpuFabricState_t.
FABRIC_STATES = {1: "not_started", 2: "in_progress", 3: "completed"}

_BUS_ID = re.compile(r"^(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])$")


def empty_gpu() -> dict[str, Any]:
    """A GPU of which nothing is known.

    Returns:
        dict: every key that a GPU can have. Bytes, watts, MHz and degrees Celsius are named in the keys.
    """
    return {
        "index": None,
        "minor_number": None,
        "uuid": None,
        "name": None,
        "brand": None,
        "architecture": None,
        "compute_capability": None,
        "serial": None,
        "vbios_version": None,
        "board_part_number": None,
        "gsp_firmware_version": None,
        "memory_total_bytes": None,
        "memory_used_bytes": None,
        "memory_free_bytes": None,
        "memory_reserved_bytes": None,
        "bar1_total_bytes": None,
        "bar1_used_bytes": None,
        "pci": {
            "bus_id": None,
            "vendor_id": None,
            "device_id": None,
            "subsystem_vendor_id": None,
            "subsystem_device_id": None,
            "numa_node": None,
            "link_generation_current": None,
            "link_generation_max": None,
            "link_width_current": None,
            "link_width_max": None,
        },
        "mig": {"capable": None, "mode": None, "pending_mode": None, "instances": []},
        "ecc": {
            "mode": None,
            "pending_mode": None,
            "volatile": {"corrected": None, "uncorrected": None},
            "aggregate": {"corrected": None, "uncorrected": None},
        },
        "retired_pages": {"single_bit": None, "double_bit": None, "pending": None},
        "remapped_rows": {
            "correctable": None,
            "uncorrectable": None,
            "pending": None,
            "failed": None,
            # How many banks have how many spare rows left.
            "spare_rows_banks": {"max": None, "high": None, "partial": None, "low": None, "none": None},
        },
        "persistence_mode": None,
        "compute_mode": None,
        "performance_state": None,
        "virtualization_mode": None,
        "power": {
            "draw_watts": None,
            "limit_watts": None,
            "limit_default_watts": None,
            "limit_min_watts": None,
            "limit_max_watts": None,
        },
        "clocks": {
            "graphics_mhz": None,
            "sm_mhz": None,
            "memory_mhz": None,
            "video_mhz": None,
            "graphics_max_mhz": None,
            "sm_max_mhz": None,
            "memory_max_mhz": None,
            "video_max_mhz": None,
            "event_reasons": None,
        },
        "temperature": {
            "gpu_celsius": None,
            "memory_celsius": None,
            "gpu_max_celsius": None,
            "memory_max_celsius": None,
            "slowdown_celsius": None,
            "shutdown_celsius": None,
        },
        "fan_speed_percent": None,
        "utilization": {"gpu_percent": None, "memory_percent": None},
        "nvlink": {"links_total": None, "links_up": None, "link_megabytes_per_second": None, "peers": []},
        "fabric": {"state": None, "clique_id": None, "cluster_uuid": None},
        "process_count": None,
        "processes": [],
        "recovery_action": None,
        "health": None,
        "lost": False,
        "error": None,
    }


def empty_mig_instance() -> dict[str, Any]:
    """A MIG compute instance of which nothing is known."""
    return {
        "index": None,
        "uuid": None,
        "profile": None,
        "gpu_instance_id": None,
        "compute_instance_id": None,
        "memory_total_bytes": None,
    }


def nvlink_peers(links: list[str], gpus: set[str]) -> list[dict[str, Any]]:
    """Where a GPU's active NVLinks lead.

    Args:
        links (Iterable[str | None]): for each active link the PCI address of its other end.
        gpus (Collection[str]): PCI addresses of the GPUs.

    Returns:
        list[dict]: ``bus_id``, ``kind`` (``gpu``, or ``switch`` for whatever else links lead to) and ``links``, sorted.
    """
    counts: dict[str, int] = {}
    for address in links:
        if address is not None:
            counts[address] = counts.get(address, 0) + 1
    return [
        {"bus_id": address, "kind": "gpu" if address in gpus else "switch", "links": counts[address]}
        for address in sorted(counts)
    ]


def merge_processes(found: Iterable[tuple[Any, Iterable[str], int | None, Any, Any]]) -> list[dict[str, Any]]:
    """One entry per process and instance, as nvidia-smi shows them.

    Args:
        found (Iterable[tuple[int, str, int | None, int | None, int | None]]): process id, letters of its kind (``C``
            compute, ``G`` graphics, ``M`` compute through MPS), bytes, GPU instance, compute instance.

    Returns:
        list[dict]: ``pid``, ``type`` (``C``, ``G``, ``C+G``, ``M+C``), ``memory_used_bytes``, ``gpu_instance_id``,
        ``compute_instance_id``.
    """
    merged: dict[tuple[Any, Any, Any], tuple[set[str], int | None]] = {}
    for pid, letters, used, gpu_instance, compute_instance in found:
        key = (pid, -1 if gpu_instance is None else gpu_instance, -1 if compute_instance is None else compute_instance)
        kinds, bytes_before = merged.get(key, (set(), None))
        merged[key] = (kinds | set(letters), used if bytes_before is None else bytes_before)
    return [
        {
            "pid": key[0],
            "type": "+".join(letter for letter in "MCG" if letter in merged[key][0]),
            "memory_used_bytes": merged[key][1],
            "gpu_instance_id": None if key[1] < 0 else key[1],
            "compute_instance_id": None if key[2] < 0 else key[2],
        }
        for key in sorted(merged)
    ]


def bus_id(text: str | None) -> str | None:
    """A PCI address as sysfs writes it.

    NVML and nvidia-smi write ``00000000:3B:00.0`` (eight digits of domain, upper case), the kernel ``0000:3b:00.0``.

    Args:
        text (str): a PCI address in either spelling, or anything else.

    Returns:
        str | None: ``dddd:bb:dd.f`` in lower case; None when the text is no PCI address.
    """
    match = _BUS_ID.match(text.strip()) if text else None
    if not match:
        return None
    domain = int(match.group(1) or "0", 16)
    return f"{domain:04x}:{match.group(2)}:{match.group(3)}.{match.group(4)}".lower()


def pci_ids(number: int) -> tuple[str, str]:
    """Device and vendor of NVML's combined number.

    Args:
        number (int): device id in the upper, vendor id in the lower 16 bits (nvmlPciInfo_t.pciDeviceId).

    Returns:
        tuple[str, str]: (vendor, device), each like ``0x10de``.
    """
    return f"0x{number & 0xFFFF:04x}", f"0x{number >> 16 & 0xFFFF:04x}"


def architecture_of(compute_capability: str | None) -> str | None:
    """The architecture that has a compute capability (CUDA C++ Programming Guide, "Compute Capabilities").

    Args:
        compute_capability (str | None): like ``8.9``.

    Returns:
        str | None: the name that nvidia-smi prints.
    """
    match = re.match(r"^(\d+)\.(\d+)$", compute_capability or "")
    if not match:
        return None
    major, minor = int(match.group(1)), int(match.group(2))
    if (major, minor) == (8, 9):
        return "Ada Lovelace"
    if major == 7:
        return "Turing" if minor >= 5 else "Volta"
    return {
        2: "Fermi",
        3: "Kepler",
        5: "Maxwell",
        6: "Pascal",
        8: "Ampere",
        9: "Hopper",
        10: "Blackwell",
        11: "Blackwell",
        12: "Blackwell",
    }.get(major)


# The first three digits of the device IDs of all Fermi chips (https://pci-ids.ucw.cz, vendor 10de): GF100 and GF110
# have compute capability 2.0, the smaller ones 2.1. No other chip shares these digits.
_FERMI = {
    **dict.fromkeys(("06c", "06d", "108", "109"), "2.0"),
    **dict.fromkeys(
        ["0dc", "0dd", "0de", "0df", "0e2", "0e3", "0f0", "104", "105", "107", "114", "120", "121", "124", "125"],
        "2.1",
    ),
}


def fermi_capability(device_id: str | None) -> str | None:
    """The compute capability of a GPU that is older than Kepler, known by its PCI device ID.

    nvidia-smi tells compute capabilities from driver 510 on only, and Fermi's last driver is 390.

    Args:
        device_id (str | None): like ``0x06d1``.

    Returns:
        str | None: None for what is no Fermi.
    """
    match = re.match(r"^0x([0-9a-f]{3})[0-9a-f]$", (device_id or "").lower())
    return _FERMI.get(match.group(1)) if match else None


def cuda_version(number: int | None) -> str | None:
    """NVML's CUDA version number as people write it: 12040 is ``12.4``."""
    if not number:
        return None
    return f"{number // 1000}.{number % 1000 // 10}"


def mode(state: int | None) -> str | None:
    """NVML's nvmlEnableState_t as ``enabled`` or ``disabled``; None stays None."""
    return None if state is None else ("enabled" if state else "disabled")
