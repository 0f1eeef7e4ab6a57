"""The values that the packages exchange: frozen dataclasses. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"


@dataclass(frozen=True)
class MigAttributes:
    """What a MIG device has, as NVML's attributes of it say: MiB, multiprocessors, slices and shared engines."""

    memory_mib: int
    multiprocessors: int
    gi_slices: int
    ci_slices: int
    copy_engines: int
    decoders: int
    encoders: int
    jpegs: int
    ofas: int


@dataclass(frozen=True)
class MigDevice:
    """One MIG device: a compute instance of a GPU instance.

    index: NVML's index within its GPU; it may change when others are made or destroyed.
    profile: as nvidia-smi names it: 1g.10gb, 1c.3g.40gb, 1g.10gb+me.
    capabilities: N of the two /dev/nvidia-caps/nvidia-capN that open it; empty when the kernel does not say.
    """

    index: int
    uuid: str
    profile: str
    gi: int
    ci: int
    memory_bytes: int = 0
    capabilities: tuple[int, ...] = ()
    attributes: MigAttributes | None = None


@dataclass(frozen=True)
class Gpu:
    """One physical GPU as the driver describes it.

    index: NVML's index, in PCI order; it may change at the next boot.
    minor: N of /dev/nvidiaN; it need not be the index. None where there is no such node, as in WSL2.
    memory_bytes: 0 if it is not known, or if the GPU shares the machine's memory.
    numa_node: None when the platform does not say.
    mig_enabled: MIG mode is on: no process can use the GPU as a whole then. None as long as it could not be read.
    compute: CUDA's compute capability, (9, 0) for Hopper; None if the driver does not say.
    clique: `<cluster's UUID>.<number>` of the NVLink domain that it has joined; empty for none.
    """

    index: int
    uuid: str
    minor: int | None
    name: str
    memory_bytes: int
    pci_bus_id: str
    numa_node: int | None = None
    mig_enabled: bool | None = False
    mig: tuple[MigDevice, ...] = ()
    mig_capable: bool = False
    compute: tuple[int, int] | None = None
    clique: str = ""


@dataclass(frozen=True)
class AdvertisedDevice:
    """One device as the kubelet sees it, and what is behind it: a GPU, or a MIG device of it.

    id: what the kubelet calls it, at most 63 characters.
    replica: which of several that share the same; None if it is not shared.
    """

    id: str
    gpu: Gpu
    mig: MigDevice | None = None
    replica: int | None = None

    @property
    def uuid(self) -> str:
        """UUID of the GPU or MIG device: the same for all that share it."""
        return self.mig.uuid if self.mig else self.gpu.uuid

    @property
    def index(self) -> str:
        """How NVIDIA's tools number it: 3 for a GPU, 3:0 for a MIG device."""
        return f"{self.gpu.index}:{self.mig.index}" if self.mig else str(self.gpu.index)


@dataclass(frozen=True)
class Resource:
    """A resource name, such as nvidia.com/gpu, and all the devices that are advertised under it.

    single_requests: no container may have more than one of its shared devices.
    """

    name: str
    devices: tuple[AdvertisedDevice, ...]
    single_requests: bool = False


@dataclass(frozen=True)
class Fault:
    """Why a GPU must not be handed out.

    code: stable and short, for logs and metrics: `xid_79`, `gpu_lost`, `driver_not_loaded`, …
    message: for people.
    """

    code: str
    message: str


@dataclass(frozen=True)
class XidEvent:
    """The driver's report of an XID. uuid is None when NVML could not say which GPU it came from.

    gi, ci: the GPU instance and compute instance that it concerns; None for all of the GPU or of the instance.
    """

    uuid: str | None
    xid: int
    gi: int | None = None
    ci: int | None = None


@dataclass(frozen=True)
class EccEvent:
    """The driver's report of a double-bit ECC error; fields as in XidEvent."""

    uuid: str | None
    gi: int | None = None
    ci: int | None = None


@dataclass(frozen=True)
class Vitals:
    """A GPU's counters and sensors; None for what it does not say. Degrees Celsius.

    recovery_action: nvmlDeviceGpuRecoveryAction_t of nvml.h.
    uncorrected: ECC errors that could not be corrected since the driver was loaded or the GPU reset.
    """

    row_remap_failed: int | None = None
    row_remap_pending: int | None = None
    page_retirement_pending: int | None = None
    recovery_action: int | None = None
    uncorrected: int | None = None
    temperature: int | None = None
    shutdown_at: int | None = None
    slowdown_at: int | None = None


@dataclass(frozen=True)
class Inventory:
    """All GPUs that the driver enumerates now.

    A value that could not be read this time is as it was read last. faults: why a GPU or MIG device cannot be used, by
    UUID. unreadable: GPUs and MIG devices that were never read, for people.
    cuda_version: the newest CUDA that the driver supports, major and minor; None if it does not say.
    vitals: by UUID of the GPU. hidden: MIG devices that exist and that this container may not use, as UUID of the GPU
    and numbers of GPU instance and compute instance.
    """

    driver_version: str
    gpus: tuple[Gpu, ...]
    faults: tuple[tuple[str, Fault], ...] = ()
    unreadable: tuple[str, ...] = ()
    cuda_version: tuple[int, int] | None = None
    vitals: tuple[tuple[str, Vitals], ...] = ()
    hidden: frozenset[tuple[str, int, int]] = frozenset()


@dataclass(frozen=True)
class DriverGone:
    """NVML cannot be used (any more).

    hint: what an operator can do about it.
    """

    fault: Fault
    hint: str


@dataclass(frozen=True)
class Link:
    """How two GPUs are connected.

    level: NVML's topology level of their nearest common ancestor, 0 (one board) to 50 (across CPUs); None if unknown.
    nvlinks: how many NVLinks join them, directly or through switches.
    """

    level: int | None = None
    nvlinks: int = 0


@dataclass(frozen=True)
class Topology:
    """How all pairs of GPUs are connected, by their uuids in alphabetical order.

    complete: no value was unreadable.
    """

    links: tuple[tuple[str, str, Link], ...]
    complete: bool = True


DriverUpdate = Inventory | XidEvent | EccEvent | DriverGone | Topology


def indices_of(gpus: Iterable[Gpu]) -> dict[str, str]:
    """UUID -> index of all GPUs (`0`) and MIG devices (`0:1`), as NVIDIA's tools number them."""
    gpus = tuple(gpus)
    found = {gpu.uuid: str(gpu.index) for gpu in gpus}
    return found | {mig.uuid: f"{gpu.index}:{mig.index}" for gpu in gpus for mig in gpu.mig}


def sysfs_name(bus_id: str) -> str:
    """NVML's PCI address (8-digit domain) as the kernel writes it (4-digit domain, lower case)."""
    domain, _colon, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def fault_of(device: AdvertisedDevice, faults: Mapping[str, Fault]) -> Fault | None:
    """Why a device must not be handed out, out of faults by the uuids of GPUs and MIG devices; None if it may."""
    return faults.get(device.gpu.uuid) or (faults.get(device.mig.uuid) if device.mig else None)


IGNORE, TRANSIENT, FATAL = "ignore", "transient", "fatal"
SEVERITIES = (IGNORE, TRANSIENT, FATAL)
"""What an XID says about its GPU: nothing (the application is at fault), a fault that heals, one that needs a reset."""

POLLED_FAULTS = (
    "row_remap_failed",
    "row_remap_pending",
    "page_retirement_pending",
    "ecc_double_bit",
    "reset_required",
    "reboot_required",
    "thermal_shutdown",
)
"""Codes of the faults that polling finds: the config may tell to ignore them."""
