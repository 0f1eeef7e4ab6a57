"""The node's labels: keys and values of NVIDIA's gpu-feature-discovery 0.20 for the same machine. Pure.

The rules are those of internal/lm in NVIDIA/k8s-device-plugin, with two differences. If a machine has several models of
GPU, gpu-feature-discovery labels a random one; here it is the model with the most GPUs, the first of equals. A value
that the API server would refuse is changed into a valid one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..config.resource_rules import DOMAIN, Rules
from ..devices.resources import gpu_resource, mig_resource_of, not_uniform, selected
from ..model import Gpu, MigDevice

_LONGEST = 63
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")

# by the major number of the compute capability; 7 and 8 depend on the minor number too
_FAMILIES = {
    1: "tesla",
    2: "fermi",
    3: "kepler",
    5: "maxwell",
    6: "pascal",
    9: "hopper",
    10: "blackwell",
    12: "blackwell",
    13: "rubin",
}
_MODES = {0x030000: "graphics", 0x030200: "compute"}  # PCI classes: VGA controller, 3D controller


@dataclass(frozen=True)
class Machine:
    """Facts about the machine that NVML does not have.

    product: the firmware's product name; None if it cannot be read. pci_classes: PCI class by NVML's bus id, without
    GPUs whose class cannot be read. vgpu: whether a GPU is a vGPU; None if that cannot be read. vgpu_host: version and
    branch of the hypervisor's driver, if a vGPU names them.
    """

    product: str | None = None
    pci_classes: Mapping[str, int] = field(default_factory=dict)
    vgpu: bool | None = None
    vgpu_host: tuple[str, str] | None = None


@dataclass(frozen=True)
class Node:
    """The facts that the labels are computed from. timestamp: seconds since 1970; None to leave it out."""

    gpus: tuple[Gpu, ...]
    driver_version: str = ""
    cuda_version: tuple[int, int] | None = None
    machine: Machine = Machine()
    timestamp: int | None = None


def labels(node: Node, rules: Rules) -> dict[str, str]:
    """The labels, sorted by key. Without a GPU only the time stamp and whether there is a vGPU."""
    machine = node.machine
    found: dict[str, object] = {}
    if node.timestamp is not None:
        found["gfd.timestamp"] = node.timestamp
    if machine.vgpu is not None:
        found["vgpu.present"] = str(machine.vgpu).lower()
    if machine.vgpu_host is not None:
        found["vgpu.host-driver-version"], found["vgpu.host-driver-branch"] = machine.vgpu_host
    gpus = [gpu for gpu in sorted(node.gpus, key=lambda gpu: (gpu.index, gpu.uuid)) if selected(gpu, rules)]
    if gpus:
        found["gpu.machine"] = "unknown" if machine.product is None else _sanitise(machine.product)
        classes = {machine.pci_classes.get(gpu.pci_bus_id, 0) for gpu in gpus}
        found["gpu.mode"] = _MODES.get(classes.pop(), "unknown") if len(classes) == 1 else "unknown"
        found["mig.capable"] = str(any(gpu.mig_capable for gpu in gpus)).lower()
        found["mps.capable"] = "false"
        found.update(_versions(node.driver_version, node.cuda_version))
        found.update(_gpu(gpus, rules))
        found.update(_mig(gpus, rules))
        cliques = {gpu.clique for gpu in gpus if gpu.clique}
        if len(cliques) == 1:
            found["gpu.clique"] = cliques.pop()
    return {DOMAIN + key: valid(str(value)) for key, value in sorted(found.items())}


def valid(value: str) -> str:
    """A valid value of a label: `value` itself if it is one, else without the characters that are not allowed."""
    if len(value) <= _LONGEST and _VALUE.fullmatch(value):
        return value
    return re.sub(r"[^A-Za-z0-9_.-]", "", value)[:_LONGEST].strip("-_.")


def family(compute: tuple[int, int]) -> str:
    """The architecture of a compute capability, as gpu-feature-discovery names it."""
    major, minor = compute
    if major == 7:
        return "volta" if minor < 5 else "turing"
    if major == 8:
        return "ampere" if minor < 9 else "ada-lovelace"
    return _FAMILIES.get(major, "undefined")


def feature_file(node_labels: Mapping[str, str]) -> str:
    """The text of a file for Node Feature Discovery's local source: a line key=value per label."""
    return "".join(f"{key}={value}\n" for key, value in node_labels.items())


def _versions(driver: str, cuda: tuple[int, int] | None) -> dict[str, object]:
    found: dict[str, object] = {}
    parts = driver.split(".")
    if len(parts) in (2, 3):  # gpu-feature-discovery fails for any other form
        major, minor, revision = (*parts, "")[:3]
        found = {
            "cuda.driver-version.full": driver,
            "cuda.driver-version.major": major,
            "cuda.driver-version.minor": minor,
            "cuda.driver-version.revision": revision,
            # deprecated
            "cuda.driver.major": major,
            "cuda.driver.minor": minor,
            "cuda.driver.rev": revision,
        }
    if cuda is not None:
        major, minor = (str(number) for number in cuda)
        found.update({
            "cuda.runtime-version.full": f"{major}.{minor}",
            "cuda.runtime-version.major": major,
            "cuda.runtime-version.minor": minor,
            # deprecated
            "cuda.runtime.major": major,
            "cuda.runtime.minor": minor,
        })  # fmt: skip
    return found


def _gpu(gpus: Sequence[Gpu], rules: Rules) -> dict[str, object]:
    """Labels of the full GPUs. GPUs without MIG take precedence, and only they can be shared."""
    counts = Counter(gpu.name for gpu in gpus)
    without_mig = [gpu for gpu in gpus if not gpu.mig_enabled]
    gpu = max(without_mig or gpus, key=lambda gpu: (counts[gpu.name], -gpu.index))
    shared = (0, False) if gpu.mig_enabled else _sharing(gpu_resource(gpu, rules), rules)
    found = _base("gpu", (gpu.name,), counts[gpu.name], *shared)
    memory = gpu.memory_bytes // 2**20
    if memory:
        found["gpu.memory"] = memory
    if gpu.compute is not None and gpu.compute[0]:
        found["gpu.family"] = family(gpu.compute)
        found["gpu.compute.major"], found["gpu.compute.minor"] = gpu.compute
    return found


def _mig(gpus: Sequence[Gpu], rules: Rules) -> dict[str, object]:
    """Labels that the MIG strategy adds or replaces."""
    if rules.mig_strategy == "none":
        return {}
    found: dict[str, object] = {"mig.strategy": rules.mig_strategy}
    with_mig = [gpu for gpu in gpus if gpu.mig_enabled]
    if rules.mig_strategy == "single" and with_mig and not_uniform(gpus, with_mig):
        product = f"{_sanitise(with_mig[0].name)}-MIG-INVALID"
        invalid = {"product": product, "count": 0, "replicas": 0, "sharing-strategy": "", "memory": 0}
        return {**found, **{f"gpu.{name}": value for name, value in invalid.items()}}
    by_profile: dict[str, list[tuple[Gpu, MigDevice]]] = {}
    for gpu in with_mig:
        for device in sorted(gpu.mig, key=lambda mig: mig.index):
            by_profile.setdefault(device.profile.replace("+", "."), []).append((gpu, device))
    for profile, devices in by_profile.items():
        key = "gpu" if rules.mig_strategy == "single" else f"mig-{profile}"
        gpu, device = devices[0]
        shared = _sharing(mig_resource_of(device, rules), rules)
        found.update(_base(key, (gpu.name, "MIG", profile), len(devices), *shared))
        found.update(_attributes(key, device))
    return found


def _attributes(key: str, device: MigDevice) -> dict[str, object]:
    has = device.attributes
    if has is None:
        return {}
    return {
        f"{key}.memory": has.memory_mib,
        f"{key}.multiprocessors": has.multiprocessors,
        f"{key}.slices.gi": has.gi_slices,
        f"{key}.slices.ci": has.ci_slices,
        f"{key}.engines.copy": has.copy_engines,
        f"{key}.engines.decoder": has.decoders,
        f"{key}.engines.encoder": has.encoders,
        f"{key}.engines.jpeg": has.jpegs,
        f"{key}.engines.ofa": has.ofas,
    }


def _base(key: str, product: Sequence[str], count: int, replicas: int, renamed: bool) -> dict[str, object]:
    """replicas: 0 where sharing does not apply, 1 where nothing is shared."""
    parts = [_sanitise(part) for part in product]
    if replicas > 1 and not renamed:
        parts.append("SHARED")
    return {
        f"{key}.product": "-".join(part for part in parts if part),
        f"{key}.count": count,
        f"{key}.replicas": replicas,
        f"{key}.sharing-strategy": "time-slicing" if replicas > 1 else "none",
    }


def _sanitise(name: str) -> str:
    """NVIDIA H100 80GB HBM3 becomes NVIDIA-H100-80GB-HBM3."""
    return "-".join(re.sub(r"[^A-Za-z0-9_. -]", "", name).split())


def _sharing(resource: str, rules: Rules) -> tuple[int, bool]:
    """The number of replicas of each device of the resource, and whether the shared devices have another name."""
    for entry in rules.shared:
        if entry.name == resource:
            return entry.replicas, entry.rename != entry.name
    return 1, False
