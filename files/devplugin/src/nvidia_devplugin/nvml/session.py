"""The driver: all of NVML, and nothing else in the package touches it.

Every call is made by one thread of its own, so that a driver that hangs holds up neither the kubelet's calls nor a
shutdown. The thread hands over values of model; it is never waited for.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import pynvml

from ..health.vitals import Vitals, examine, hot
from ..log import Logger, worth_a_line
from ..model import (
    DriverGone,
    DriverUpdate,
    EccEvent,
    Fault,
    Gpu,
    Inventory,
    Link,
    MigAttributes,
    MigDevice,
    Topology,
    XidEvent,
)
from .mig import capability_minors, profile_name

log = Logger("nvml")

POLL_SECONDS = 5.0
"""How often the driver is asked whether all GPUs are still there; XIDs do not wait for it."""

_RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
_STABLE_SECONDS = 30.0  # a session that lasted so long starts the retries afresh
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_MIG_MINORS = Path("/proc/driver/nvidia-caps/mig-minors")
_MOST_DEVICES = 1024  # what claims more is garbage, and would keep us counting
_BAD = (pynvml.NVMLError, ValueError)  # an error, or an answer that cannot be one: text that is none, for example
_NO_INSTANCE = 0xFFFFFFFF  # in an event: the GPU as a whole

_KNOWN_ERRORS: dict[int, tuple[str, str, str]] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "library_missing",
        "libnvidia-ml.so.1 was not found",
        "in a pod: the NVIDIA container runtime puts it there, so set runtimeClassName: nvidia (or make nvidia the "
        "default runtime), check the driver and nvidia-container-toolkit on the node, then let the pod be recreated",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "driver_not_loaded",
        "the NVIDIA kernel module is not loaded",
        "on the node: modprobe nvidia, then nvidia-smi; if the module is missing, (re)install the driver for the "
        "running kernel; in a pod also check that /dev/nvidiactl is there",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "version_mismatch",
        "the driver's library and the loaded kernel module have different versions",
        "the driver was upgraded while the old module was loaded: reboot the node, or drain it and reload the "
        "modules, then recreate the pod; hold the driver's packages against unattended upgrades",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "no_permission",
        "the driver refuses access",
        "the daemon needs /dev/nvidiactl and NVIDIA_DRIVER_CAPABILITIES with utility",
    ),
}


class NvmlUnavailableError(Exception):
    """NVML as a whole does not work; `gone` says it in terms of model."""

    def __init__(self, error: pynvml.NVMLError) -> None:
        code, message, hint = _KNOWN_ERRORS.get(
            error.value, (f"nvml_error_{error.value}", f"NVML: {error}", "look at nvidia-smi and the kernel's log")
        )
        super().__init__(message)
        self.gone = DriverGone(Fault(code, message), hint)


class WaitFailedError(Exception):
    """Waiting for events failed: nothing is known about any GPU by that; the session must be opened anew."""


class DriverSession(Protocol):
    """NVML between init and shutdown."""

    def __enter__(self) -> DriverSession:
        """Initialise NVML. Raises DriverError."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut NVML down."""

    def inventory(self) -> Inventory:
        """The GPUs and MIG devices of this moment."""

    def topology(self) -> Topology:
        """How the GPUs are connected."""

    def wait(self, seconds: float) -> XidEvent | EccEvent | None:
        """The next event, or None after so many seconds."""


class NvmlSession:
    """NVML between init and shutdown. Opening raises NvmlUnavailableError."""

    def __init__(self, pci_devices: Path = _PCI_DEVICES, mig_minors: Path = _MIG_MINORS) -> None:
        self._pci_devices = pci_devices
        self._mig_minors = mig_minors
        self._gpus: dict[str, Gpu] = {}
        self._by_handle: dict[int, str] = {}
        self._watched: dict[str, Fault | None] = {}
        self._thresholds: dict[str, tuple[int | None, int | None]] = {}
        self._hot: set[str] = set()
        self._events: Any = None
        self._reporting = False  # at least one GPU reports its XIDs
        self._driver_version = ""
        self._cuda_version: tuple[int, int] | None = None
        self._cliques: dict[str, str] = {}

    def __enter__(self) -> NvmlSession:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlUnavailableError(error) from error
        try:
            self._driver_version = _driver_version()
            cuda = _ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)
            self._cuda_version = None if cuda is None else (cuda // 1000, cuda % 1000 // 10)
            self._events = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError as error:
            self._close()
            raise NvmlUnavailableError(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        """Give NVML back, so that the kernel module can be unloaded; a driver that is gone cannot answer this."""
        try:
            if self._events is not None:
                pynvml.nvmlEventSetFree(self._events)
        except pynvml.NVMLError as error:
            log.debug("event_set_free_failed", error=error)
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            log.debug("nvml_shutdown_failed", error=error)

    def inventory(self) -> Inventory:
        """All GPUs as they are now; new ones are watched for XIDs. Raises NvmlUnavailableError."""
        gpus: list[Gpu] = []
        faults: list[tuple[str, Fault]] = []
        unreadable: list[str] = []
        taken: set[str] = set()
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise NvmlUnavailableError(error) from error
        if count > _MOST_DEVICES:
            raise NvmlUnavailableError(pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN))
        for index in range(count):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _uuid(handle)
            except pynvml.NVMLError as error:
                if error.value in _KNOWN_ERRORS:
                    raise NvmlUnavailableError(error) from error
                unreadable.append(f"index {index}: {error}")
                continue
            except ValueError as error:
                unreadable.append(f"index {index}: {error}")
                continue
            if uuid in taken:
                unreadable.append(f"index {index}: {uuid} is another's UUID")
                continue
            if uuid not in self._gpus:
                try:
                    self._gpus[uuid] = self._describe(handle, index, uuid)
                except _BAD as error:
                    unreadable.append(f"index {index}, {uuid}: {error}")
                    continue
            taken.add(uuid)
            self._by_handle[_address(handle)] = uuid
            enabled, mig = self._mig(handle, self._gpus[uuid], unreadable, taken)
            clique = self._clique(handle, uuid)
            gpus.append(replace(self._gpus[uuid], index=index, mig_enabled=enabled, mig=mig, clique=clique))
            fault = self._answers(handle) or self._watch(handle, uuid) or self._examine(handle, uuid)
            if fault is not None:
                faults.append((uuid, fault))
        present = {gpu.uuid for gpu in gpus}
        self._watched = {uuid: fault for uuid, fault in self._watched.items() if uuid in present}
        return Inventory(self._driver_version, tuple(gpus), tuple(faults), tuple(unreadable), self._cuda_version)

    def _describe(self, handle: Any, index: int, uuid: str) -> Gpu:
        bus_id = _text(pynvml.nvmlDeviceGetPciInfo(handle).busId)
        try:
            memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        except pynvml.NVMLError:
            memory = 0  # GPUs that share the machine's memory have none of their own
        return Gpu(
            index=index,
            uuid=uuid,
            minor=pynvml.nvmlDeviceGetMinorNumber(handle),
            name=_text(pynvml.nvmlDeviceGetName(handle)),
            memory_bytes=memory,
            pci_bus_id=bus_id,
            numa_node=numa_node(self._pci_devices, bus_id),
            mig_capable=_ask(pynvml.nvmlDeviceGetMigMode, handle) is not None,
            compute=_ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle),
        )

    def _clique(self, handle: Any, uuid: str) -> str:
        """The NVLink domain that it belongs to. A GPU may join one long after its driver was loaded."""
        if uuid not in self._cliques:
            info = pynvml.c_nvmlGpuFabricInfo_v2_t()
            try:
                pynvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
            except pynvml.NVMLError as error:
                if error.value in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                    self._cliques[uuid] = ""  # for good; anything else is asked again
                return ""
            cluster = bytes(info.clusterUuid).hex()
            joined = info.state == pynvml.NVML_GPU_FABRIC_STATE_COMPLETED and info.status == pynvml.NVML_SUCCESS
            if not joined or not cluster.strip("0"):
                return ""
            parts = (cluster[:8], cluster[8:12], cluster[12:16], cluster[16:20], cluster[20:])
            self._cliques[uuid] = f"{'-'.join(parts)}.{info.cliqueId}"
        return self._cliques[uuid]

    def _mig(self, handle: Any, gpu: Gpu, unreadable: list[str], taken: set[str]) -> tuple[bool, tuple[MigDevice, ...]]:
        """Whether MIG is on, and the GPU's MIG devices. What cannot be read is named in `unreadable`.

        taken: the UUIDs that were seen already; those of the MIG devices are added.
        """
        try:
            enabled = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
            most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) if enabled else 0
        except _BAD:
            return False, ()  # it knows no MIG, or is lost, which _answers() tells
        devices = []
        minors: dict[str, int] | None = None
        for index in range(min(most, _MOST_DEVICES)):
            try:
                mig = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            except pynvml.NVMLError as error:
                if error.value not in (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT):
                    unreadable.append(f"MIG device {index} of {gpu.uuid}: {error}")
                continue  # indices may have gaps
            try:
                if minors is None:
                    minors = self._read_minors()
                device = _describe_mig(mig, index, gpu, minors)
                if device.uuid in taken:
                    raise ValueError(f"{device.uuid} is another's UUID")
                taken.add(device.uuid)
                devices.append(device)
            except _BAD as error:
                unreadable.append(f"MIG device {index} of {gpu.uuid}: {error}")
        return enabled, tuple(devices)

    def _read_minors(self) -> dict[str, int]:
        try:
            return capability_minors(self._mig_minors.read_text())
        except (OSError, ValueError):
            return {}

    def topology(self) -> Topology:
        """How all GPUs are connected; what the driver does not say is left unknown. It may take a while: not at start.

        Links to NVSwitches count for every pair that has such: any two ports of them are joined.
        """
        handles = sorted(
            (uuid, handle) for uuid, handle in ((uuid, self._handle(uuid)) for uuid in self._gpus) if handle is not None
        )
        buses = {self._gpus[uuid].pci_bus_id.lower(): uuid for uuid, _handle in handles}
        ends = {uuid: _nvlinks(handle, buses) for uuid, handle in handles}
        links = []
        for at, (one, first) in enumerate(handles):
            for other, second in handles[at + 1 :]:
                try:
                    level: int | None = int(pynvml.nvmlDeviceGetTopologyCommonAncestor(first, second))
                except pynvml.NVMLError:
                    level = None
                direct = min(ends[one].get(other, 0), ends[other].get(one, 0))
                switched = min(ends[one].get(_SWITCH, 0), ends[other].get(_SWITCH, 0))
                links.append((one, other, Link(level, direct + switched)))
        return Topology(tuple(links))

    def _handle(self, uuid: str) -> Any:
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError:
            return None

    def _answers(self, handle: Any) -> Fault | None:
        """A query that reaches the GPU: handles and UUIDs may come from the library's memory."""
        try:
            pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
                return None
            if error.value in _KNOWN_ERRORS:
                raise NvmlUnavailableError(error) from error
            lost = error.value == pynvml.NVML_ERROR_GPU_IS_LOST
            return Fault("gpu_lost" if lost else f"nvml_error_{error.value}", f"NVML: {error}")
        return None

    def _examine(self, handle: Any, uuid: str) -> Fault | None:
        """What its counters and sensors say against it."""
        if uuid not in self._thresholds:
            self._thresholds[uuid] = (
                _ask(pynvml.nvmlDeviceGetTemperatureThreshold, handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
                _ask(pynvml.nvmlDeviceGetTemperatureThreshold, handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            )
        shutdown_at, slowdown_at = self._thresholds[uuid]
        values = _ask(pynvml.nvmlDeviceGetFieldValues, handle, list(_FIELDS.values())) or ()
        read = {
            name: int(value.value.uiVal)
            for name, value in zip(_FIELDS, values, strict=False)
            if value.nvmlReturn == pynvml.NVML_SUCCESS
        }
        vitals = Vitals(
            **read,
            uncorrected=_ask(
                pynvml.nvmlDeviceGetTotalEccErrors,
                handle,
                pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                pynvml.NVML_VOLATILE_ECC,
            ),
            temperature=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            shutdown_at=shutdown_at,
            slowdown_at=slowdown_at,
            was_hot=uuid in self._hot,
        )
        (self._hot.add if hot(vitals) else self._hot.discard)(uuid)
        return examine(vitals)

    def _watch(self, handle: Any, uuid: str) -> Fault | None:
        """Have the driver report this GPU's XIDs; None if it does or never will, a fault if it should but fails."""
        if uuid not in self._watched:
            self._watched[uuid] = None
            try:
                supported = pynvml.nvmlDeviceGetSupportedEventTypes(handle)
                wanted = supported & (pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError)
                if wanted:
                    pynvml.nvmlDeviceRegisterEvents(handle, wanted, self._events)
                    self._reporting = True
                else:
                    log.warning("xid_events_unsupported", gpu=uuid)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
                    log.warning("xid_events_unsupported", gpu=uuid)
                else:
                    self._watched[uuid] = Fault("events_unavailable", f"XIDs cannot be watched: NVML: {error}")
        return self._watched[uuid]

    def wait(self, seconds: float) -> XidEvent | EccEvent | None:
        """The next event, or None after `seconds`. Raises WaitFailedError."""
        if not self._reporting:  # NVML does not promise that it waits on an empty set
            time.sleep(seconds)
            return None
        try:
            data = pynvml.nvmlEventSetWait_v2(self._events, max(1, int(seconds * 1000)))
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return None
            raise WaitFailedError(str(error)) from error
        uuid = self._by_handle.get(_address(data.device))
        gi, ci = _instance(data.gpuInstanceId), _instance(data.computeInstanceId)
        if data.eventType == pynvml.nvmlEventTypeXidCriticalError:
            return XidEvent(uuid, int(data.eventData), gi, ci)
        return EccEvent(uuid, gi, ci) if data.eventType == pynvml.nvmlEventTypeDoubleBitEccError else None


_FIELDS = {
    "row_remap_failed": pynvml.NVML_FI_DEV_REMAPPED_FAILURE,
    "row_remap_pending": pynvml.NVML_FI_DEV_REMAPPED_PENDING,
    "page_retirement_pending": pynvml.NVML_FI_DEV_RETIRED_PENDING,
    "recovery_action": pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
}


def _ask(query: Callable[..., Any], *arguments: Any) -> Any:
    """None if this board or this driver does not say."""
    try:
        return query(*arguments)
    except _BAD:
        return None


def _driver_version() -> str:
    """Raises NVMLError; empty for what is no text."""
    try:
        return _text(pynvml.nvmlSystemGetDriverVersion())
    except ValueError:
        return ""


def _uuid(handle: Any) -> str:
    """Raises NVMLError; ValueError for what cannot be a UUID, which would become a device's id."""
    uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    if not uuid or len(uuid) > 63 or not uuid.isascii() or not uuid.isprintable() or " " in uuid:
        raise ValueError(f"its UUID is garbage: {uuid[:80]!r}")
    return uuid


_SWITCH = "switch"


def _instance(number: int) -> int | None:
    return None if number == _NO_INSTANCE else int(number)


def _nvlinks(handle: Any, buses: dict[str, str]) -> dict[str, int]:
    """How many active NVLinks lead from a GPU to each other GPU, by uuid, and to switches."""
    counts: dict[str, int] = {}
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            if pynvml.nvmlDeviceGetNvLinkState(handle, link) != pynvml.NVML_FEATURE_ENABLED:
                continue
            kind = pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)
            if kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
                end: str | None = _SWITCH
            else:
                end = buses.get(_text(pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId).lower())
        except ValueError:
            continue
        except pynvml.NVMLError as error:
            if error.value in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT):
                break  # no NVLink, or no link of this number
            continue
        if end is not None:
            counts[end] = counts.get(end, 0) + 1
    return counts


def _describe_mig(handle: Any, index: int, gpu: Gpu, minors: dict[str, int]) -> MigDevice:
    """Raises NVMLError; ValueError for what cannot be a UUID."""
    gi = int(pynvml.nvmlDeviceGetGpuInstanceId(handle))
    ci = int(pynvml.nvmlDeviceGetComputeInstanceId(handle))
    memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    attributes = pynvml.nvmlDeviceGetAttributes_v2(handle)
    profile = profile_name(
        _text(pynvml.nvmlDeviceGetName(handle)),
        attributes.gpuInstanceSliceCount,
        attributes.computeInstanceSliceCount,
        attributes.memorySizeMB * 2**20,
        gpu.memory_bytes,
    )
    named = (f"gpu{gpu.minor}/gi{gi}/access", f"gpu{gpu.minor}/gi{gi}/ci{ci}/access")
    capabilities = tuple(minors[name] for name in named if name in minors)
    has = MigAttributes(
        memory_mib=int(attributes.memorySizeMB),
        multiprocessors=int(attributes.multiprocessorCount),
        gi_slices=int(attributes.gpuInstanceSliceCount),
        ci_slices=int(attributes.computeInstanceSliceCount),
        copy_engines=int(attributes.sharedCopyEngineCount),
        decoders=int(attributes.sharedDecoderCount),
        encoders=int(attributes.sharedEncoderCount),
        jpegs=int(attributes.sharedJpegCount),
        ofas=int(attributes.sharedOfaCount),
    )
    return MigDevice(index, _uuid(handle), profile, gi, ci, memory, capabilities, has)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _address(handle: Any) -> int:
    """NVML's handle as a number: it stays the same for a GPU between init and shutdown."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def numa_node(pci_devices: Path, bus_id: str) -> int | None:
    """The NUMA node that the kernel names for NVML's `bus_id` (8-digit domain there, 4-digit in sysfs)."""
    domain, _colon, rest = bus_id.lower().partition(":")
    try:
        node = int((pci_devices / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


class DriverWatch:
    """The thread that follows the driver: opens NVML, retries while it cannot, reports every change.

    emit: called from the thread with each update; it must not block.
    probing: set by the user while something waits for the next check to heal: each is then reported, changed or not.
    alive: when the driver last answered, by time.monotonic(); waiting for events is no more than a poll's length.
    """

    def __init__(
        self,
        emit: Callable[[DriverUpdate], None],
        open_session: Callable[[], DriverSession] = NvmlSession,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._emit = emit
        self._open = open_session
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self.probing = False
        self.alive = time.monotonic()
        # a daemon thread: one that hangs in the driver must not keep the process alive
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end. It may be in the driver for a while; nobody waits for it."""
        self._stop.set()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            opened = self.alive = time.monotonic()
            try:
                with self._open() as session:
                    self._follow(session)
            except NvmlUnavailableError as error:
                self._emit(error.gone)
            except WaitFailedError as error:
                if worth_a_line(failures + 1):
                    log.warning("event_wait_failed", error=error, attempt=failures + 1)
            except Exception as error:  # a bug here must not end in silence: the GPUs would look healthy for ever
                log.error("driver_watch_failed", exc_info=error)
                self._emit(DriverGone(Fault("internal_error", f"internal error: {error!r}"), "report this as a bug"))
            if time.monotonic() - opened > _STABLE_SECONDS:
                failures = 0
            self._stop.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            failures += 1

    def _follow(self, session: DriverSession) -> None:
        seen = session.inventory()
        self._emit(seen)
        self._emit_topology(session, seen)
        next_poll = time.monotonic() + self._poll_seconds
        while not self._stop.is_set():
            event = session.wait(max(0.0, next_poll - time.monotonic()))
            self.alive = time.monotonic()
            if event is not None:
                self._emit(event)
            if time.monotonic() >= next_poll:
                next_poll = time.monotonic() + self._poll_seconds
                now = session.inventory()
                self.alive = time.monotonic()
                if now != seen or self.probing:
                    new = {gpu.uuid for gpu in now.gpus} - {gpu.uuid for gpu in seen.gpus}
                    seen = now
                    self._emit(now)
                    if new:
                        self._emit_topology(session, now)

    def _emit_topology(self, session: DriverSession, seen: Inventory) -> None:
        """After the inventory, so that registration does not wait for it. A single GPU has none."""
        if len(seen.gpus) > 1:
            self._emit(session.topology())
