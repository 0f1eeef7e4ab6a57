# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GPU facts from NVML, through the Python module ``pynvml`` of the PyPI package ``nvidia-ml-py``."""

from __future__ import annotations

import ctypes
import glob
import importlib
import os
import sys
import uuid
from typing import Any

from .errors import NVML_KINDS, SourceError
from .shape import (
    ARCHITECTURES,
    BRANDS,
    CLOCK_EVENT_REASONS,
    COMPUTE_MODES,
    FABRIC_STATES,
    RECOVERY_ACTIONS,
    VIRTUALIZATION_MODES,
    bus_id,
    cuda_version,
    empty_gpu,
    empty_mig_instance,
    merge_processes,
    mode,
    nvlink_peers,
    pci_ids,
)
from .subsets import SUBSETS
from .topology import PATHS, pair

_GPU_IS_LOST = 15
_UNKNOWN = 999
# NVML's "no such GPU instance" and "no such compute instance", and "the value is not available".
_NO_INSTANCE = 0xFFFFFFFF
_NO_VALUE = 0xFFFFFFFFFFFFFFFF
_MAX_LINKS = 36  # NVML_NVLINK_MAX_LINKS of the newest nvml.h; bindings name fewer
# Numbers of nvmlFieldValue_t (NVML_FI_DEV_*).
_FIELD_MEMORY_TEMPERATURE = 82
_FIELD_NVLINK_SPEED_COMMON = 90
_FIELD_NVLINK_SPEED = 164
_FIELD_RECOVERY_ACTION = 230
_REMOTE_SWITCH = 2


def load_binding(virtualenv: str | None = None) -> Any:
    """The binding of this Python, or of a virtual environment.

    ``pynvml`` is one file of plain Python that finds the driver's library by itself, so the interpreter that runs
    this can load it from any environment of the same Python or an older one.

    Args:
        virtualenv (str | None): directory of a virtual environment that is looked into first.

    Returns:
        module: ``pynvml``.

    Raises:
        SourceError: ``unavailable`` when there is none.
    """
    folders = glob.glob(os.path.join(virtualenv, "lib*", "python3*", "site-packages")) if virtualenv else []
    before = list(sys.path)
    sys.path[:0] = sorted(folders)
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        place = f"{virtualenv} and this Python have" if virtualenv else "this Python has"
        raise SourceError("unavailable", f"{place} no module pynvml ({error})") from error
    finally:
        sys.path[:] = before


def read(binding: Any, chosen: frozenset[str] = frozenset(SUBSETS)) -> dict[str, Any]:
    """What NVML tells of the chosen subsets, in one session.

    Args:
        binding (module): ``pynvml``, or what has its functions.
        chosen (frozenset[str]): subsets; see ``subsets.choose``.

    Returns:
        dict: ``driver_version``, ``cuda_version``, ``nvml_version``, ``count``, ``gpus``, a list of
        ``shape.empty_gpu`` filled as far as NVML answered, and ``topology`` (None where it was not asked). A query
        that this GPU or this driver does not support leaves None.

    Raises:
        SourceError: NVML could not be started, or did not even count the GPUs.
    """
    try:
        binding.nvmlInit()
    except binding.NVMLError as error:
        raise _source_error(error) from error
    try:
        try:
            count = binding.nvmlDeviceGetCount()
        except binding.NVMLError as error:
            raise _source_error(error) from error
        system = _Queries(binding)
        handles: dict[int, Any] = {}
        gpus = [_gpu(binding, index, chosen, handles) for index in range(count)] if "gpus" in chosen else []
        if "nvlink" in chosen or "topology" in chosen:
            links = _links(binding, gpus, handles)
        return {
            "driver_version": system.text("nvmlSystemGetDriverVersion"),
            "cuda_version": cuda_version(system.ask("nvmlSystemGetCudaDriverVersion")),
            "nvml_version": system.text("nvmlSystemGetNVMLVersion"),
            "count": count,
            "gpus": gpus,
            "topology": _topology(binding, gpus, handles, links) if "topology" in chosen else None,
        }
    finally:
        _Queries(binding).ask("nvmlShutdown")


def _source_error(error: Any) -> SourceError:
    return SourceError(NVML_KINDS.get(error.value, "unknown"), f"NVML: {error}")


class _Queries:
    """Queries that answer None instead of raising, and that remember when a GPU turned out to be lost."""

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self.lost: str | None = None
        # Newer bindings raise this, which is no NVMLError, when the driver is too old for a function.
        self.too_old = getattr(binding, "NVMLLibraryMismatchError", binding.NVMLError)

    def ask(self, name: str, *arguments: Any) -> Any:
        """The answer of the function ``name``; None when binding, driver or GPU do not have it."""
        function = getattr(self.binding, name, None)
        if function is None:
            return None
        try:
            return function(*arguments)
        except self.binding.NVMLError as error:
            if error.value == _GPU_IS_LOST:
                self.lost = str(error)
            return None
        except (self.too_old, UnicodeDecodeError, TypeError, ctypes.ArgumentError):
            # Neither an old driver, nor garbage in a board's InfoROM, nor a function that some release of the binding
            # has with other arguments (nvmlDeviceGetGspFirmwareVersion in 11.525) may cost the other facts.
            return None

    def text(self, name: str, *arguments: Any) -> str | None:
        """As ``ask``; bytes, which older bindings return, become text, and an empty text None."""
        value = self.ask(name, *arguments)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return value or None

    def field(self, handle: Any, number: int, scope: int = 0) -> Any:
        """The value of a numbered field (nvmlDeviceGetFieldValues) as int; None without an answer."""
        values = self.ask("nvmlDeviceGetFieldValues", handle, [(number, scope) if scope else number])
        if not values or values[0].nvmlReturn:
            return None
        # Every unsigned kind lies at the start of the union, and bindings clear it before the call.
        return int(values[0].value.ullVal if values[0].valueType in (2, 3) else values[0].value.uiVal)

    def pair(self, name: str, *arguments: Any) -> tuple[Any, Any]:
        """As ``ask``, for functions that answer two values: (None, None) without an answer."""
        value = self.ask(name, *arguments)
        return tuple(value) if value is not None else (None, None)


def _gpu(binding: Any, index: int, chosen: frozenset[str], handles: dict[int, Any]) -> dict[str, Any]:
    gpu = empty_gpu()
    gpu["index"] = index
    try:
        handle = binding.nvmlDeviceGetHandleByIndex(index)
    except binding.NVMLError as error:
        # A GPU that fell off the bus has no handle any more; some drivers say "unknown error" instead of "lost".
        gpu["lost"] = error.value in (_GPU_IS_LOST, _UNKNOWN)
        gpu["error"] = f"NVML: {error}"
        return gpu
    handles[index] = handle
    query = _Queries(binding)
    _identity(query, handle, gpu)
    _pci(query, handle, gpu["pci"])
    _memory(query, handle, gpu)
    _state(query, handle, gpu)
    for subset, reader in (
        ("mig", _mig),
        ("ecc", _errors),
        ("power", _power),
        ("clocks", _clocks),
        ("temperature", _temperature),
        ("utilization", _utilization),
        ("processes", _processes),
    ):
        if subset in chosen:
            reader(query, handle, gpu)
    if query.lost:
        gpu["lost"] = True
        gpu["error"] = f"NVML: {query.lost}"
    return gpu


def _identity(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    gpu["minor_number"] = query.ask("nvmlDeviceGetMinorNumber", handle)
    gpu["uuid"] = query.text("nvmlDeviceGetUUID", handle)
    gpu["name"] = query.text("nvmlDeviceGetName", handle)
    gpu["brand"] = BRANDS.get(query.ask("nvmlDeviceGetBrand", handle))
    gpu["architecture"] = ARCHITECTURES.get(query.ask("nvmlDeviceGetArchitecture", handle))
    major, minor = query.pair("nvmlDeviceGetCudaComputeCapability", handle)
    gpu["compute_capability"] = None if major is None else f"{major}.{minor}"
    gpu["serial"] = query.text("nvmlDeviceGetSerial", handle)
    gpu["vbios_version"] = query.text("nvmlDeviceGetVbiosVersion", handle)
    gpu["board_part_number"] = query.text("nvmlDeviceGetBoardPartNumber", handle)
    gpu["gsp_firmware_version"] = query.text("nvmlDeviceGetGspFirmwareVersion", handle)


def _pci(query: _Queries, handle: Any, pci: dict[str, Any]) -> None:
    info = query.ask("nvmlDeviceGetPciInfo", handle)
    if info is not None:
        address = info.busId
        pci["bus_id"] = bus_id(address.decode("ascii", "replace") if isinstance(address, bytes) else address)
        pci["vendor_id"], pci["device_id"] = pci_ids(info.pciDeviceId)
        if info.pciSubSystemId:
            pci["subsystem_vendor_id"], pci["subsystem_device_id"] = pci_ids(info.pciSubSystemId)
    pci["link_generation_current"] = query.ask("nvmlDeviceGetCurrPcieLinkGeneration", handle)
    pci["link_generation_max"] = query.ask("nvmlDeviceGetMaxPcieLinkGeneration", handle)
    pci["link_width_current"] = query.ask("nvmlDeviceGetCurrPcieLinkWidth", handle)
    pci["link_width_max"] = query.ask("nvmlDeviceGetMaxPcieLinkWidth", handle)


def _mig(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    current, pending = query.pair("nvmlDeviceGetMigMode", handle)
    mig: dict[str, Any] = {
        # A GPU that is no longer there says nothing about what it could do.
        "capable": None if query.lost else current is not None,
        "mode": mode(current),
        "pending_mode": mode(pending),
        "instances": [],
    }
    gpu["mig"] = mig
    if not current:
        return
    for index in range(query.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        # The places are sparse: one without an instance answers "not found".
        device = query.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if device is not None:
            mig["instances"].append(_mig_instance(query, device, index))


def _mig_instance(query: _Queries, device: Any, index: int) -> dict[str, Any]:
    instance = empty_mig_instance()
    instance["index"] = index
    instance["uuid"] = query.text("nvmlDeviceGetUUID", device)
    # "NVIDIA H100 80GB HBM3 MIG 1g.10gb": the name carries the profile, with its attributes (1g.10gb+me).
    name = query.text("nvmlDeviceGetName", device) or ""
    instance["profile"] = name.rpartition(" MIG ")[2] if " MIG " in name else None
    instance["gpu_instance_id"] = query.ask("nvmlDeviceGetGpuInstanceId", device)
    instance["compute_instance_id"] = query.ask("nvmlDeviceGetComputeInstanceId", device)
    memory = query.ask("nvmlDeviceGetMemoryInfo", device)
    instance["memory_total_bytes"] = None if memory is None else memory.total
    return instance


def _memory(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    # Version 2 counts the memory that the driver keeps for itself apart, as nvidia-smi does.
    memory = None
    version = getattr(query.binding, "nvmlMemory_v2", None)
    if version is not None:
        memory = query.ask("nvmlDeviceGetMemoryInfo", handle, version)
    if memory is None:
        memory = query.ask("nvmlDeviceGetMemoryInfo", handle)
    if memory is not None:
        gpu["memory_total_bytes"] = memory.total
        gpu["memory_used_bytes"] = memory.used
        gpu["memory_free_bytes"] = memory.free
        gpu["memory_reserved_bytes"] = getattr(memory, "reserved", None)
    bar1 = query.ask("nvmlDeviceGetBAR1MemoryInfo", handle)
    if bar1 is not None:
        gpu["bar1_total_bytes"], gpu["bar1_used_bytes"] = bar1.bar1Total, bar1.bar1Used


def _errors(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    current, pending = query.pair("nvmlDeviceGetEccMode", handle)
    gpu["ecc"]["mode"], gpu["ecc"]["pending_mode"] = mode(current), mode(pending)
    if current:
        for counter, name in enumerate(("volatile", "aggregate")):
            for kind, field in enumerate(("corrected", "uncorrected")):
                gpu["ecc"][name][field] = query.ask("nvmlDeviceGetTotalEccErrors", handle, kind, counter)
    for cause, field in enumerate(("single_bit", "double_bit")):
        pages = query.ask("nvmlDeviceGetRetiredPages", handle, cause)
        gpu["retired_pages"][field] = None if pages is None else len(pages)
    pages_pending = query.ask("nvmlDeviceGetRetiredPagesPendingStatus", handle)
    gpu["retired_pages"]["pending"] = None if pages_pending is None else bool(pages_pending)
    rows = query.ask("nvmlDeviceGetRemappedRows", handle)
    if rows is not None:
        correctable, uncorrectable, rows_pending, failed = rows
        gpu["remapped_rows"].update(
            correctable=correctable, uncorrectable=uncorrectable, pending=bool(rows_pending), failed=bool(failed)
        )
    banks = query.ask("nvmlDeviceGetRowRemapperHistogram", handle)
    for field in gpu["remapped_rows"]["spare_rows_banks"] if banks is not None else ():
        gpu["remapped_rows"]["spare_rows_banks"][field] = getattr(banks, field)


def _state(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    gpu["persistence_mode"] = mode(query.ask("nvmlDeviceGetPersistenceMode", handle))
    gpu["compute_mode"] = COMPUTE_MODES.get(query.ask("nvmlDeviceGetComputeMode", handle))
    state = query.ask("nvmlDeviceGetPerformanceState", handle)
    gpu["performance_state"] = f"P{state}" if state is not None and 0 <= state <= 15 else None
    gpu["virtualization_mode"] = VIRTUALIZATION_MODES.get(query.ask("nvmlDeviceGetVirtualizationMode", handle))
    gpu["recovery_action"] = RECOVERY_ACTIONS.get(query.field(handle, _FIELD_RECOVERY_ACTION))
    _fabric(query, handle, gpu["fabric"])


def _fabric(query: _Queries, handle: Any, fabric: dict[str, Any]) -> None:
    structure = getattr(query.binding, "c_nvmlGpuFabricInfo_t", None)
    if structure is None:
        return
    info = structure()
    if query.ask("nvmlDeviceGetGpuFabricInfo", handle, ctypes.byref(info)) is None:
        return
    fabric["state"] = FABRIC_STATES.get(info.state)
    if fabric["state"] == "completed":
        identity = bytes(bytearray(info.clusterUuid))
        fabric["clique_id"] = info.cliqueId
        fabric["cluster_uuid"] = str(uuid.UUID(bytes=identity)) if len(identity) == 16 else None


def _power(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    power = gpu["power"]
    power["draw_watts"] = _watts(query.ask("nvmlDeviceGetPowerUsage", handle))
    power["limit_watts"] = _watts(query.ask("nvmlDeviceGetEnforcedPowerLimit", handle))
    power["limit_default_watts"] = _watts(query.ask("nvmlDeviceGetPowerManagementDefaultLimit", handle))
    lowest, highest = query.pair("nvmlDeviceGetPowerManagementLimitConstraints", handle)
    power["limit_min_watts"], power["limit_max_watts"] = _watts(lowest), _watts(highest)


def _watts(milliwatts: float | None) -> float | None:
    return None if milliwatts is None else round(milliwatts / 1000.0, 2)


def _clocks(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    for clock, name in enumerate(("graphics", "sm", "memory", "video")):
        gpu["clocks"][name + "_mhz"] = query.ask("nvmlDeviceGetClockInfo", handle, clock)
        gpu["clocks"][name + "_max_mhz"] = query.ask("nvmlDeviceGetMaxClockInfo", handle, clock)
    # Renamed in driver 535; bindings of before and drivers of before know the old name alone.
    reasons = query.ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        reasons = query.ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    if reasons is not None:
        gpu["clocks"]["event_reasons"] = [name for bit, name in CLOCK_EVENT_REASONS if reasons & bit]


def _temperature(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    temperature = gpu["temperature"]
    temperature["gpu_celsius"] = query.ask("nvmlDeviceGetTemperature", handle, 0)
    temperature["memory_celsius"] = query.field(handle, _FIELD_MEMORY_TEMPERATURE)
    # NVML's nvmlTemperatureThresholds_t.
    for threshold, name in enumerate(("shutdown", "slowdown", "memory_max", "gpu_max")):
        temperature[name + "_celsius"] = query.ask("nvmlDeviceGetTemperatureThreshold", handle, threshold)
    gpu["fan_speed_percent"] = query.ask("nvmlDeviceGetFanSpeed", handle)


def _utilization(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    rates = query.ask("nvmlDeviceGetUtilizationRates", handle)
    if rates is not None:
        gpu["utilization"] = {"gpu_percent": rates.gpu, "memory_percent": rates.memory}


def _processes(query: _Queries, handle: Any, gpu: dict[str, Any]) -> None:
    found, answered = [], False
    for kind, letters in (("Compute", "C"), ("Graphics", "G"), ("MPSCompute", "MC")):
        # The plain name is the newest version that the binding knows, which an older driver may not have.
        for version in ("", "_v3", "_v2"):
            processes = query.ask(f"nvmlDeviceGet{kind}RunningProcesses{version}", handle)
            if processes is not None:
                answered = answered or kind != "MPSCompute"
                found += [
                    (
                        process.pid,
                        letters,
                        _number(process, "usedGpuMemory", _NO_VALUE),
                        _number(process, "gpuInstanceId", _NO_INSTANCE),
                        _number(process, "computeInstanceId", _NO_INSTANCE),
                    )
                    for process in processes
                ]
                break
    gpu["processes"] = merge_processes(found)
    if answered:
        gpu["process_count"] = len({process["pid"] for process in gpu["processes"]})


def _number(structure: Any, name: str, nothing: int) -> int | None:
    value = getattr(structure, name, None)
    return None if value == nothing else value


def _links(binding: Any, gpus: list[dict[str, Any]], handles: dict[int, Any]) -> dict[int, Any]:
    """Fills in NVLinks; gives for each GPU's index the other ends of its active links: an address and whether that is
    a switch (None: NVML does not say)."""
    ends = {}
    addresses = {gpu["pci"]["bus_id"] for gpu in gpus}
    for gpu in gpus:
        handle = handles.get(gpu["index"])
        if handle is None:
            continue
        query, total, active = _Queries(binding), 0, []
        for link in range(_MAX_LINKS):
            state = query.ask("nvmlDeviceGetNvLinkState", handle, link)
            if state is None:
                break
            total += 1
            if state:
                active.append(link)
        if not total:
            continue
        ends[gpu["index"]] = [_other_end(query, handle, link) for link in active]
        gpu["nvlink"] = {
            "links_total": total,
            "links_up": len(active),
            "link_megabytes_per_second": _link_speed(query, handle, active),
            "peers": nvlink_peers([address for address, dummy in ends[gpu["index"]]], addresses),
        }
    return ends


def _other_end(query: _Queries, handle: Any, link: int) -> Any:
    info = query.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
    address = None if info is None else info.busId
    if isinstance(address, bytes):
        address = address.decode("ascii", "replace")
    kind = query.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
    return bus_id(address), None if kind is None else kind == _REMOTE_SWITCH


def _link_speed(query: _Queries, handle: Any, active: list[int]) -> Any:
    if not active:
        return None
    speed = query.field(handle, _FIELD_NVLINK_SPEED, active[0])
    return query.field(handle, _FIELD_NVLINK_SPEED_COMMON) if speed is None else speed


def _topology(
    binding: Any, gpus: list[dict[str, Any]], handles: dict[int, Any], ends: dict[int, Any]
) -> list[dict[str, Any]]:
    addresses = {gpu["pci"]["bus_id"] for gpu in gpus}
    switched = {
        index: sum(1 for address, switch in found if switch or (switch is None and address not in addresses))
        for index, found in ends.items()
    }
    pairs = []
    for place, one in enumerate(gpus):
        for other in gpus[place + 1 :]:
            a, b = one["index"], other["index"]
            if a not in handles or b not in handles:
                pairs.append(pair(a, b, None, None))
                continue
            direct = sum(1 for address, dummy in ends.get(a, ()) if address == other["pci"]["bus_id"])
            links = direct or min(switched.get(a, 0), switched.get(b, 0))
            level = _Queries(binding).ask("nvmlDeviceGetTopologyCommonAncestor", handles[a], handles[b])
            pairs.append(pair(a, b, links, PATHS.get(level)))
    return pairs
