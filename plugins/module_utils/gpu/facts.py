# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts together what the sources say, and decides what is wrong with this machine's GPUs."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from . import health, problems, services, subsets, topology
from .errors import SourceError
from .shape import architecture_of, empty_gpu, fermi_capability

# After these answers another way to ask the same driver would only say the same again.
_CONCLUSIVE = ("driver_not_loaded", "version_mismatch", "no_permission", "gpu_lost", "timeout")


def ask(
    sources: Sequence[tuple[str, Callable[[], dict[str, Any]]]],
) -> tuple[str | None, dict[str, Any] | None, list[SourceError]]:
    """Asks one source after the other until one answers, or the driver itself has said why it will not.

    Args:
        sources (list[tuple[str, Callable[[], dict]]]): name and reader; the reader raises SourceError.

    Returns:
        tuple[str | None, dict | None, list[SourceError]]: the source that answered, its answer, and why those before
        it did not.
    """
    errors: list[SourceError] = []
    for name, reader in sources:
        try:
            return name, reader(), errors
        except SourceError as error:
            errors.append(error)
            if error.kind in _CONCLUSIVE:
                break
    return None, None, errors


def build(
    host: dict[str, Any],
    toolkit: dict[str, Any],
    source: str | None,
    answer: dict[str, Any] | None,
    errors: list[SourceError],
    chosen: frozenset[str] = frozenset(subsets.SUBSETS),
    daemons: dict[str, Any] | None = None,
    root: str = "/",
) -> dict[str, Any]:
    """The facts as the module returns them.

    Args:
        host (dict): as ``host.read`` returns it.
        toolkit (dict): as ``toolkit.read`` returns it.
        source (str | None): which source answered, ``nvml`` or ``nvidia-smi``.
        answer (dict | None): as ``nvml.read`` returns it.
        errors (list[SourceError]): why others did not answer.
        chosen (frozenset[str]): subsets; what others would fill is None.
        daemons (dict | None): as ``services.read`` returns it; None: nobody looked.
        root (str): directory below which ``sys`` lies, for the topology that NVML does not tell.

    Returns:
        dict: see the module's documentation. The keys are the same whatever is known.
    """
    module = host["kernel_module"]
    known = _from_proc(host) if answer is None else answer["gpus"]
    answer = answer or {"driver_version": None, "cuda_version": None, "nvml_version": None, "topology": None}
    gpus = known if "gpus" in chosen else []
    _complete(gpus, host["devices_on_pci"])
    empty = empty_gpu()
    for gpu in gpus:
        subsets.mask(gpu, empty, chosen)
        gpu["health"] = health.judge(gpu)
    count = answer.get("count", len(known))
    problem = problems.decide(host, source, gpus, errors, count)
    on_pci = [device for device in host["devices_on_pci"] if device["kind"] == "gpu"]
    daemons = daemons or services.unknown()
    in_host = "host" in chosen
    return {
        "gather_subset": sorted(chosen),
        "present": bool(count or on_pci),
        "source": source or "sysfs",
        "driver_loaded": host["module_loaded"] or source is not None,
        "driver_version": answer["driver_version"] or module["version"],
        "cuda_version": answer["cuda_version"],
        "nvml_version": answer["nvml_version"],
        "kernel_module": module,
        "library": host["library"],
        "device_nodes": host["device_nodes"],
        "reboot_required": problem is not None and problem["code"] == "version_mismatch",
        "problem": problem,
        "count": count,
        "gpus": gpus,
        "topology": _topology(gpus, answer["topology"], root) if "topology" in chosen else None,
        "devices_on_pci": host["devices_on_pci"],
        "nouveau_loaded": host["nouveau_loaded"],
        "secure_boot": host["secure_boot"] if in_host else None,
        "persistenced": daemons["persistenced"],
        "fabric_manager": services.fabric_manager(daemons["fabric_manager"], host["devices_on_pci"], gpus),
        "toolkit": toolkit,
        "kernel": host["kernel"] if in_host else dict.fromkeys(host["kernel"]),
        "cgroup_version": host["cgroup_version"] if in_host else None,
    }


def _topology(gpus: list[dict[str, Any]], told: list[dict[str, Any]] | None, root: str) -> list[dict[str, Any]]:
    """What the source told, and what sysfs adds where it told nothing."""
    if told is None:
        return topology.from_sysfs(gpus, root)
    by_index = {gpu["index"]: gpu["pci"] for gpu in gpus}
    for pair in told:
        one, other = pair["gpus"]
        pair["connection"] = pair["connection"] or topology.path(by_index[one], by_index[other], root)
    return told


def addresses(host: dict[str, Any]) -> list[str]:
    """PCI addresses of the GPUs that the nvidia driver holds, in the order of the bus; empty when it is not loaded."""
    return [known["bus_id"] for known in host["proc_gpus"] if known["bus_id"]]


def _from_proc(host: dict[str, Any]) -> list[dict[str, Any]]:
    """GPUs as far as the kernel module alone describes them."""
    gpus = []
    for index, known in enumerate(host["proc_gpus"]):
        gpu = empty_gpu()
        gpu["index"] = index
        gpu["pci"]["bus_id"] = known["bus_id"]
        for field in ("name", "uuid", "vbios_version", "minor_number"):
            gpu[field] = known[field]
        gpus.append(gpu)
    return gpus


def _complete(gpus: list[dict[str, Any]], devices: list[dict[str, Any]]) -> None:
    """Adds to each GPU what the PCI bus knows better or alone."""
    by_address = {device["bus_id"]: device for device in devices}
    _place_lost(gpus, devices)
    for gpu in gpus:
        device = by_address.get(gpu["pci"]["bus_id"])
        if device:
            gpu["pci"]["numa_node"] = device["numa_node"]
            for field in ("vendor_id", "device_id", "subsystem_vendor_id", "subsystem_device_id"):
                gpu["pci"][field] = gpu["pci"][field] or device[field]
        gpu["compute_capability"] = gpu["compute_capability"] or fermi_capability(gpu["pci"]["device_id"])
        gpu["architecture"] = gpu["architecture"] or architecture_of(gpu["compute_capability"])


def _place_lost(gpus: list[dict[str, Any]], devices: list[dict[str, Any]]) -> None:
    """Gives lost GPUs, of which NVML tells only the index, the PCI addresses that are left, if that is certain."""
    nameless = [gpu for gpu in gpus if gpu["lost"] and gpu["pci"]["bus_id"] is None]
    taken = {gpu["pci"]["bus_id"] for gpu in gpus}
    free = [
        device["bus_id"]
        for device in devices
        if device["kind"] == "gpu" and device["driver"] in (None, "nvidia") and device["bus_id"] not in taken
    ]
    if len(free) == len(nameless):
        # Both are in the order of the bus.
        for gpu, address in zip(nameless, free):  # noqa: B905 -- Python 3.10 and later only
            gpu["pci"]["bus_id"] = address
