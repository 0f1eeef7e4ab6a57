"""MIG devices: their attributes, their profile's name, and the capability nodes that open them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pynvml

from ..model import Gpu, MigAttributes, MigDevice
from .errors import ReadError, read, require, text, uuid_of

MIG_MINORS = Path("/proc/driver/nvidia-caps/mig-minors")

_PROFILE = re.compile(r"(?:\d+c\.)?\d+g\.\d+gb(?:[+-][a-z0-9.+-]+)?")
_MINOR = re.compile(r"(gpu\d+/gi\d+(?:/ci\d+)?/access) (\d+)")
_NO_DEVICE = (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT)


def handle_at(gpu: Any, index: int) -> Any:
    """The handle of a GPU's MIG device; None where there is none: indices may have gaps. Raises ReadError."""
    try:
        return read(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, index)
    except ReadError as error:
        if error.code in _NO_DEVICE:
            return None
        raise


def describe(handle: Any, index: int, gpu: Gpu, last: MigDevice | None, minors: Mapping[str, int]) -> MigDevice:
    """The MIG device as it is now.

    last: as it was read before under this UUID; what cannot be read is taken from it. Raises ReadError.
    """
    gi = int(require(pynvml.nvmlDeviceGetGpuInstanceId, handle))
    ci = int(require(pynvml.nvmlDeviceGetComputeInstanceId, handle))
    attributes = require(pynvml.nvmlDeviceGetAttributes_v2, handle)
    memory = int(require(pynvml.nvmlDeviceGetMemoryInfo, handle).total)
    name = text(require(pynvml.nvmlDeviceGetName, handle))
    profile = profile_name(
        name,
        attributes.gpuInstanceSliceCount,
        attributes.computeInstanceSliceCount,
        attributes.memorySizeMB * 2**20,
        gpu.memory_bytes,
    )
    named = (f"gpu{gpu.minor}/gi{gi}/access", f"gpu{gpu.minor}/gi{gi}/ci{ci}/access")
    capabilities = tuple(minors[name] for name in named if name in minors)
    if last is not None and last.gi == gi and last.ci == ci and not capabilities:
        capabilities = last.capabilities
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
    return MigDevice(index, uuid_of(handle), profile, gi, ci, memory, capabilities, has)


def profile_name(device_name: str, gi_slices: int, ci_slices: int, memory_bytes: int, gpu_memory_bytes: int) -> str:
    """The profile as nvidia-smi shows it, such as 3g.40gb or 1c.3g.40gb.

    NVML's name of a MIG device ends in it, which alone tells media extensions (1g.10gb+me). For drivers that give the
    GPU's name only, NVIDIA's own rule applies (go-nvlib): eighths of the GPU's memory, rounded up, in whole GiB.
    """
    last = device_name.rsplit(" MIG ", 1)[-1]
    if _PROFILE.fullmatch(last):
        return last
    eighths = math.ceil(memory_bytes / gpu_memory_bytes * 8) if gpu_memory_bytes else 8
    total = math.ceil(gpu_memory_bytes / 2**30)
    part = "" if ci_slices == gi_slices else f"{ci_slices}c."
    return f"{part}{gi_slices}g.{math.floor(eighths * total / 8 + 0.5)}gb"


def read_minors(path: Path = MIG_MINORS) -> dict[str, int]:
    """The minors of capability nodes; none where the kernel does not list them."""
    try:
        return capability_minors(path.read_text())
    except (OSError, ValueError):
        return {}


def capability_minors(text: str) -> dict[str, int]:
    """The N of /dev/nvidia-caps/nvidia-capN by name (gpu0/gi1/access), from /proc/driver/nvidia-caps/mig-minors."""
    return {match[1]: int(match[2]) for line in text.splitlines() if (match := _MINOR.fullmatch(line.strip()))}
