# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel says, without any of NVIDIA's tools: PCI devices, modules, /proc/driver/nvidia, cgroups.

Every function takes the directory below which ``proc``, ``sys``, ``dev`` and ``usr`` lie, so that it can read a
recorded machine as well as this one. A file that is missing or unreadable is an unknown fact, never an error.
"""

from __future__ import annotations

import os
import re
from typing import Any

from .shape import bus_id

NVIDIA = 0x10DE
_DISPLAY = 0x03  # PCI base class "display controller"
_NVSWITCH = 0x0680  # PCI class "other bridge", as NVSwitches show themselves

# /proc/driver/nvidia/version: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar …", and
# "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.58.02  Release Build …" for the open one.
_MODULE = re.compile(r"NVRM version:.*?\b(?P<open>Open )?Kernel Module(?: for \S+)?\s+(?P<version>\d+(?:\.\d+)+)")

_EFI_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

# Where distributions, NVIDIA's installer, NixOS and WSL put the driver's libraries.
_LIBRARY_DIRECTORIES = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "lib64",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "run/opengl-driver/lib",
    "usr/lib/wsl/lib",
)


def read(root: str = "/", machine: str | None = None) -> dict[str, Any]:
    """All facts of this room.

    Args:
        root (str): directory below which the machine's file systems lie.
        machine (str | None): hardware name, like ``x86_64``; None asks the running kernel.

    Returns:
        dict: ``devices_on_pci``, ``kernel_module``, ``module_loaded``, ``nouveau_loaded``, ``kernel``,
        ``cgroup_version``, ``secure_boot``, ``library``, ``control_node``, ``proc_gpus`` and ``device_nodes``; see
        the functions of the same names.
    """
    module = kernel_module(root)
    return {
        "devices_on_pci": devices_on_pci(root),
        "kernel_module": module,
        "module_loaded": module["version"] is not None or os.path.isdir(os.path.join(root, "sys/module/nvidia")),
        "nouveau_loaded": os.path.isdir(os.path.join(root, "sys/module/nouveau")),
        "kernel": {
            "release": _text(root, "proc/sys/kernel/osrelease"),
            "machine": machine or os.uname().machine,
        },
        "cgroup_version": cgroup_version(root),
        "secure_boot": secure_boot(root),
        "library": library(root),
        "control_node": os.path.exists(os.path.join(root, "dev/nvidiactl")),
        "proc_gpus": proc_gpus(root),
        "device_nodes": device_nodes(root),
    }


def devices_on_pci(root: str = "/") -> list[dict[str, Any]]:
    """NVIDIA's GPUs and NVSwitches on the PCI bus, driver or not (Linux, Documentation/ABI/testing/sysfs-bus-pci).

    A GPU's audio and USB functions are left out.

    Returns:
        list[dict]: in the order of the bus: ``bus_id``, ``vendor_id``, ``device_id``, ``subsystem_vendor_id``,
        ``subsystem_device_id``, ``class`` (like ``0x030200``), ``kind`` (``gpu`` or ``nvswitch``), ``driver`` (the
        kernel driver that holds it: ``nvidia``, ``nouveau``, ``vfio-pci``, …; None: none) and ``numa_node`` (int;
        None on machines without NUMA).
    """
    folder = os.path.join(root, "sys/bus/pci/devices")
    devices = []
    for name in sorted(_names(folder)):
        address = bus_id(name)
        if address is None or _hex(folder, name, "vendor") != NVIDIA:
            continue
        number = _hex(folder, name, "class") or 0
        if number >> 16 == _DISPLAY:
            kind = "gpu"
        elif number >> 8 == _NVSWITCH:
            kind = "nvswitch"
        else:
            continue
        node = _text(folder, name + "/numa_node")
        devices.append(
            {
                "bus_id": address,
                "vendor_id": _id(_hex(folder, name, "vendor")),
                "device_id": _id(_hex(folder, name, "device")),
                "subsystem_vendor_id": _id(_hex(folder, name, "subsystem_vendor")),
                "subsystem_device_id": _id(_hex(folder, name, "subsystem_device")),
                "class": f"0x{number:06x}",
                "kind": kind,
                "driver": _link_name(os.path.join(folder, name, "driver")),
                # The kernel writes -1 where it knows of no node.
                "numa_node": int(node) if node and re.match(r"^\d+$", node) else None,
            }
        )
    return devices


def kernel_module(root: str = "/") -> dict[str, Any]:
    """The NVIDIA kernel module that is loaded.

    Returns:
        dict: ``version`` (like ``550.54.15``) and ``flavor`` (``open`` or ``proprietary``); None for what is unknown,
        both None when the module is not loaded.
    """
    match = _MODULE.search(_text(root, "proc/driver/nvidia/version") or "")
    if match:
        return {"version": match.group("version"), "flavor": "open" if match.group("open") else "proprietary"}
    return {"version": _text(root, "sys/module/nvidia/version"), "flavor": None}


def proc_gpus(root: str = "/") -> list[dict[str, Any]]:
    """GPUs as /proc/driver/nvidia/gpus/*/information describes them.

    Returns:
        list[dict]: ``bus_id``, ``name``, ``uuid``, ``vbios_version`` and ``minor_number`` (None where unknown), in the
        order of the bus.
    """
    folder = os.path.join(root, "proc/driver/nvidia/gpus")
    gpus = []
    for name in sorted(_names(folder)):
        lines = (_text(folder, name + "/information") or "").splitlines()
        fields = {key.strip(): value.strip() for key, dummy, value in (line.partition(":") for line in lines)}
        minor = fields.get("Device Minor", "")
        gpus.append(
            {
                "bus_id": bus_id(fields.get("Bus Location", "")) or bus_id(name),
                "name": _known(fields.get("Model")),
                "uuid": _known(fields.get("GPU UUID")),
                "vbios_version": _known(fields.get("Video BIOS")),
                "minor_number": int(minor) if re.match(r"^\d+$", minor) else None,
            }
        )
    return gpus


def device_nodes(root: str = "/") -> dict[str, Any]:
    """The driver's device nodes (Linux, Documentation/admin-guide/devices.txt; minor numbers of GPUs 0 to 247).

    nvidia-modprobe, nvidia-persistenced or udev make them, and NVML calls the first: ask the driver before.

    Returns:
        dict: ``control`` (/dev/nvidiactl) and ``uvm`` (/dev/nvidia-uvm, which CUDA needs and the container toolkit
        makes when it is not there), whether they exist, and ``minors``, the numbers of the GPUs' nodes, sorted.
    """
    names = _names(os.path.join(root, "dev"))
    return {
        "control": "nvidiactl" in names,
        "uvm": "nvidia-uvm" in names,
        "minors": sorted(int(name[6:]) for name in names if re.match(r"^nvidia\d+$", name)),
    }


def cgroup_version(root: str = "/") -> int | None:
    """The version of control groups: 2 when only the unified hierarchy is mounted, 1 (also hybrid), None when none."""
    folder = os.path.join(root, "sys/fs/cgroup")
    if os.path.exists(os.path.join(folder, "cgroup.controllers")):
        return 2
    return 1 if _names(folder) else None


def secure_boot(root: str = "/") -> bool | None:
    """Whether UEFI Secure Boot is on; None on machines without UEFI.

    The variable's content follows four bytes of attributes (Linux, Documentation/filesystems/efivarfs.rst).
    """
    try:
        with open(os.path.join(root, _EFI_SECURE_BOOT), "rb") as variable:
            content = variable.read()
    except OSError:
        return None
    return content[4] == 1 if len(content) >= 5 else None


def library(root: str = "/") -> dict[str, Any]:
    """The driver's library libnvidia-ml.so.1 on disk.

    Returns:
        dict: ``path`` (None: in none of the usual directories) and ``version``, from the name of the file that the
        links lead to (None where the name has none).
    """
    for directory in _LIBRARY_DIRECTORIES:
        path = os.path.join(directory, "libnvidia-ml.so.1")
        if os.path.lexists(os.path.join(root, path)):
            match = re.search(r"\.so\.(\d+\.\d+(?:\.\d+)*)$", _follow(root, path))
            return {"path": "/" + path, "version": match.group(1) if match else None}
    return {"path": None, "version": None}


def _follow(root: str, path: str) -> str:
    """Where links below ``root`` lead, absolute links taken below ``root`` again; gives up after eight."""
    for _hop in range(8):
        full = os.path.join(root, path)
        if not os.path.islink(full):
            break
        target = os.readlink(full)
        joined = target.lstrip("/") if target.startswith("/") else os.path.join(os.path.dirname(path), target)
        path = os.path.normpath(joined)
    return path


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(folder: str, path: str) -> str | None:
    try:
        with open(os.path.join(folder, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip() or None
    except OSError:
        return None


def _hex(folder: str, name: str, field: str) -> int | None:
    text = _text(folder, name + "/" + field)
    return int(text, 16) if text and re.match(r"^(0x)?[0-9a-fA-F]+$", text) else None


def _id(number: int | None) -> str | None:
    return None if number is None else f"0x{number:04x}"


def _link_name(path: str) -> str | None:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None


def _known(text: str | None) -> str | None:
    """The driver writes question marks for what it has not read from the board yet."""
    return text if text and "?" not in text and text not in ("Unknown", "N/A") else None
