"""What names a MIG device: its profile, and the capability nodes that open it. Pure."""

from __future__ import annotations

import math
import re

_PROFILE = re.compile(r"(?:\d+c\.)?\d+g\.\d+gb(?:[+-][a-z0-9.+-]+)?")
_MINOR = re.compile(r"(gpu\d+/gi\d+(?:/ci\d+)?/access) (\d+)")


def profile_name(device_name: str, gi_slices: int, ci_slices: int, memory_bytes: int, gpu_memory_bytes: int) -> str:
    """The profile as nvidia-smi shows it, such as 3g.40gb or 1c.3g.40gb.

    NVML's name of a MIG device ends in it, which alone tells media extensions (1g.10gb+me). Drivers that give the GPU's
    name only are helped by NVIDIA's own rule (go-nvlib): eighths of the GPU's memory, rounded up, in whole GiB.
    """
    last = device_name.rsplit(" MIG ", 1)[-1]
    if _PROFILE.fullmatch(last):
        return last
    eighths = math.ceil(memory_bytes / gpu_memory_bytes * 8) if gpu_memory_bytes else 8
    total = math.ceil(gpu_memory_bytes / 2**30)
    part = "" if ci_slices == gi_slices else f"{ci_slices}c."
    return f"{part}{gi_slices}g.{math.floor(eighths * total / 8 + 0.5)}gb"


def capability_minors(text: str) -> dict[str, int]:
    """The N of /dev/nvidia-caps/nvidia-capN by name (gpu0/gi1/access), from /proc/driver/nvidia-caps/mig-minors."""
    return {match[1]: int(match[2]) for line in text.splitlines() if (match := _MINOR.fullmatch(line.strip()))}
