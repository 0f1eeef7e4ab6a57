#!/usr/bin/env python3
"""How fast and how large the daemon is: tables, measured with the tests' kubelet stub on simulated GPUs.

usage: tests/bench/daemon.py [--gpus N] [--replicas N …] [--starts N] [--allocations N] [--json FILE]

The daemon runs with its default log level and the libraries of its image. The caller is gRPC's library for Python and
shares the machine's cores with the daemon. "in the daemon" is the mean time of its own work, by its metrics. Every
number was measured in this run.

Memory: RSS is what is resident; PSS counts shared pages by their share; "unreclaimable" are the anonymous and dirty
pages, which the kernel cannot drop. The simulated driver's library is smaller than a real one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def libraries(wanted: Path) -> Path:
    """The libraries of a requirements file, installed once into the checkout's cache."""
    key = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    place = ROOT / ".cache/devplugin-libraries" / key
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as fresh:
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            options = ["--no-warn-conflicts", "--require-hashes", "--no-deps", "--target", f"{fresh}/made"]
            subprocess.run([*install, *options, "--requirement", str(wanted)], check=True)
            Path(fresh, "made").rename(place)
    return place


LIBRARIES = libraries(ROOT / "files/devplugin/requirements.txt")
sys.path[:0] = [str(ROOT), str(ROOT / "files/devplugin/src"), str(LIBRARIES)]

import grpc  # noqa: E402

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb  # noqa: E402
from tests.bench.calls import cpu_seconds  # noqa: E402
from tests.sim.nvml import nvmlsim  # noqa: E402
from tests.unit.devplugin.kubelet_stub import KubeletStub  # noqa: E402

RESOURCE = "nvidia.com/gpu"
OURS = (sys.executable, "-m", "nvidia_devplugin")
CALLS = str(Path(__file__).with_name("calls.py"))
KIB_OF_MIB = 1024


class Samples:
    """Values of one kind, with their unit."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[float]] = {}

    def add(self, name: str, unit: str, *values: float) -> None:
        self.values.setdefault((name, unit), []).extend(values)

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """The time of a block, in milliseconds."""
        began = time.perf_counter()
        yield
        self.add(name, "ms", (time.perf_counter() - began) * 1e3)

    def rows(self) -> Iterator[tuple[str, str, float, float, float]]:
        """Name, unit, median, 99th percentile, maximum."""
        for (name, unit), values in self.values.items():
            ordered = sorted(values)
            high = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            yield name, unit, ordered[len(ordered) // 2], high, ordered[-1]


def memory(pid: int) -> dict[str, float]:
    """A process' memory in MiB, from smaps_rollup of proc(5)."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    fields = {words[0].rstrip(":"): int(words[1]) / KIB_OF_MIB for words in lines if len(words) == 3}
    return {
        "memory, RSS": fields["Rss"],
        "memory, PSS": fields["Pss"],
        "memory, unreclaimable": fields["Private_Dirty"] + fields["Shared_Dirty"],
    }


def wakeups(pid: int) -> int:
    """How often the process' threads went to sleep by themselves, and so were woken."""
    lines = [line for path in Path(f"/proc/{pid}/task").glob("*/status") for line in path.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


class Bench:
    """One machine, and the daemon on it."""

    def __init__(self, directory: Path, gpus: int, replicas: int) -> None:
        self.gpus, self.replicas = gpus, replicas
        self.samples = Samples()
        self.http = 0
        self.environment = {"DP_LABELS_FILE": str(directory / "labels")}
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

    async def start(self, *command: str, log: Any) -> asyncio.subprocess.Process:
        """A program on the simulated driver."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'files/devplugin/src'}:{LIBRARIES}",
            "MALLOC_ARENA_MAX": "2",  # as in the image
            "LD_LIBRARY_PATH": str(self.library),
            "NVML_SIM_STATE": str(self.state),
            **self.environment,
        }
        return await asyncio.create_subprocess_exec(*command, env=environment, stderr=log)

    @contextlib.asynccontextmanager
    async def daemon(self, kubelet: KubeletStub, ending: str = "SIGTERM to exit") -> AsyncIterator[int]:
        """The daemon's process id."""
        machine = ["--model", "H100", "--count", str(self.gpus), "--device-nodes", "off"]
        nvmlsim.main(["--state", str(self.state), "init", *machine])  # healthy, whatever the last daemon saw
        (kubelet.directory / "nvidia.d/health.json").unlink(missing_ok=True)
        before = len(kubelet.registrations)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.http = free.getsockname()[1]
        log = (self.state.parent / "log").open("ab")
        with self.samples.measure("start to Register"):
            flags = ("--http-address", f"127.0.0.1:{self.http}")
            process = await self.start(*OURS, "--kubelet-socket", str(kubelet.socket), *flags, log=log)
            await kubelet.registered(before + 1)
        self.samples.add("start to Register, CPU time", "ms", cpu_seconds(process.pid) * 1e3)
        try:
            await kubelet.devices(RESOURCE)
            yield process.pid
        finally:
            with self.samples.measure(ending):
                process.terminate()
                status = await process.wait()
            log.close()
            assert status == 0, f"exit status {status}"

    async def run(self, starts: int, allocations: int) -> None:
        async with KubeletStub(self.sockets) as kubelet:
            await kubelet.start()
            async with self.daemon(kubelet):  # fills the caches; not counted
                pass
            self.samples = Samples()
            for number in range(starts):
                async with self.daemon(kubelet) as pid:
                    await self.scrape()
                    if number == 0:
                        await self.calls(kubelet, pid, allocations)
                        await self.restarts(kubelet)
                        await self.idle(pid)
                    await self.xids(kubelet)
                    for _ in range(5):
                        with self.samples.measure("scrape of /metrics"):
                            await self.scrape()
                    for name, mib in memory(pid).items():
                        self.samples.add(name, "MiB", mib)
            for _ in range(3):
                async with self.daemon(kubelet, "SIGTERM to exit, while the driver hangs"):
                    nvmlsim.main(["--state", str(self.state), "set", "system", "hang", "yes"])
                    await asyncio.sleep(0.2)  # the thread that waits for events is woken by the change

    async def scrape(self) -> str:
        while True:  # the port is opened a moment after the registration
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
                break
            except OSError:
                await asyncio.sleep(0.001)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()
        return page

    async def calls(self, kubelet: KubeletStub, pid: int, allocations: int) -> None:
        devices = list(await kubelet.devices(RESOURCE))
        request = pb.AllocateRequest()
        request.container_requests.add(devicesIDs=devices[:1])
        wanted = pb.PreferredAllocationRequest()
        wanted.container_requests.add(available_deviceIDs=devices, allocation_size=(self.gpus + 1) // 2)
        served = self.sockets / kubelet.registrations[-1].endpoint
        before = memory(pid)["memory, unreclaimable"]
        await self.call(served, "Allocate", request, allocations, pid)
        grown = memory(pid)["memory, unreclaimable"] - before
        self.samples.add(f"memory gained by {allocations} Allocates", "MiB", grown)
        await self.call(served, "GetPreferredAllocation", wanted, 2000, pid)
        page = (await self.scrape()).splitlines()
        values = dict(line.rsplit(" ", 1) for line in page if line.startswith("nvidia_devplugin_"))
        for method in ("Allocate", "GetPreferredAllocation"):
            labels = f'{{method="{method}",resource="{RESOURCE}"}}'
            total, count = (
                float(values[f"nvidia_devplugin_request_duration_seconds_{part}{labels}"]) for part in ("sum", "count")
            )
            self.samples.add(f"{method}, in the daemon", "us", total / count * 1e6)

    async def call(self, served: Path, method: str, request: Any, count: int, pid: int) -> None:
        """So many calls of a method, one after the other, from a process of their own."""
        caller = await asyncio.create_subprocess_exec(
            sys.executable, CALLS, str(served), method, request.SerializeToString().hex(), str(count), str(pid),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(LIBRARIES)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await caller.communicate()
        assert caller.returncode == 0, f"{method}: exit status {caller.returncode}"
        result = json.loads(printed)
        self.samples.add(method, "us", *result["us"])
        self.samples.add(f"{method}, CPU time of the daemon", "us", result["cpu_us"])

    async def idle(self, pid: int, seconds: float = 5.0) -> None:
        await asyncio.sleep(2)
        for _ in range(3):
            cpu, woken = cpu_seconds(pid), wakeups(pid)
            await asyncio.sleep(seconds)
            self.samples.add("idle CPU", "% core", (cpu_seconds(pid) - cpu) / seconds * 100)
            self.samples.add("idle wake-ups", "per s", (wakeups(pid) - woken) / seconds)

    async def xids(self, kubelet: KubeletStub) -> None:
        """One fatal XID for each GPU, each waited for."""
        for gpu in range(self.gpus):

            def marked(devices: dict[str, str], unhealthy: int = (gpu + 1) * self.replicas) -> bool:
                return list(devices.values()).count("Unhealthy") == unhealthy

            with self.samples.measure("XID to update"):
                nvmlsim.append_event(self.state, f"xid {gpu} 79")
                await kubelet.devices(RESOURCE, marked)

    async def restarts(self, kubelet: KubeletStub) -> None:
        for _ in range(20):
            await kubelet.stop()
            before = len(kubelet.registrations)
            with self.samples.measure("kubelet restart to Register"):
                await kubelet.start()
                await kubelet.registered(before + 1)
            await kubelet.devices(RESOURCE)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gpus", type=int, default=8)
    arguments.add_argument("--replicas", type=int, nargs="+", default=[1, 10, 200], metavar="N",
                           help="each GPU shared by this many; one table each")  # fmt: skip
    arguments.add_argument("--starts", type=int, default=10)
    arguments.add_argument("--allocations", type=int, default=100_000, help="calls of Allocate in the first table")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the tables there")
    given = arguments.parse_args()
    written = {}
    for replicas in given.replicas:
        allocations = given.allocations if replicas == given.replicas[0] else 2000
        with tempfile.TemporaryDirectory() as directory:
            bench = Bench(Path(directory), given.gpus, replicas)
            asyncio.run(bench.run(given.starts, allocations))
        devices = given.gpus * replicas
        print(
            f"{given.gpus} GPUs, {devices} devices, {given.starts} starts, Python {sys.version.split()[0]}, "
            f"grpcio {grpc.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        print(f"{'':<48}{'p50':>10}{'p99':>10}{'max':>10}")
        for name, unit, median, high, maximum in bench.samples.rows():
            print(f"{name:<48}{median:>10.2f}{high:>10.2f}{maximum:>10.2f} {unit}")
        print(flush=True)
        written[str(devices)] = {
            name: {"unit": unit, "p50": median, "p99": high, "max": maximum}
            for name, unit, median, high, maximum in bench.samples.rows()
        }
    if given.json:
        given.json.write_text(json.dumps(written, indent=2))


if __name__ == "__main__":
    main()
