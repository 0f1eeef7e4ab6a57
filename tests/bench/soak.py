"""A soak in simulated time: random events, checks, driver losses, acknowledgements, streams that come and go, and a
daemon that is killed, through the daemon's state, its plugin, its memory, its metrics and its labels.

`make soak` runs a million operations. What must hold is checked all along: the last publication is the current health,
and what every open stream received; no fault is lost, none is counted wrongly, fatal ones outlive a kill; and memory,
descriptors and threads stay what they were.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from nvidia_devplugin.config.settings import Config
from nvidia_devplugin.gpu_tracker import GpuTracker
from nvidia_devplugin.health.fault_store import FaultStore
from nvidia_devplugin.health.policy import FATAL, Policy
from nvidia_devplugin.http.metrics import Metrics
from nvidia_devplugin.kubelet.plugin import DevicePlugin
from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from nvidia_devplugin.labels.feature_labels import Machine as Firmware
from nvidia_devplugin.labels.label_writer import NodeLabels
from nvidia_devplugin.model import DriverGone, DriverUpdate, EccEvent, Fault, Gpu, Inventory, Resource, XidEvent

GPUS = tuple(Gpu(i, f"GPU-{i:08x}", i, "NVIDIA H100 80GB HBM3", 2**36, f"00000000:{i:02X}:00.0") for i in range(8))
XIDS = (13, 31, 43, 48, 63, 74, 79, 92, 94, 119, 999)
FAULTS = (Fault("row_remap_pending", "pending"), Fault("nvml_error_999", "garbage"), Fault("thermal_shutdown", "hot"))


class Machine:
    """The daemon's parts on a scripted driver and clock, and what was published last. Needs a running event loop."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.directory = directory
        self.bad: dict[str, Fault] = {}
        self.present = set(GPUS)
        self.streams: dict[asyncio.Task[None], dict[str, str]] = {}  # and what each received last
        self.events = 0
        self.policy = Policy.from_text()
        self.born()

    def born(self) -> None:
        """A daemon that starts, and knows what the one before wrote down."""
        self.published: dict[str, Fault] = {}
        self.memory = FaultStore(self.directory)
        self.plugin = DevicePlugin("nvidia.com/gpu", Config())
        self.metrics = Metrics("soak", list)
        self.labels = NodeLabels(Config(), lambda _product, _buses: Firmware(), lambda: self.now)
        self.devices = GpuTracker(Config(), self, self.policy, lambda: self.now, self.memory.recall())
        self.events = 0
        self.apply(self.inventory())

    def killed(self) -> None:
        """The daemon ends without a chance to do anything, and the next one starts."""
        self.present = set(GPUS)  # one that is gone while nobody looks is not known afterwards
        self.apply(self.inventory())
        records = self.devices.health.records
        fatal = {uuid for uuid, record in records.items() if record.severity == FATAL}
        for stream in list(self.streams):
            stream.cancel()
        self.streams.clear()
        self.born()
        assert fatal <= set(self.published), "a kill healed a GPU"

    def apply(self, news: DriverUpdate) -> None:
        """What the daemon does with an update."""
        self.devices.apply(news)
        self.memory.keep(self.devices.health)
        self.metrics.saw(news, 0.0)
        if self.devices.inventory is not None:
            self.labels.update(*self.devices.inventory)
        self.events += isinstance(news, (XidEvent, EccEvent))

    def publish(self, resources: list[Resource], faults: dict[str, Fault], topology: object) -> None:
        self.published = dict(faults)
        (resource,) = resources
        self.plugin.publish(resource, faults)

    def open_or_cancel(self) -> None:
        """The kubelet opens one more stream, or cancels one in the midst of whatever happens."""
        if len(self.streams) > 2 or (self.streams and self.random.random() < 0.5):
            stream = self.random.choice(list(self.streams))
            del self.streams[stream]
            stream.cancel()
            return
        received: dict[str, str] = {}

        async def write(update: pb.ListAndWatchResponse) -> None:
            received.clear()
            received.update((device.ID, device.health) for device in update.devices)

        context = SimpleNamespace(write=write)

        async def follow() -> None:
            await self.plugin.ListAndWatch(pb.Empty(), context)

        self.streams[asyncio.create_task(follow())] = received

    async def settled(self) -> None:
        """Every open stream has the newest state, and closed ones are gone."""
        for _ in range(4):
            await asyncio.sleep(0)
        for received in self.streams.values():
            unhealthy = {uuid for uuid, health in received.items() if health == "Unhealthy"}
            assert len(received) == len(GPUS)
            assert unhealthy == set(self.published), "a stream has another state than was published"
        assert self.plugin.streams == len(self.streams)

    async def told(self) -> None:
        """What the metrics and the labels say."""
        page, _ = await self.metrics.scrape()
        counted = sum(
            int(float(line.rsplit(" ", 1)[1]))
            for line in page.decode().splitlines()
            if line.startswith(("nvidia_devplugin_xids_total", "nvidia_devplugin_ecc_double_bit_total"))
        )
        assert counted == self.events, "an event was not counted"
        assert self.labels.current["nvidia.com/gpu.count"] == str(len(GPUS))

    def inventory(self) -> Inventory:
        gpus = tuple(gpu for gpu in GPUS if gpu in self.present)
        return Inventory("550", gpus, tuple((gpu.uuid, self.bad[gpu.uuid]) for gpu in gpus if gpu.uuid in self.bad))

    def step(self) -> None:
        """One random operation, and what must hold after it."""
        pick, gpu = self.random.random(), self.random.choice(GPUS)
        if self.random.random() < 0.02:
            self.open_or_cancel()
        if self.random.random() < 0.001:
            self.killed()
        self.now += self.random.expovariate(1 / 5)
        if pick < 0.4:
            xid = self.random.choice(XIDS)
            self.apply(XidEvent(gpu.uuid, xid))
            assert self.policy.ignores(xid) or gpu.uuid in self.published, f"XID {xid} was lost"
        elif pick < 0.45:
            self.apply(EccEvent(gpu.uuid))
            assert gpu.uuid in self.published, "an ECC event was lost"
        elif pick < 0.55:
            if self.bad.pop(gpu.uuid, None) is None:
                self.bad[gpu.uuid] = self.random.choice(FAULTS)
        elif pick < 0.6:
            self.present ^= {gpu}
        elif pick < 0.65:
            code = self.random.choice(["driver_not_loaded", "driver_hangs", "nvml_error_999"])
            self.apply(DriverGone(Fault(code, code), "wait"))
            assert len(self.published) == len(GPUS), "without a driver nothing is healthy"
        elif pick < 0.75:
            before = self.devices.health
            try:
                self.devices.acknowledge(gpu.uuid)
                self.memory.keep(self.devices.health)
            except ValueError:
                assert self.devices.health == before
        else:
            self.apply(self.inventory())
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
        with tempfile.TemporaryDirectory() as directory:
            return asyncio.run(_soak(operations, seed, Path(directory)))
    finally:
        logging.disable(logging.NOTSET)


async def _soak(operations: int, seed: int, directory: Path) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    machine = Machine(seed, directory)
    warm = resources()
    for number in range(operations):
        machine.step()
        if machine.random.random() < 0.1:  # what happens in between is coalesced
            await machine.settled()
        if number % 1000 == 0:
            await machine.told()
        if number == operations // 10:
            warm = resources()
    await machine.told()
    return warm, resources()


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
