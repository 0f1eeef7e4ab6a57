"""Reads the GPUs and their MIG devices, and keeps what was last read of them.

One rule for all: what cannot be read is as it was read last. After `failed_reads` failures in a row the GPU or MIG
device has a fault; it leaves the inventory only when the driver enumerates without it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml

from ..model import Fault, Gpu, Inventory, MigDevice, Vitals, sysfs_name
from . import mig
from .errors import DRIVER_ERRORS, NvmlUnavailableError, ReadError, read, read_or, require, text, uuid_of
from .mig_instances import existing_instances
from .vitals import read_vitals

PCI_DEVICES = Path("/sys/bus/pci/devices")
_MOST_DEVICES = 1024  # a count above this is not one, and would keep the thread busy


class GpuReader:
    """The GPUs of one machine, over any number of NVML sessions.

    failed_reads: how many readings in a row may fail before a GPU or MIG device has a fault.
    """

    def __init__(
        self, failed_reads: int = 3, pci_devices: Path = PCI_DEVICES, mig_minors: Path = mig.MIG_MINORS
    ) -> None:
        self.failed_reads = failed_reads
        self._pci_devices = pci_devices
        self._mig_minors = mig_minors
        self._gpus: dict[str, Gpu] = {}
        self._at: dict[int, str] = {}
        self._vitals: dict[str, Vitals] = {}
        self._failures: Counter[str] = Counter()
        self._versions: tuple[str, tuple[int, int] | None] = ("", None)
        self.handles: dict[str, Any] = {}
        """NVML's handles of the GPUs that were found last, by UUID."""

    def inventory(self) -> Inventory:
        """All GPUs as they are now. Raises NvmlUnavailableError."""
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise NvmlUnavailableError(error) from error
        if count > _MOST_DEVICES:
            raise NvmlUnavailableError(pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN))
        self._versions = _versions(self._versions)
        found: dict[str, Gpu] = {}
        faults: list[tuple[str, Fault]] = []
        unreadable: list[str] = []
        unidentified: list[int | None] = []
        handles: dict[str, Any] = {}
        taken: set[str] = set()
        at: dict[int, str] = {}
        for index in range(count):
            last = self._at.get(index, "")
            try:
                handle = require(pynvml.nvmlDeviceGetHandleByIndex, index)
                uuid = uuid_of(handle)
            except ReadError as error:
                unidentified.append(error.code)
                uuid, errors = last, [(last, error)]
            else:
                try:
                    if uuid in taken:
                        raise ReadError(None, f"{uuid} is the UUID of another GPU")
                    errors = list(self._read(handle, index, uuid, taken, unreadable))
                    handles[uuid] = handle
                except ReadError as error:
                    uuid, errors = last, [(last, error)]
            if uuid not in self._gpus or uuid in found:
                unreadable.append(f"GPU {index}: {errors[0][1]}")
                continue
            taken.update((uuid, *(device.uuid for device in self._gpus[uuid].mig)))
            at[index], found[uuid] = uuid, self._gpus[uuid]
            faults += self._judged(uuid, errors)
        if count and len(unidentified) == count and unidentified[0] in DRIVER_ERRORS and len(set(unidentified)) == 1:
            raise NvmlUnavailableError(pynvml.NVMLError(unidentified[0]))
        # a GPU that left keeps its entry: it may come back, and cannot be read at once
        self._at, self.handles = at, handles
        for uuid, handle in handles.items():
            self._vitals[uuid] = read_vitals(handle, self._vitals.get(uuid, Vitals()))
        vitals = tuple((uuid, self._vitals[uuid]) for uuid in found if uuid in self._vitals)
        driver, cuda = self._versions
        hidden = frozenset(self._hidden(found))
        return Inventory(driver, tuple(found.values()), tuple(faults), tuple(unreadable), cuda, vitals, hidden)

    def _hidden(self, gpus: Mapping[str, Gpu]) -> Iterator[tuple[str, int, int]]:
        """MIG devices that exist and that NVML does not show to this process."""
        for uuid, gpu in gpus.items():
            if gpu.mig_enabled and uuid in self.handles:
                there = existing_instances(self.handles[uuid]) or frozenset()
                yield from ((uuid, gi, ci) for gi, ci in there - {(device.gi, device.ci) for device in gpu.mig})

    def _judged(self, gpu: str, errors: list[tuple[str, ReadError]]) -> Iterator[tuple[str, Fault]]:
        """The faults of a GPU and its MIG devices, given what failed now; counts the failures in a row."""
        failed = dict(reversed(errors))  # the first error of each
        for uuid in (gpu, *(device.uuid for device in self._gpus[gpu].mig)):
            if uuid not in failed:
                del self._failures[uuid]
                continue
            self._failures[uuid] += 1
            error = failed[uuid]
            if error.final or self._failures[uuid] >= self.failed_reads:
                yield uuid, error.fault

    def _read(
        self, handle: Any, index: int, uuid: str, taken: set[str], unreadable: list[str]
    ) -> Iterator[tuple[str, ReadError]]:
        """Read a GPU into self._gpus; what failed, with the UUID of the GPU or MIG device.

        taken: UUIDs that were seen already. Raises ReadError for a GPU that cannot be described at all.
        """
        last = self._gpus.get(uuid)
        gpu = self._described(handle, index, uuid, last)
        try:
            memory = read(pynvml.nvmlDeviceGetMemoryInfo, handle)
            # GPUs that share the machine's memory have none of their own
            gpu = replace(gpu, memory_bytes=0 if memory is None else int(memory.total))
        except ReadError as error:
            if error.code != pynvml.NVML_ERROR_NO_PERMISSION:  # in MIG mode, without the right to monitor it
                yield uuid, error
        try:
            mode = read(pynvml.nvmlDeviceGetMigMode, handle)
            enabled = mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
            gpu = replace(gpu, mig_capable=mode is not None)
            most = read(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0 if enabled else 0
        except ReadError as error:
            yield uuid, error
        else:
            gpu = replace(gpu, mig_enabled=enabled)
            devices = list(self._mig_devices(handle, gpu, most, last.mig if last else (), taken, unreadable))
            yield from ((device.uuid, error) for device, error in devices if error is not None)
            gpu = replace(gpu, mig=tuple(device for device, _error in devices))
        self._gpus[uuid] = gpu

    def _described(self, handle: Any, index: int, uuid: str, last: Gpu | None) -> Gpu:
        """What does not depend on MIG. Raises ReadError where its address or name was never read."""
        try:
            bus_id = text(require(pynvml.nvmlDeviceGetPciInfo, handle).busId)
            name = text(require(pynvml.nvmlDeviceGetName, handle))
        except ReadError:
            if last is None:
                raise
            bus_id, name = last.pci_bus_id, last.name
        known = last or Gpu(index, uuid, None, name, 0, bus_id, mig_enabled=None)
        return replace(
            known,
            index=index,
            minor=read_or(known.minor, pynvml.nvmlDeviceGetMinorNumber, handle),
            name=name,
            pci_bus_id=bus_id,
            numa_node=numa_node(self._pci_devices, bus_id, known.numa_node),
            compute=read_or(known.compute, pynvml.nvmlDeviceGetCudaComputeCapability, handle),
            clique=_clique(handle, known.clique),
        )

    def _mig_devices(
        self, handle: Any, gpu: Gpu, most: int, last: Sequence[MigDevice], taken: set[str], unreadable: list[str]
    ) -> Iterator[tuple[MigDevice, ReadError | None]]:
        """A GPU's MIG devices; one that cannot be read as it was in `last`, with the error.

        taken: UUIDs that were seen already; those of the devices are added.
        """
        minors = mig.read_minors(self._mig_minors) if most else {}
        at_index = {device.index: device for device in last}
        by_uuid = {device.uuid: device for device in last}
        for index in range(min(most, _MOST_DEVICES)):
            failure: ReadError | None = None
            try:
                part = mig.handle_at(handle, index)
                if part is None:
                    continue
                uuid = uuid_of(part)
                if uuid in taken:
                    raise ReadError(None, f"{uuid} is the UUID of another device")
                device = mig.describe(part, index, gpu, by_uuid.get(uuid), minors)
            except ReadError as error:
                failure = error
                if index not in at_index or at_index[index].uuid in taken:
                    unreadable.append(f"MIG device {gpu.index}:{index}: {error}")
                    continue
                device = at_index[index]
            taken.add(device.uuid)
            yield device, failure


def _versions(last: tuple[str, tuple[int, int] | None]) -> tuple[str, tuple[int, int] | None]:
    """The versions of the driver and of CUDA, as they were where they cannot be read."""
    driver, cuda = last
    with contextlib.suppress(ReadError):
        driver = text(require(pynvml.nvmlSystemGetDriverVersion))
    number = read_or(None, pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return driver, cuda if number is None else (number // 1000, number % 1000 // 10)


def _clique(handle: Any, last: str) -> str:
    """The NVLink domain that it belongs to. A GPU may join one long after its driver was loaded."""
    info = pynvml.c_nvmlGpuFabricInfo_v2_t()
    try:
        read(pynvml.nvmlDeviceGetGpuFabricInfoV, handle, ctypes.byref(info))
    except ReadError:
        return last
    cluster = bytes(info.clusterUuid).hex()
    joined = info.state == pynvml.NVML_GPU_FABRIC_STATE_COMPLETED and info.status == pynvml.NVML_SUCCESS
    if not joined or not cluster.strip("0"):
        return last
    parts = (cluster[:8], cluster[8:12], cluster[12:16], cluster[16:20], cluster[20:])
    return f"{'-'.join(parts)}.{info.cliqueId}"


def numa_node(pci_devices: Path, bus_id: str, last: int | None = None) -> int | None:
    """The NUMA node that the kernel names for NVML's `bus_id`.

    last: as it was read before; it holds where it cannot be read.
    """
    try:
        node = int((pci_devices / sysfs_name(bus_id) / "numa_node").read_text())
    except (OSError, ValueError):
        return last
    return node if node >= 0 else None
