# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong, and what to do about it: one code, one message and one hint for the person at the machine."""

from __future__ import annotations

from typing import Any

from .errors import SourceError

# Codes are an interface: playbooks compare them. Add, never rename.
CODES = (
    "no_device",
    "driver_not_loaded",
    "library_missing",
    "version_mismatch",
    "gpu_lost",
    "no_permission",
    "device_nodes_missing",
    "timeout",
    "unknown",
)


def decide(
    host: dict[str, Any],
    source: str | None,
    gpus: list[dict[str, Any]],
    errors: list[SourceError],
    count: int | None = None,
) -> dict[str, Any] | None:
    """The one problem to name first.

    Args:
        host (dict): as ``host.read`` returns it.
        source (str | None): the source that answered.
        gpus (list[dict]): the GPUs that it named.
        errors (list[SourceError]): why sources did not answer.
        count (int | None): how many GPUs the source counted, if it named fewer; None: as many as it named.

    Returns:
        dict | None: ``code`` (one of CODES), ``message`` (what was found, with the source's own words) and ``hint``
        (what to do); None when nothing is wrong.
    """
    on_pci = [device for device in host["devices_on_pci"] if device["kind"] == "gpu"]
    lost = [gpu for gpu in gpus if gpu["lost"]]
    if lost:
        return _lost(lost, gpus)
    if source is not None:
        return None if gpus or count else _none_listed(on_pci)
    kinds = {error.kind: error.detail for error in errors}
    if "version_mismatch" in kinds or _versions_differ(host):
        return _mismatch(host, kinds.get("version_mismatch"))
    for kind, problem in (("no_permission", _no_permission), ("gpu_lost", _all_lost), ("timeout", _timeout)):
        if kind in kinds:
            return problem(kinds[kind])
    if not host["module_loaded"]:
        return _not_loaded(host, on_pci) if on_pci else _no_device()
    if not host["control_node"] and "driver_not_loaded" in kinds:
        return _nodes_missing(kinds["driver_not_loaded"])
    if "driver_not_loaded" in kinds:
        return _problem(
            "driver_not_loaded",
            f"The nvidia kernel module is loaded but does not answer ({kinds['driver_not_loaded']}).",
            "Look for NVRM messages in the kernel log (dmesg), and reload the module or reboot.",
        )
    if host["library"]["path"] is None:
        return _library_missing(kinds.get("library_missing"))
    if "unknown" in kinds or "library_missing" in kinds:
        return _problem(
            "unknown",
            "The driver is loaded but could not be asked: " + "; ".join(error.detail for error in errors) + ".",
            "Run nvidia-smi on the machine, and look for NVRM messages in the kernel log (dmesg).",
        )
    # Driver and library are there; only the tools to ask them are not. That is no fault of the machine.
    return None


def _problem(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": hint}


def _words(detail: str | None) -> str:
    return f" ({detail})" if detail else ""


def _lost(lost: list[dict[str, Any]], gpus: list[dict[str, Any]]) -> dict[str, Any]:
    names = ", ".join(
        f"GPU {gpu['index']} at {gpu['pci']['bus_id'] or 'an unknown PCI address'}{_words(gpu['error'])}"
        for gpu in lost
    )
    return _problem(
        "gpu_lost",
        f"{len(lost)} of {len(gpus)} GPUs no longer answer: {names}.",
        "Look for an XID in the kernel log (dmesg | grep -i xid); 79 means that the GPU has fallen off the bus. "
        "Drain the node and power-cycle the machine; if it comes back, check power, cooling and the riser or board.",
    )


def _all_lost(detail: str) -> dict[str, Any]:
    return _problem(
        "gpu_lost",
        f"The driver has lost its GPU ({detail}).",
        "Look for an XID in the kernel log (dmesg | grep -i xid), drain the node and power-cycle the machine.",
    )


def _none_listed(on_pci: list[dict[str, Any]]) -> dict[str, Any]:
    if not on_pci:
        return _no_device("The driver is loaded, but there is no NVIDIA GPU on the PCI bus.")
    holders = sorted({str(device["driver"]) for device in on_pci if device["driver"] not in (None, "nvidia")})
    message = f"The driver answers but has no GPU, while {len(on_pci)} NVIDIA GPU(s) are on the PCI bus"
    if holders:
        return _problem(
            "no_device",
            f"{message}, held by {', '.join(holders)}.",
            "Give the GPUs back to the nvidia driver if this machine shall use them; vfio-pci means that they are "
            "passed through to virtual machines.",
        )
    return _problem(
        "no_device",
        f"{message}.",
        "Look for NVRM messages in the kernel log (dmesg): the GPU may be too new or too old for this driver, or need "
        "the open kernel module. "
        "In a container, check that the GPUs' device nodes (/dev/nvidia0, ...) were passed in.",
    )


def _no_device(message: str = "There is no NVIDIA GPU on the PCI bus.") -> dict[str, Any]:
    return _problem(
        "no_device",
        message,
        "Nothing to do on a machine without a GPU. Otherwise check the slot, its power, and the firmware's setting "
        "for 64-bit PCI addresses (above 4G decoding); in a virtual machine check the GPU's passthrough.",
    )


def _not_loaded(host: dict[str, Any], on_pci: list[dict[str, Any]]) -> dict[str, Any]:
    message = f"{len(on_pci)} NVIDIA GPU(s) are on the PCI bus, but the nvidia kernel module is not loaded."
    holders = {device["driver"] for device in on_pci}
    if host["nouveau_loaded"] or "nouveau" in holders:
        hint = (
            "The nouveau driver is loaded in its place: blacklist it (options nouveau modeset=0), rebuild the "
            "initramfs, install the NVIDIA driver and reboot."
        )
    elif holders == {"vfio-pci"}:
        hint = "vfio-pci holds every GPU, for virtual machines: unbind them if this machine shall use them."
    else:
        hint = "Install the NVIDIA driver, or load it with modprobe nvidia; its error is in the kernel log (dmesg)."
        if host["secure_boot"]:
            hint += " Secure Boot is on: the module must be signed with a key that the machine knows."
    return _problem("driver_not_loaded", message, hint)


def _versions_differ(host: dict[str, Any]) -> bool:
    module, library = host["kernel_module"]["version"], host["library"]["version"]
    return module is not None and library is not None and module != library


def _mismatch(host: dict[str, Any], detail: str | None) -> dict[str, Any]:
    module, library = host["kernel_module"]["version"], host["library"]["version"]
    versions = f"the loaded kernel module is {module or 'of unknown version'}"
    if library:
        versions += f", the library {library}"
    return _problem(
        "version_mismatch",
        f"The driver's kernel module and its library differ: {versions}{_words(detail)}.",
        "The driver was upgraded while it was in use. Drain the node and reboot it, or unload and reload the nvidia "
        "modules; hold the driver's packages against unattended upgrades.",
    )


def _no_permission(detail: str) -> dict[str, Any]:
    return _problem(
        "no_permission",
        f"This user may not talk to the driver ({detail}).",
        "Run the task with become: true, or check the mode and group of /dev/nvidia* and the device cgroup.",
    )


def _timeout(detail: str) -> dict[str, Any]:
    return _problem(
        "timeout",
        f"The driver did not answer in time: {detail}.",
        "Raise gather_timeout if the machine has many GPUs without persistence mode; else look for an XID or NVRM "
        "messages in the kernel log (dmesg): a hanging GPU needs a reboot.",
    )


def _nodes_missing(detail: str) -> dict[str, Any]:
    return _problem(
        "device_nodes_missing",
        f"The nvidia kernel module is loaded, but /dev/nvidiactl is not there ({detail}).",
        "Run nvidia-modprobe -c 0 -u as root, or start nvidia-persistenced, which make the device nodes.",
    )


def _library_missing(detail: str | None) -> dict[str, Any]:
    return _problem(
        "library_missing",
        f"The nvidia kernel module is loaded, but libnvidia-ml.so.1 was not found{_words(detail)}.",
        "Install the driver's user-space part in the version of the kernel module (Debian and Ubuntu: "
        "libnvidia-ml1 or libnvidia-compute-NNN; RHEL: nvidia-driver-cuda-libs).",
    )
