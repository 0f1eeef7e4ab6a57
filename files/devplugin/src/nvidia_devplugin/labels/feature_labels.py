"""The node's labels: the keys of NVIDIA's gpu-feature-discovery, with its values for the same machine. Pure.

The rules are those of internal/lm in NVIDIA/k8s-device-plugin. Where several models of GPU are in one machine theirs
takes any of them, and another one the next time; ours takes the model with the most GPUs, and the first among equals.
A value that the API server would refuse is made one that it takes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..config.resource_rules import DOMAIN, Rules
from ..devices.resources import gpu_resource, mig_resource_of, not_uniform, selected
from ..model import Gpu, MigDevice

_LONGEST = 63
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")

# https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities; families as gpu-feature-discovery spells
_FAMILIES = {1: "tesla", 2: "fermi", 3: "kepler", 5: "maxwell", 6: "pascal", 9: "hopper", 10: "blackwell"}
_FAMILIES[12] = "blackwell"
_MODES = {0x030000: "graphics", 0x030200: "compute"}  # PCI classes: VGA controller, 3D controller


@dataclass(frozen=True)
class Machine:
    """What is known of the machine without NVML.

    product: as its firmware names it; None if that cannot be read. gpu_class: PCI class of the first GPU, if known.
    vgpu_host: version and branch of the driver of the hypervisor that lends the GPUs; None on bare metal.
    """

    product: str | None = None
    gpu_class: int | None = None
    vgpu_host: tuple[str, str] | None = None


@dataclass(frozen=True)
class Node:
    """All that the labels are made from. timestamp: seconds since 1970; None to leave it out."""

    gpus: tuple[Gpu, ...]
    driver_version: str = ""
    cuda_version: tuple[int, int] | None = None
    machine: Machine = Machine()
    timestamp: int | None = None


def labels(node: Node, rules: Rules) -> dict[str, str]:
    """Keys and values, sorted by key. Without a GPU there are none but the time stamp."""
    found: dict[str, object] = {}
    if node.timestamp is not None:
        found["gfd.timestamp"] = node.timestamp
    gpus = [gpu for gpu in sorted(node.gpus, key=lambda gpu: (gpu.index, gpu.uuid)) if selected(gpu, rules)]
    if gpus:
        found["gpu.machine"] = "unknown" if node.machine.product is None else node.machine.product.replace(" ", "-")
        found["gpu.mode"] = _MODES.get(node.machine.gpu_class or 0, "unknown")
        found["mig.capable"] = str(any(gpu.mig_capable for gpu in gpus)).lower()
        found["mps.capable"] = "false"
        found.update(_versions(node.driver_version, node.cuda_version))
        found.update(_whole(gpus, rules))
        found.update(_mig(gpus, rules))
        cliques = {gpu.clique for gpu in gpus if gpu.clique}
        if len(cliques) == 1:
            found["gpu.clique"] = cliques.pop()
        if node.machine.vgpu_host is not None:
            found["vgpu.present"] = "true"
            found["vgpu.host-driver-version"], found["vgpu.host-driver-branch"] = node.machine.vgpu_host
    return {DOMAIN + key: valid(str(value)) for key, value in sorted(found.items())}


def valid(value: str) -> str:
    """`value` as Kubernetes takes it for a label: unchanged if it can be."""
    if len(value) <= _LONGEST and _VALUE.fullmatch(value):
        return value
    return re.sub(r"[^A-Za-z0-9_.-]", "", value)[:_LONGEST].strip("-_.")


def family(compute: tuple[int, int]) -> str:
    """The architecture of a compute capability, as gpu-feature-discovery spells it."""
    major, minor = compute
    if major == 7:
        return "volta" if minor < 5 else "turing"
    if major == 8:
        return "ampere" if minor < 9 else "ada-lovelace"
    return _FAMILIES.get(major, "undefined")


def feature_file(made: Mapping[str, str]) -> str:
    """A file for Node Feature Discovery's local source: key=value, a line each."""
    return "".join(f"{key}={value}\n" for key, value in made.items())


def _versions(driver: str, cuda: tuple[int, int] | None) -> dict[str, object]:
    found: dict[str, object] = {}
    parts = driver.split(".")
    if len(parts) in (2, 3):  # theirs gives no label at all for another form
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


def _whole(gpus: Sequence[Gpu], rules: Rules) -> dict[str, object]:
    """What describes the GPUs as a whole, MIG or not: those without MIG come first, and alone can be shared."""
    counts = Counter(gpu.name for gpu in gpus)
    whole = [gpu for gpu in gpus if not gpu.mig_enabled]
    one = max(whole or gpus, key=lambda gpu: (counts[gpu.name], -gpu.index))
    if one.mig_enabled:
        found = _base("gpu", (one.name,), counts[one.name], replicas=0)
    else:
        found = _base("gpu", (one.name,), counts[one.name], *_sharing(gpu_resource(one, rules), rules))
    memory = one.memory_bytes // 2**20
    if memory:
        found["gpu.memory"] = memory
    if one.compute is not None and one.compute[0]:
        found["gpu.family"] = family(one.compute)
        found["gpu.compute.major"], found["gpu.compute.minor"] = one.compute
    return found


def _mig(gpus: Sequence[Gpu], rules: Rules) -> dict[str, object]:
    """What the strategy adds, or says instead."""
    if rules.mig_strategy == "none":
        return {}
    found: dict[str, object] = {"mig.strategy": rules.mig_strategy}
    split = [gpu for gpu in gpus if gpu.mig_enabled]
    kinds: dict[str, list[tuple[Gpu, MigDevice]]] = {}
    for gpu in split:
        for device in sorted(gpu.mig, key=lambda mig: mig.index):
            kinds.setdefault(device.profile.replace("+", "."), []).append((gpu, device))
    if rules.mig_strategy == "single" and split and not_uniform(gpus, split):
        product = f"{_product(split[0].name)}-MIG-INVALID"
        return {**found, "gpu.product": product, "gpu.count": 0, "gpu.replicas": 0, "gpu.memory": 0}
    for profile, devices in kinds.items():
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


def _base(key: str, product: Sequence[str], count: int, replicas: int, renamed: bool = False) -> dict[str, object]:
    """replicas: 0 where sharing does not apply, 1 where nothing is shared."""
    parts = [_product(part) for part in product]
    if replicas > 1 and not renamed:
        parts.append("SHARED")
    return {
        f"{key}.product": "-".join(part for part in parts if part),
        f"{key}.count": count,
        f"{key}.replicas": replicas,
        f"{key}.sharing-strategy": "time-slicing" if replicas > 1 else "none",
    }


def _product(name: str) -> str:
    """NVIDIA H100 80GB HBM3 becomes NVIDIA-H100-80GB-HBM3."""
    return "-".join(re.sub(r"[^A-Za-z0-9_. -]", "", name).split())


def _sharing(resource: str, rules: Rules) -> tuple[int, bool]:
    """Replicas of each device of a resource, and whether they have another name than the resource."""
    for entry in rules.shared:
        if entry.name == resource:
            return entry.replicas, entry.rename != entry.name
    return 1, False
