#!/usr/bin/env python3
"""How fast and how small the daemon is: a small table, measured with the tests' kubelet stub on simulated GPUs.

usage: tests/bench/daemon.py [--gpus N] [--mig N] [--replicas N] [--starts N] [--idle SECONDS] [--json FILE]

The client is Python's gRPC too, and shares the machine's cores with the daemon: its share is part of every number.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # no notes of the client on connections that are meant to break
sys.path[:0] = [str(ROOT), str(ROOT / "files/devplugin/src")]

from nvidia_devplugin.proto import deviceplugin_pb2 as pb  # noqa: E402
from tests.sim.nvml import nvmlsim  # noqa: E402
from tests.unit.devplugin.kubelet_stub import KubeletStub  # noqa: E402

RESOURCE = "nvidia.com/gpu"


class Samples:
    """Durations of one kind."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.values: list[float] = []

    @contextlib.contextmanager
    def measure(self) -> Any:
        began = time.perf_counter()
        yield
        self.values.append((time.perf_counter() - began) * {"ms": 1e3, "us": 1e6}[self.unit])

    def quantile(self, share: float) -> float:
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def status_mib(pid: int, key: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, directory: Path, gpus: int, mig: int = 0, replicas: int = 1) -> None:
        self.gpus = gpus
        self.devices_of_a_gpu = max(1, mig) * replicas
        self.environment = {"MIG_STRATEGY": "single" if mig else "none"}
        if replicas > 1:
            config = directory / "config.yaml"
            shared = [{"name": RESOURCE, "replicas": replicas}]
            config.write_text(json.dumps({"version": "v1", "sharing": {"timeSlicing": {"resources": shared}}}))
            self.environment["CONFIG_FILE"] = str(config)
        self.state = directory / "state"
        self.sockets = directory / "device-plugins"
        self.sockets.mkdir()
        self.library = directory / "lib"
        target = self.library / "libnvidia-ml.so.1"
        subprocess.run(["make", "-s", "-C", ROOT / "tests/sim/nvml", f"OUT={self.library}", target], check=True)
        machine = ["--model", "H100", "--count", str(gpus), "--device-nodes", "off"]
        if mig:
            machine += ["--mig", ",".join(["1g.10gb"] * mig)]
        nvmlsim.main(["--state", str(self.state), "init", *machine])
        self.start = Samples("ms")
        self.allocate = Samples("us")
        self.prefer = Samples("us")
        self.xid = Samples("ms")
        self.restart = Samples("ms")
        self.stop = Samples("ms")
        self.rss: list[float] = []
        self.idle_percent = 0.0

    @contextlib.asynccontextmanager
    async def daemon(self, kubelet: KubeletStub) -> AsyncIterator[asyncio.subprocess.Process]:
        before = len(kubelet.registrations)
        with self.start.measure():
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "nvidia_devplugin",
                "--kubelet-socket", str(kubelet.socket), "--http-address", "127.0.0.1:0", "--log-level", "error",
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT / "files/devplugin/src"),
                    "LD_LIBRARY_PATH": str(self.library),
                    "NVML_SIM_STATE": str(self.state),
                    **self.environment,
                },
            )  # fmt: skip
            await kubelet.registered(before + 1)
        try:
            await kubelet.devices(RESOURCE)
            yield process
        finally:
            with self.stop.measure():
                process.terminate()
                status = await process.wait()
            assert status == 0, f"exit status {status}"

    async def run(self, starts: int, idle: float) -> None:
        async with KubeletStub(self.sockets) as kubelet:
            await kubelet.start()
            async with self.daemon(kubelet):  # fills the caches; not counted
                pass
            self.start.values.clear()
            self.stop.values.clear()
            for number in range(starts):
                async with self.daemon(kubelet) as process:
                    if number == 0:
                        await self.calls(kubelet)
                        await self.restarts(kubelet)
                    await self.xids(kubelet)
                    self.rss.append(status_mib(process.pid, "VmRSS"))
                    if number == 0 and idle:
                        began = cpu_seconds(process.pid)
                        await asyncio.sleep(idle)
                        self.idle_percent = (cpu_seconds(process.pid) - began) / idle * 100

    async def calls(self, kubelet: KubeletStub) -> None:
        devices = list(await kubelet.devices(RESOURCE))
        stub = kubelet.endpoints[RESOURCE].stub
        request = pb.AllocateRequest()
        request.container_requests.add(devicesIDs=devices[:1])
        wanted = pb.PreferredAllocationRequest()
        wanted.container_requests.add(available_deviceIDs=devices, allocation_size=(self.gpus + 1) // 2)
        for call, message, samples in (
            (stub.Allocate, request, self.allocate),
            (stub.GetPreferredAllocation, wanted, self.prefer),
        ):
            for number in range(2200):
                with samples.measure():
                    await call(message)
                if number == 199:
                    samples.values.clear()  # warmed up

    async def xids(self, kubelet: KubeletStub) -> None:
        """One fatal XID for each GPU, each waited for."""
        for gpu in range(self.gpus):

            def marked(devices: dict[str, str], unhealthy: int = (gpu + 1) * self.devices_of_a_gpu) -> bool:
                return list(devices.values()).count("Unhealthy") == unhealthy

            with self.xid.measure():
                nvmlsim.append_event(self.state, f"xid {gpu} 79")
                await kubelet.devices(RESOURCE, marked)

    async def restarts(self, kubelet: KubeletStub) -> None:
        for _ in range(20):
            await kubelet.stop()
            before = len(kubelet.registrations)
            with self.restart.measure():
                await kubelet.start()
                await kubelet.registered(before + 1)
            await kubelet.devices(RESOURCE)

    def rows(self) -> list[tuple[str, str, float, float, float]]:
        """Name, unit, median, 99th percentile, maximum."""
        named = {
            "start to Register": self.start,
            "Allocate": self.allocate,
            "GetPreferredAllocation": self.prefer,
            "XID to update": self.xid,
            "kubelet restart to Register": self.restart,
            "SIGTERM to exit": self.stop,
        }
        rows = [(name, s.unit, s.quantile(0.5), s.quantile(0.99), max(s.values)) for name, s in named.items()]
        rss = sorted(self.rss)
        rows.append(("resident memory", "MiB", rss[len(rss) // 2], rss[-1], rss[-1]))
        return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gpus", type=int, default=8)
    arguments.add_argument("--mig", type=int, default=0, metavar="N", help="so many MIG devices on each GPU")
    arguments.add_argument("--replicas", type=int, default=1, metavar="N", help="each device shared by so many")
    arguments.add_argument("--starts", type=int, default=10)
    arguments.add_argument("--idle", type=float, default=5.0, metavar="SECONDS", help="measure idle CPU for so long")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the table there")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), given.gpus, given.mig, given.replicas)
        asyncio.run(bench.run(given.starts, given.idle))
    devices = given.gpus * max(1, given.mig) * given.replicas
    where = f"Python {sys.version.split()[0]}, {os.cpu_count()} cores"
    print(f"{given.gpus} GPUs, {devices} devices, {given.starts} starts, {where}")
    print(f"{'':<30}{'p50':>9}{'p99':>9}{'max':>9}")
    for name, unit, *values in bench.rows():
        print(f"{name:<30}" + "".join(f"{value:>9.1f}" for value in values) + f" {unit}")
    if given.idle:
        print(f"{'idle CPU':<30}{bench.idle_percent:>9.2f} % of a core, over {given.idle:.0f} s")
    if given.json:
        table = {name: dict(zip(("unit", "p50", "p99", "max"), row, strict=True)) for name, *row in bench.rows()}
        given.json.write_text(json.dumps({**table, "idle CPU": {"unit": "%", "mean": bench.idle_percent}}, indent=2))


if __name__ == "__main__":
    main()
