"""From device ids to what a container gets. Pure: the check for device nodes is passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from zlib import crc32

from ..config.settings import Config
from ..model import AdvertisedDevice, Fault, fault_of
from .listing import listed

VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
IMEX_CHANNELS = "NVIDIA_IMEX_CHANNELS"
MOUNTED_DEVICES = "/var/run/nvidia-container-devices"
"""Where NVIDIA's container runtime looks for devices given as mounts, which only the kubelet can add."""

IMEX_NODES = "/dev/nvidia-caps-imex-channels"
CDI_NAME = "nvidia-device-plugin"
REQUIRED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
WSL_NODE = "/dev/dxg"
CONTROL_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")


class AllocationError(Exception):
    """The request cannot be met; the message is shown in the pod's events."""


class UnknownDeviceError(AllocationError):
    """An id that is not advertised under this resource."""


class UnhealthyDeviceError(AllocationError):
    """A device that must not be allocated now."""


@dataclass(frozen=True)
class DeviceNode:
    """A device node to create in the container; `permissions` are the device cgroup's: r, w, m."""

    container_path: str
    host_path: str
    permissions: str = "rw"


@dataclass(frozen=True)
class Mount:
    """A read-only mount."""

    container_path: str
    host_path: str


@dataclass(frozen=True)
class Allocation:
    """What one container gets. cdi_devices: qualified names, such as nvidia.com/gpu=0, for the kubelet to pass on."""

    envs: Mapping[str, str]
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cdi_devices: tuple[str, ...] = ()


class TooManyError(AllocationError):
    """More shared devices than one container may have, or two of one GPU where the settings forbid that."""


def allocate(
    ids: Sequence[str],
    devices: Mapping[str, AdvertisedDevice],
    faults: Mapping[str, Fault],
    config: Config,
    exists: Callable[[str], bool],
    single_requests: bool = False,
) -> Allocation:
    """What a container gets with the devices `ids`.

    devices: the resource's devices by id. faults: by uuid of GPU or MIG device. exists: whether a device node exists on
    this machine. single_requests: no container may have more than one shared device of this resource.
    Raises AllocationError.
    """
    unknown = [device for device in ids if device not in devices]
    if unknown:
        raise UnknownDeviceError(
            f"unknown device {listed(unknown)}: not among the {len(devices)} devices that this node advertises"
        )
    chosen = [devices[device] for device in dict.fromkeys(ids)]
    reasons = [
        f"device {device.id} ({'MIG device' if device.mig else 'GPU'} {device.index}) is unhealthy: {fault.message}"
        for device in chosen
        if (fault := fault_of(device, faults)) is not None
    ]
    if reasons:
        raise UnhealthyDeviceError(listed(reasons, "; ", 400))
    _check_sharing(chosen, config, single_requests)
    channels = _imex_channels(config, exists)
    # several replicas of one GPU are one GPU to the container
    names = list(dict.fromkeys(dev.index if config.device_id_strategy == "index" else dev.uuid for dev in chosen))
    return _response(names, chosen, channels, config, exists)


def _check_sharing(chosen: Sequence[AdvertisedDevice], config: Config, single_requests: bool) -> None:
    shared = [device for device in chosen if device.replica is not None]
    if single_requests and shared and len(chosen) > 1:
        raise TooManyError(
            f"{len(chosen)} shared devices requested: this node allows 1 for each container "
            "(failRequestsGreaterThanOne), because more than one gives no more of the GPU"
        )
    if not config.distinct_gpus:
        return
    owners: dict[str, list[AdvertisedDevice]] = {}
    for device in chosen:
        owners.setdefault(device.gpu.uuid, []).append(device)
    twice = [of for of in owners.values() if len(of) > 1]
    if twice:
        told = (f"{listed(device.id for device in of)} are on GPU {of[0].gpu.index}" for of in twice)
        raise TooManyError(
            f"{listed(told, '; ', 800)}: this node gives no container two devices of one GPU (kubegpu.distinctGpus); "
            f"ask for fewer, or wait until {len(chosen)} GPUs have a free one"
        )


def _imex_channels(config: Config, exists: Callable[[str], bool]) -> tuple[str, ...]:
    """The channels that exist. Raises AllocationError if one is missing and they are required."""
    missing = [channel for channel in config.imex_channels if not exists(f"{IMEX_NODES}/channel{channel}")]
    if missing and config.imex_required:
        raise AllocationError(
            f"IMEX channel {listed(missing)} is required (imex.required), and {IMEX_NODES} has no node for it: "
            "is the kernel module's parameter NVreg_CreateImexChannel0 set, or was the channel created?"
        )
    return tuple(channel for channel in config.imex_channels if channel not in missing)


def _response(
    names: Sequence[str],
    chosen: Sequence[AdvertisedDevice],
    channels: Sequence[str],
    config: Config,
    exists: Callable[[str], bool],
) -> Allocation:
    """The devices in every form that the settings ask for; the container's runtime ignores what it does not use."""
    strategies = config.device_list_strategies
    envs: dict[str, str] = {}
    mounts: list[Mount] = []
    nodes: tuple[DeviceNode, ...] = ()
    annotations: dict[str, str] = {}
    cdi: tuple[str, ...] = ()
    if "cdi-annotations" in strategies or "cdi-cri" in strategies:
        cdi = _cdi_devices(names, channels, config)
    if "cdi-annotations" in strategies:
        # a key of its own for each container: the kubelet merges the annotations of all resources of a container
        key = f"{config.cdi_annotation_prefix}{CDI_NAME}_{_digest(chosen)}"
        annotations[key] = ",".join(cdi)
    if "envvar" in strategies:
        envs[VISIBLE_DEVICES] = ",".join(names)
        if channels:
            envs[IMEX_CHANNELS] = ",".join(channels)
    if "volume-mounts" in strategies:
        envs[VISIBLE_DEVICES] = MOUNTED_DEVICES
        mounts = [Mount(f"{MOUNTED_DEVICES}/{name}", "/dev/null") for name in names]
        mounts += [Mount(f"{MOUNTED_DEVICES}/imex/{channel}", "/dev/null") for channel in channels]
    if "envvar" in strategies or "volume-mounts" in strategies:  # with CDI alone the specification has all this
        envs.update((name, "enabled") for name, wanted in _extras(config) if wanted)
        if config.pass_device_specs:
            nodes = _device_nodes(chosen, channels, config.dev_root, exists)
    return Allocation(envs, nodes, tuple(mounts), annotations, cdi if "cdi-cri" in strategies else ())


def _extras(config: Config) -> tuple[tuple[str, bool], ...]:
    return (
        ("NVIDIA_GDRCOPY", config.gdrcopy_enabled),
        ("NVIDIA_GDS", config.gds_enabled),
        ("NVIDIA_MOFED", config.mofed_enabled),
    )


def _cdi_devices(names: Sequence[str], channels: Sequence[str], config: Config) -> tuple[str, ...]:
    """Names as `nvidia-ctk cdi generate` gives them in the specifications that it writes."""
    vendor = config.cdi_kind.partition("/")[0]
    found = [f"{config.cdi_kind}={name}" for name in names]
    found += [f"{vendor}/imex-channel={channel}" for channel in channels]
    found += [f"{vendor}/{kind.removeprefix('NVIDIA_').lower()}=all" for kind, wanted in _extras(config) if wanted]
    return tuple(found)


def _digest(chosen: Sequence[AdvertisedDevice]) -> str:
    return f"{crc32(','.join(sorted(device.id for device in chosen)).encode()):08x}"


def _device_nodes(
    devices: Sequence[AdvertisedDevice], channels: Sequence[str], dev_root: str, exists: Callable[[str], bool]
) -> tuple[DeviceNode, ...]:
    """The control nodes, and each GPU's own. Raises AllocationError where the container would get too little.

    A MIG device needs those of its GPU instance and compute instance as well. Host paths are below `dev_root`, as in
    NVIDIA's plugin.
    """
    if exists(WSL_NODE) and all(device.gpu.minor is None for device in devices):
        paths = [WSL_NODE]
    else:
        missing = [path for path in REQUIRED_NODES if not exists(path)]
        if missing:
            raise AllocationError(
                f"passDeviceSpecs: the plugin's container has no {listed(missing)}: its NVIDIA_DRIVER_CAPABILITIES "
                "must contain compute and utility, and the module nvidia_uvm must be loaded on the node"
            )
        paths = [path for path in CONTROL_NODES if exists(path)]
        for device in devices:
            paths += _own_nodes(device)
    paths += [f"{IMEX_NODES}/channel{channel}" for channel in channels]
    root = PurePosixPath(dev_root)
    return tuple(DeviceNode(path, str(root / path.lstrip("/"))) for path in dict.fromkeys(paths))


def _own_nodes(device: AdvertisedDevice) -> list[str]:
    """The nodes of a GPU, and those of its MIG device. Raises AllocationError where their numbers are not known."""
    if device.gpu.minor is None:
        raise AllocationError(f"passDeviceSpecs: the driver gives no minor number of GPU {device.index}")
    if device.mig and not device.mig.capabilities:
        raise AllocationError(
            f"passDeviceSpecs: the capabilities of MIG device {device.index} are not known: "
            "/proc/driver/nvidia-caps/mig-minors cannot be read in the plugin's container"
        )
    capabilities = device.mig.capabilities if device.mig else ()
    return [f"/dev/nvidia{device.gpu.minor}", *(f"/dev/nvidia-caps/nvidia-cap{number}" for number in capabilities)]
