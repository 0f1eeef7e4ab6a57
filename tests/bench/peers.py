#!/usr/bin/env python3
"""The daemon and its agent beside NVIDIA's device plugin and GPU feature discovery: memory and calls, in one run.

usage: tests/bench/peers.py FOLDER [--gpus N]

FOLDER has NVIDIA's programs nvidia-device-plugin and gpu-feature-discovery. Root is needed: NVIDIA's plugin serves in
/var/lib/kubelet/device-plugins whatever its flags say, so it runs in a mount namespace of its own. All programs run on
the same simulated machine, one after the other, with the same caller. NVIDIA's config-manager, which a node with named
configs runs as well, needs a whole API server and is left out, so NVIDIA's sum is smaller than on such a node.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "files/devplugin/src")]

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb  # noqa: E402
from tests.bench import daemon as bench  # noqa: E402
from tests.sim.nvml import nvmlsim  # noqa: E402
from tests.unit.devplugin.kubelet_stub import KubeletStub  # noqa: E402

SETTLE_SECONDS = 3.0
FIXED = "/var/lib/kubelet/device-plugins"


class Side(bench.Bench):
    """What one side runs on a node: a plugin that registers, and what runs beside it."""

    def __init__(self, directory: Path, gpus: int, theirs: Path | None) -> None:
        super().__init__(directory, gpus, 1)
        socket = self.sockets / "kubelet.sock"
        if theirs is None:
            agent = ("agent", "--node-name", "n", "--account-dir", str(directory), "--features")
            self.name, self.plugin = "nvidia-devplugin", (*bench.OURS, "--kubelet-socket", str(socket))
            self.beside = {"agent": (*bench.OURS, *agent, "events,annotations,acknowledge,labels,config")}
        else:
            program = theirs / "nvidia-device-plugin"
            script = f"mount -t tmpfs none /var/lib && mkdir -p {FIXED} && mount --bind {self.sockets} {FIXED} && "
            self.name, self.plugin = program.name, ("unshare", "--mount", "sh", "-c", f"{script} exec {program}")
            gfd = (str(theirs / "gpu-feature-discovery"), "--output-file", str(directory / "features"))
            self.beside = {"gpu-feature-discovery": (*gfd, "--no-timestamp", "--use-node-feature-api=false")}
        self.environment |= {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1",
            "DP_HTTP_ADDRESS": "127.0.0.1:0", "DP_CONTROL_DIR": str(directory),
        }  # fmt: skip
        self.pss: dict[str, float] = {}

    async def measure(self) -> None:
        machine = ["--model", "H100", "--count", str(self.gpus), "--device-nodes", "off"]
        nvmlsim.main(["--state", str(self.state), "init", *machine])
        async with KubeletStub(self.sockets) as kubelet, contextlib.AsyncExitStack() as stack:
            await kubelet.start()
            log = stack.enter_context((self.state.parent / "log").open("ab"))
            began = time.perf_counter()
            process = await self.start(*self.plugin, log=log)
            stack.push_async_callback(end, process)
            await kubelet.registered(1)
            self.samples.add("start to Register", "ms", (time.perf_counter() - began) * 1e3)
            devices = list(await kubelet.devices(bench.RESOURCE))
            request, wanted = pb.AllocateRequest(), pb.PreferredAllocationRequest()
            request.container_requests.add(devicesIDs=devices[:1])
            wanted.container_requests.add(available_deviceIDs=devices, allocation_size=(self.gpus + 1) // 2)
            served = self.sockets / kubelet.registrations[-1].endpoint
            await self.call(served, "Allocate", request, 2000, process.pid)
            await self.call(served, "GetPreferredAllocation", wanted, 20, process.pid)
            running = {self.name: process}
            for name, command in self.beside.items():
                running[name] = await self.start(*command, log=log)
                stack.push_async_callback(end, running[name])
            await asyncio.sleep(SETTLE_SECONDS)
            self.pss = {name: bench.memory(each.pid)["memory, PSS"] for name, each in running.items()}


async def end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--gpus", type=int, default=8)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(f"{given.gpus} GPUs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        sums = {}
        for name, theirs in (("kubegpu", None), ("NVIDIA", given.folder)):
            place = Path(directory, name)
            place.mkdir()
            side = Side(place, given.gpus, theirs)
            asyncio.run(side.measure())
            print(f"\n{name}")
            for row, unit, median, _high, maximum in side.samples.rows():
                print(f"  {row:<46}{median:>10.2f}{maximum:>10.2f} {unit} (p50, max)")
            for program, mib in side.pss.items():
                print(f"  {f'PSS of {program}':<46}{mib:>10.2f}           MiB")
            sums[name] = sum(side.pss.values())
        print(f"\nPSS of all, ours to NVIDIA's: {sums['kubegpu'] / sums['NVIDIA']:.2f}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"error: {error}")
