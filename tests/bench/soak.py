"""A soak in simulated time: random events, checks, driver losses and acknowledgements through the daemon's state.

`make soak` runs a million operations. What must hold is checked all along: the last publication is the current health,
no fault is lost, nothing heals without a clean check, and memory, descriptors and threads stay what they were.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import threading
import time
from pathlib import Path

from nvidia_devplugin.config import Config
from nvidia_devplugin.devices import Devices
from nvidia_devplugin.model import DriverGone, EccEvent, Fault, Gpu, Inventory, XidEvent
from nvidia_devplugin.policy import Policy

GPUS = tuple(Gpu(i, f"GPU-{i:08x}", i, "NVIDIA H100 80GB HBM3", 2**36, f"00000000:{i:02X}:00.0") for i in range(8))
XIDS = (13, 31, 43, 48, 63, 74, 79, 92, 94, 119, 999)
FAULTS = (Fault("row_remap_pending", "pending"), Fault("nvml_error_999", "garbage"), Fault("thermal_shutdown", "hot"))


class Machine:
    """The daemon's state on a scripted driver and clock, and what was published last."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.published: dict[str, Fault] = {}
        self.policy = Policy.from_text()
        self.devices = Devices(Config(), self, self.policy, lambda: self.now)
        self.bad: dict[str, Fault] = {}
        self.present = set(GPUS)
        self.devices.apply(self.inventory())

    def publish(self, resources: object, faults: dict[str, Fault], topology: object) -> None:
        self.published = dict(faults)

    def inventory(self) -> Inventory:
        gpus = tuple(gpu for gpu in GPUS if gpu in self.present)
        return Inventory("550", gpus, tuple((gpu.uuid, self.bad[gpu.uuid]) for gpu in gpus if gpu.uuid in self.bad))

    def step(self) -> None:
        """One random operation, and what must hold after it."""
        pick, gpu = self.random.random(), self.random.choice(GPUS)
        self.now += self.random.expovariate(1 / 5)
        if pick < 0.4:
            xid = self.random.choice(XIDS)
            self.devices.apply(XidEvent(gpu.uuid, xid))
            assert self.policy.ignores(xid) or gpu.uuid in self.published, f"XID {xid} was lost"
        elif pick < 0.45:
            self.devices.apply(EccEvent(gpu.uuid))
            assert gpu.uuid in self.published, "an ECC event was lost"
        elif pick < 0.55:
            if self.bad.pop(gpu.uuid, None) is None:
                self.bad[gpu.uuid] = self.random.choice(FAULTS)
        elif pick < 0.6:
            self.present ^= {gpu}
        elif pick < 0.65:
            code = self.random.choice(["driver_not_loaded", "driver_hangs", "nvml_error_999"])
            self.devices.apply(DriverGone(Fault(code, code), "wait"))
            assert len(self.published) == len(GPUS), "without a driver nothing is healthy"
        elif pick < 0.75:
            before = self.devices.health
            try:
                self.devices.acknowledge(gpu.uuid)
            except ValueError:
                assert self.devices.health == before
        else:
            self.devices.apply(self.inventory())
            missing = {each.uuid for each in GPUS if each not in self.present}
            assert missing | set(dict(self.inventory().faults)) - self.accepted() <= set(self.published)
        assert self.published == self.devices.health.faults(), "what was published last is not what is so"

    def accepted(self) -> set[str]:
        """GPUs whose present fault an operator took note of."""
        return {uuid for uuid, record in self.devices.health.records.items() if record.accepted is not None}


def resources() -> tuple[int, int, int]:
    """Resident memory in KiB, open descriptors, threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024, descriptors, threading.active_count()


def soak(operations: int, seed: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Run so many operations; the resources after a tenth of them, and at the end."""
    logging.disable(logging.CRITICAL)
    try:
        machine = Machine(seed)
        warm = resources()
        for number in range(operations):
            machine.step()
            if number == operations // 10:
                warm = resources()
        return warm, resources()
    finally:
        logging.disable(logging.NOTSET)


def main() -> int:
    """0 if nothing was lost and nothing leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    warm, end = soak(arguments.operations, arguments.seed)
    print(f"{arguments.operations} operations in {time.monotonic() - began:.0f} s, seed {arguments.seed}")
    for name, before, after in zip(("resident KiB", "descriptors", "threads"), warm, end, strict=True):
        print(f"  {name:14} {before:8} after a tenth, {after:8} at the end")
    return 0 if end[0] - warm[0] < 2048 and end[1:] == warm[1:] else 1


if __name__ == "__main__":
    sys.exit(main())
