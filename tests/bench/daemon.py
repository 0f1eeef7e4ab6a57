#!/usr/bin/env python3
"""How fast and how small the daemon is: tables, measured with the tests' kubelet stub on simulated GPUs.

usage: tests/bench/daemon.py [--gpus N] [--mig N] [--replicas N …] [--starts N] [--idle SECONDS] [--json FILE]

The client is gRPC's own for Python, and shares the machine's cores with the daemon: its share is part of every
number. So it was when the figures of NVIDIA's plugin (Go, 0.20.0) were taken, on a like machine. "grpcio's server" has
one empty method and nothing else: what the same call costs with gRPC's own server for Python; "in the daemon" is the
work for an answer, by the daemon's metrics. CPU times are what a busy machine leaves untouched: there, latencies tell
how long one waits for a core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # no notes of the client on connections that are meant to break


def libraries(wanted: Path) -> Path:
    """What a requirements file names, installed once into the checkout's cache."""
    key = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    place = ROOT / ".cache/devplugin-libraries" / key
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as fresh:
            install = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-warn-conflicts",
            ]
            subprocess.run([*install, "--target", f"{fresh}/made", "--requirement", str(wanted)], check=True)
            Path(fresh, "made").rename(place)
    return place


# the daemon's, in the versions that its image holds, and its callers'
LIBRARIES = libraries(ROOT / "files/devplugin/requirements.txt")
CALLERS = libraries(Path(__file__).with_name("callers.txt"))
sys.path[:0] = [str(ROOT), str(ROOT / "files/devplugin/src"), str(LIBRARIES), str(CALLERS)]

import grpc  # noqa: E402

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb  # noqa: E402
from tests.bench.calls import cpu_seconds  # noqa: E402
from tests.sim.nvml import nvmlsim  # noqa: E402
from tests.unit.devplugin.kubelet_stub import KubeletStub  # noqa: E402

RESOURCE = "nvidia.com/gpu"
CALLS = str(Path(__file__).with_name("calls.py"))
CALLERS_ONLY = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CALLERS), "GRPC_VERBOSITY": "ERROR"}


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


def wakeups(pid: int) -> int:
    """How often a thread went to sleep by itself, and so was woken."""
    lines = [line for path in Path(f"/proc/{pid}/task").glob("*/status") for line in path.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


@dataclass(frozen=True)
class Goal:
    """What NVIDIA's plugin needed (median), what is wanted, and whether that is about the maximum instead."""

    unit: str
    reference: float | None = None
    wanted: float | None = None
    of_maximum: bool = False


GOALS = {
    "start to Register": Goal("ms", 10, 150),
    "start to Register, CPU time": Goal("ms"),
    "grpcio's server, empty call": Goal("us"),
    "grpcio's server, empty call, CPU time": Goal("us"),
    "empty call": Goal("us"),
    "empty call, CPU time of the daemon": Goal("us"),
    "Allocate": Goal("us", 257, 400),
    "Allocate, CPU time of the daemon": Goal("us"),
    "Allocate, in the daemon": Goal("us"),
    "GetPreferredAllocation": Goal("us", 1126, 300),
    "GetPreferredAllocation, CPU time of the daemon": Goal("us"),
    "GetPreferredAllocation, in the daemon": Goal("us"),
    "XID to update": Goal("ms", 0.7, 3),
    "kubelet restart to Register": Goal("ms", 2, 50, of_maximum=True),
    "the same, socket file before it listens": Goal("ms", None, 50, of_maximum=True),
    "scrape of /metrics": Goal("ms"),
    "SIGTERM to exit": Goal("ms", None, 1000, of_maximum=True),
    "the same, while the driver hangs": Goal("ms", None, 1000, of_maximum=True),
    "resident memory, scraped": Goal("MiB", 21, 42),
    "idle CPU": Goal("% core", None, 0.1),
    "idle wake-ups": Goal("per s"),
}
"""NVIDIA's figures are from the issue that asked for this table; its labels take a second process of 46 MB."""


class Bench:
    def __init__(self, directory: Path, gpus: int, mig: int = 0, replicas: int = 1) -> None:
        self.gpus = gpus
        self.devices_of_a_gpu = max(1, mig) * replicas
        self.environment = {"MIG_STRATEGY": "single" if mig else "none", "DP_LABELS_FILE": str(directory / "labels")}
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
        self.machine = ["--state", str(self.state), "init", *machine]
        self.samples = {name: Samples(goal.unit) for name, goal in GOALS.items()}
        self.http = 0

    @contextlib.asynccontextmanager
    async def daemon(
        self, kubelet: KubeletStub, ending: str = "SIGTERM to exit"
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        nvmlsim.main(self.machine)  # in order, whatever the daemon before was told
        (kubelet.directory / "nvidia.d/health.json").unlink(missing_ok=True)  # and remembers
        before = len(kubelet.registrations)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.http = free.getsockname()[1]
        with self.samples["start to Register"].measure():
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "nvidia_devplugin",
                "--kubelet-socket", str(kubelet.socket), "--http-address", f"127.0.0.1:{self.http}",
                "--log-level", "error",
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": f"{ROOT / 'files/devplugin/src'}:{LIBRARIES}",
                    "MALLOC_ARENA_MAX": "2",  # as in the image
                    "LD_LIBRARY_PATH": str(self.library),
                    "NVML_SIM_STATE": str(self.state),
                    **self.environment,
                },
            )  # fmt: skip
            await kubelet.registered(before + 1)
        self.samples["start to Register, CPU time"].values.append(cpu_seconds(process.pid) * 1e3)
        try:
            await kubelet.devices(RESOURCE)
            yield process
        finally:
            with self.samples[ending].measure():
                process.terminate()
                status = await process.wait()
            assert status == 0, f"exit status {status}"

    async def run(self, starts: int, idle: float) -> None:
        async with KubeletStub(self.sockets) as kubelet:
            await kubelet.start()
            async with self.daemon(kubelet):  # fills the caches; not counted
                pass
            for samples in self.samples.values():
                samples.values.clear()
            for number in range(starts):
                async with self.daemon(kubelet) as process:
                    await self.scrape()
                    if number == 0:
                        await self.calls(kubelet, process.pid)
                        await self.restarts(kubelet)
                        await self.slow_restarts(kubelet)
                    await self.xids(kubelet)
                    for _ in range(5):
                        with self.samples["scrape of /metrics"].measure():
                            page = await self.scrape()
                    if number == 0:
                        self.own_share(page)
                    self.samples["resident memory, scraped"].values.append(status_mib(process.pid, "VmRSS"))
                    if number == 0 and idle:
                        await self.idle(process.pid, idle)
            for _ in range(3):
                async with self.daemon(kubelet, "the same, while the driver hangs"):
                    nvmlsim.main(["--state", str(self.state), "set", "system", "hang", "yes"])
                    await asyncio.sleep(0.2)  # until it does: the thread that waits for events is woken by the change

    async def scrape(self) -> str:
        while True:  # the port is opened a moment after the kubelet was told
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
                break
            except OSError:
                await asyncio.sleep(0.001)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()
        return page

    def own_share(self, page: str) -> None:
        """The mean time of the daemon's own work, from its histograms."""
        values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("nvidia_devplugin_request"))
        for method in ("Allocate", "GetPreferredAllocation"):
            labels = f'{{method="{method}",resource="{RESOURCE}"}}'
            total, count = (
                float(values[f"nvidia_devplugin_request_duration_seconds_{k}{labels}"]) for k in ("sum", "count")
            )
            self.samples[f"{method}, in the daemon"].values.append(total / count * 1e6)

    async def idle(self, pid: int, seconds: float) -> None:
        await asyncio.sleep(2)
        for _ in range(3):
            cpu, woken = cpu_seconds(pid), wakeups(pid)
            await asyncio.sleep(seconds / 3)
            self.samples["idle CPU"].values.append((cpu_seconds(pid) - cpu) / (seconds / 3) * 100)
            self.samples["idle wake-ups"].values.append((wakeups(pid) - woken) / (seconds / 3))

    async def calls(self, kubelet: KubeletStub, pid: int) -> None:
        devices = list(await kubelet.devices(RESOURCE))
        request = pb.AllocateRequest()
        request.container_requests.add(devicesIDs=devices[:1])
        wanted = pb.PreferredAllocationRequest()
        wanted.container_requests.add(available_deviceIDs=devices, allocation_size=(self.gpus + 1) // 2)
        served = self.sockets / kubelet.registrations[-1].endpoint
        await self.call("empty call", served, "GetDevicePluginOptions", pb.Empty(), pid, "CPU time of the daemon")
        await self.call("Allocate", served, "Allocate", request, pid, "CPU time of the daemon")
        await self.call(
            "GetPreferredAllocation", served, "GetPreferredAllocation", wanted, pid, "CPU time of the daemon"
        )
        bare = self.sockets.parent / "bare.sock"
        server = await asyncio.create_subprocess_exec(sys.executable, CALLS, "serve", str(bare), env=CALLERS_ONLY)
        try:
            while not bare.exists():
                await asyncio.sleep(0.01)
            name = "grpcio's server, empty call"
            await self.call(name, bare, "GetDevicePluginOptions", pb.Empty(), server.pid, "CPU time")
        finally:
            server.terminate()
            await server.wait()

    async def call(self, name: str, served: Path, method: str, request: Any, pid: int, cpu: str) -> None:
        """Two thousand calls of a method, one after the other, from a process of their own."""
        caller = await asyncio.create_subprocess_exec(
            sys.executable, CALLS, "call", str(served), method, request.SerializeToString().hex(), "2000", str(pid),
            env=CALLERS_ONLY, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await caller.communicate()
        assert caller.returncode == 0, f"{method}: exit status {caller.returncode}"
        result = json.loads(printed)
        self.samples[name].values += result["us"]
        self.samples[f"{name}, {cpu}"].values.append(result["cpu_us"])

    async def xids(self, kubelet: KubeletStub) -> None:
        """One fatal XID for each GPU, each waited for."""
        for gpu in range(self.gpus):

            def marked(devices: dict[str, str], unhealthy: int = (gpu + 1) * self.devices_of_a_gpu) -> bool:
                return list(devices.values()).count("Unhealthy") == unhealthy

            with self.samples["XID to update"].measure():
                nvmlsim.append_event(self.state, f"xid {gpu} 79")
                await kubelet.devices(RESOURCE, marked)

    async def restarts(self, kubelet: KubeletStub) -> None:
        for _ in range(20):
            await kubelet.stop()
            before = len(kubelet.registrations)
            with self.samples["kubelet restart to Register"].measure():
                await kubelet.start()
                await kubelet.registered(before + 1)
            await kubelet.devices(RESOURCE)

    async def slow_restarts(self, kubelet: KubeletStub) -> None:
        """The kubelet's socket file is there for a while before anybody listens; counted from when somebody does."""
        front, behind = kubelet.socket, kubelet.directory / "behind.sock"
        for _ in range(20):
            await kubelet.stop()
            kubelet.socket = behind
            await kubelet.start()
            before = len(kubelet.registrations)
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            bound.bind(str(front))
            await asyncio.sleep(random.uniform(0, 0.5))
            with self.samples["the same, socket file before it listens"].measure():
                server = await asyncio.start_unix_server(lambda r, w: relay(behind, r, w), sock=bound)
                await kubelet.registered(before + 1)
            await kubelet.devices(RESOURCE)
            server.close()
        kubelet.socket = front
        before = len(kubelet.registrations)
        await kubelet.restart()
        await kubelet.registered(before + 1)
        await kubelet.devices(RESOURCE)

    def rows(self) -> list[tuple[str, Goal, float, float, float]]:
        """Name, goal, median, 99th percentile, maximum."""
        return [
            (name, GOALS[name], samples.quantile(0.5), samples.quantile(0.99), max(samples.values))
            for name, samples in self.samples.items()
            if samples.values
        ]


async def relay(behind: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes to and from the socket `behind`."""
    other_reader, other_writer = await asyncio.open_unix_connection(str(behind))

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))


def table(bench: Bench) -> list[str]:
    lines = [f"{'':<48}{'p50':>9}{'p99':>9}{'max':>9} {'':<8}{'NVIDIA':>8}{'ratio':>7}{'wanted':>8}"]
    for name, goal, median, high, maximum in bench.rows():
        line = f"{name:<48}{median:>9.2f}{high:>9.2f}{maximum:>9.2f} {goal.unit:<8}"
        line += f"{goal.reference:>8g}{median / goal.reference:>7.2f}" if goal.reference else f"{'':>15}"
        if goal.wanted:
            measured = maximum if goal.of_maximum else median
            line += f"{goal.wanted:>8g}  {'met' if measured <= goal.wanted else 'MISSED'}"
            line += " (max)" if goal.of_maximum else ""
        lines.append(line.rstrip())
    return lines


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gpus", type=int, default=8)
    arguments.add_argument("--mig", type=int, default=0, metavar="N", help="so many MIG devices on each GPU")
    arguments.add_argument(
        "--replicas",
        type=int,
        nargs="+",
        default=[1, 10],
        metavar="N",
        help="each device shared by so many; a table each",
    )
    arguments.add_argument("--starts", type=int, default=10)
    arguments.add_argument("--idle", type=float, default=15.0, metavar="SECONDS", help="measure idle CPU for so long")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the table there")
    given = arguments.parse_args()
    where = f"Python {sys.version.split()[0]}, grpcio {grpc.__version__}, {os.cpu_count()} cores"
    written = {}
    for replicas in given.replicas:
        with tempfile.TemporaryDirectory() as directory:
            bench = Bench(Path(directory), given.gpus, given.mig, replicas)
            asyncio.run(bench.run(given.starts, given.idle))
        devices = given.gpus * max(1, given.mig) * replicas
        print(f"{given.gpus} GPUs, {devices} devices, {given.starts} starts, {where}, load {os.getloadavg()[0]:.1f}")
        print("\n".join(table(bench)) + "\n", flush=True)
        written[str(devices)] = {
            name: {"unit": goal.unit, "p50": median, "p99": high, "max": maximum}
            for name, goal, median, high, maximum in bench.rows()
        }
    if given.json:
        given.json.write_text(json.dumps(written, indent=2))


if __name__ == "__main__":
    main()
