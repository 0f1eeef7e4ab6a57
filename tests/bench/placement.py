#!/usr/bin/env python3
"""How long GetPreferredAllocation thinks, by the machine's wiring: prepared, first question, and questions like before.

usage: tests/bench/placement.py

Without gRPC: what daemon.py shows as "in the daemon", for more machines than one.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "files/devplugin/src"))

from nvidia_devplugin.devices.placement import Placement
from nvidia_devplugin.model import AdvertisedDevice, Gpu, Link, Topology

MESH = {  # how many NVLinks join the GPUs of a machine with eight V100
    (0, 1): 1, (0, 2): 1, (0, 3): 2, (0, 4): 2, (1, 2): 2, (1, 3): 1, (1, 5): 2, (2, 3): 2,
    (2, 6): 1, (3, 7): 1, (4, 5): 1, (4, 6): 1, (4, 7): 2, (5, 6): 2, (5, 7): 1, (6, 7): 2,
}  # fmt: skip
CHANCE = random.Random(1)


def level(a: int, b: int, *groups: tuple[int, int]) -> int:
    """The level of the smallest group, of (size, level), that holds both; 50 if none does."""
    return next((found for size, found in groups if a // size == b // size), 50)


MACHINES: dict[str, tuple[int, Callable[[int, int], Link], int]] = {
    "8 GPUs on an NVSwitch": (8, lambda a, b: Link(level(a, b, (4, 30)), 18), 0),
    "8 GPUs in a mesh of NVLinks": (8, lambda a, b: Link(level(a, b, (2, 20), (4, 30)), MESH.get((a, b), 0)), 0),
    "16 GPUs in PCIe pairs": (16, lambda a, b: Link(level(a, b, (2, 20), (8, 30))), 0),
    "16 GPUs without any regularity": (
        16,
        lambda *_: Link(CHANCE.choice((0, 10, 20, 30, 50)), CHANCE.randrange(12)),
        0,
    ),
    "8 GPUs shared by 10": (8, lambda *_: Link(30), 10),
    "8 GPUs shared by 100": (8, lambda *_: Link(30), 100),
}


def machine(count: int, link: Callable[[int, int], Link], replicas: int) -> tuple[list[AdvertisedDevice], Topology]:
    gpus = [Gpu(at, f"GPU-{at:08x}-0000-0000-0000-000000000000", at, "", 0, "", at * 2 // count) for at in range(count)]
    pairs = itertools.combinations(range(count), 2)
    topology = Topology(tuple((gpus[a].uuid, gpus[b].uuid, link(a, b)) for a, b in pairs))
    if not replicas:
        return [AdvertisedDevice(gpu.uuid, gpu) for gpu in gpus], topology
    return [AdvertisedDevice(f"{gpu.uuid}::{n}", gpu, None, n) for gpu in gpus for n in range(replicas)], topology


def microseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e6


def main() -> None:
    print(f"{'us':<32}{'prepare':>10}{'all free':>10}{'some free, first time':>24}{'again':>8}")
    print(f"{'':<32}{'':>10}{'':>10}{'p50':>14}{'max':>10}")
    for name, (count, link, replicas) in MACHINES.items():
        devices, topology = machine(count, link, replicas)
        ids = [device.id for device in devices]
        placement = Placement(devices, topology)
        prepare = microseconds(placement.prepare)
        free = microseconds(lambda: placement.prefer(ids, (), count // 2))  # noqa: B023 called at once
        first, again = [], []
        for _ in range(50):
            some = CHANCE.sample(ids, CHANCE.randrange(count // 2, len(ids)))
            size = CHANCE.randrange(1, count // 2 + 1)
            first.append(microseconds(lambda: placement.prefer(some, (), size)))  # noqa: B023
            again.append(microseconds(lambda: placement.prefer(some, (), size)))  # noqa: B023
        line = f"{name:<32}{prepare:>10.0f}{free:>10.1f}{statistics.median(first):>14.0f}{max(first):>10.0f}"
        print(f"{line}{statistics.median(again):>8.1f}")


if __name__ == "__main__":
    main()
