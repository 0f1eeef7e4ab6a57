"""The device plugin of this checkout on this machine's GPUs, with a kubelet stub: what it says against the facts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.gpu.fault import NO_CUDA
from tests.gpu.rows import Row, compared, verdict
from tests.unit.devplugin.kubelet_stub import TIMEOUT, KubeletStub

ROOT = Path(__file__).resolve().parents[2]
RESOURCE = "nvidia.com/gpu"
APPLICATION = (13, 31, 43, 45)
"""XIDs that a stray address may bring. The default policy ignores them: here they count as transient."""
QUIET = 3
"""Seconds that such an XID holds the GPU back in this check."""
PAGE_LINE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")
TELEMETRY = {
    "memory_total_bytes": ("nvidia_gpu_memory_total_bytes", "memory_total_bytes", 0.0),
    "memory_used_bytes": ("nvidia_gpu_memory_used_bytes", "memory_used_bytes", 0.2),
    "temperature": ("nvidia_gpu_temperature_celsius", "temperature.gpu_celsius", 0.2),
    "power": ("nvidia_gpu_power_watts", "power.draw_watts", 0.5),
}
"""What a scrape says: metric, the fact beside it, and by what share both may differ, as time goes by."""


class Daemon:
    """The daemon's process, as one check runs it."""

    def __init__(self, folder: Path, kubelet: KubeletStub) -> None:
        self.folder = folder
        self.kubelet = kubelet
        self.lines: list[str] = []
        self.process: asyncio.subprocess.Process
        self.took = 0.0  # seconds from start to Register

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Daemon]:
        config = self.folder / "config.json"
        xids = dict.fromkeys(APPLICATION, "transient")
        health = {"xids": {str(xid): policy for xid, policy in xids.items()}, "quietPeriod": f"{QUIET}s"}
        config.write_text(json.dumps({"version": "v1", "kubegpu": {"health": health}}))
        began, before = time.monotonic(), len(self.kubelet.registrations)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nvidia_devplugin", "--kubelet-socket", str(self.kubelet.socket),
            "--http-address", "127.0.0.1:0", "--gpu-telemetry", "--labels-file", str(self.folder / "labels"),
            "--config-file", str(config), "--log-format", "json",
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'files/devplugin/src'}:{os.environ.get('PYTHONPATH', '')}"},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        reading = asyncio.create_task(self._read())
        try:
            await self.kubelet.registered(before + 1)
            self.took = time.monotonic() - began
            yield self
        finally:
            if self.process.returncode is None:
                self.process.terminate()
            await asyncio.wait_for(self.process.wait(), 30)
            await reading

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode(errors="replace").rstrip())

    async def logged(self, event: str) -> dict[str, Any]:
        """The line about an event, once there is one."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            for line in self.lines:
                with contextlib.suppress(ValueError):
                    entry: dict[str, Any] = json.loads(line)
                    if entry.get("event") == event:
                        return entry
            await asyncio.sleep(0.02)
        raise AssertionError(f"its log has no {event} within {TIMEOUT:.0f} s")

    async def page(self, path: str) -> str:
        """What /readyz or /metrics answers."""
        url = f"http://{(await self.logged('probes_listening'))['address']}{path}"

        def get() -> str:
            with urllib.request.urlopen(url, timeout=30) as answer:
                text: str = answer.read().decode()
                return text

        return await asyncio.to_thread(get)

    async def metrics(self) -> dict[tuple[str, str], float]:
        """The samples of a scrape by name and labels."""
        matches = map(PAGE_LINE.match, (await self.page("/metrics")).splitlines())
        return {(m["name"], m["labels"] or ""): float(m["value"]) for m in matches if m}

    def resident(self) -> str:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kibibytes = int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
        return f"{kibibytes / 1024:.1f} MiB"


async def try_daemon(facts: dict[str, Any]) -> list[Row]:
    """Registration, devices, an allocation, labels, telemetry, a fault's way through, and a clean end."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kubelet-") as name:
        folder = Path(name)
        sockets = folder / "device-plugins"
        sockets.mkdir()
        async with KubeletStub(sockets) as kubelet:
            await kubelet.start()
            daemon = Daemon(folder, kubelet)
            try:
                async with daemon.running():
                    rows += await served(daemon, facts)
                    rows += await labels(daemon, facts)
                    rows += await telemetry(daemon, facts)
                    rows += await fault(daemon, facts)
                    rows += await idle(daemon)
                rows.append(compared("ends on SIGTERM with status", daemon.process.returncode, 0))
            except AssertionError as error:
                rows.append(Row(f"the daemon: {error}", (" ".join(daemon.lines)[-2000:], ""), "DIFFERS"))
    return rows


async def served(daemon: Daemon, facts: dict[str, Any]) -> list[Row]:
    """What the kubelet is told, and given for one device."""
    split = any(gpu["mig"]["mode"] == "enabled" for gpu in facts["gpus"])
    wanted = {gpu["uuid"] for gpu in facts["gpus"] if not gpu["lost"]}
    devices = await daemon.kubelet.devices(RESOURCE)
    healthy = sorted(device for device, health in devices.items() if health == "Healthy")
    nodes = {gpu["uuid"]: gpu["pci"]["numa_node"] for gpu in facts["gpus"] if gpu["pci"]["numa_node"] is not None}
    rows = [
        Row("start to Register", (f"{daemon.took * 1000:.0f} ms", ""), "-"),
        compared("registers", daemon.kubelet.registrations[-1].resource_name, RESOURCE),
        Row(
            "offers the GPUs of the facts",
            (str(len(devices)), str(len(wanted))),
            verdict(split or set(devices) == wanted),
        ),
        compared("all are healthy", len(healthy), len(devices)),
        compared("their NUMA nodes are those of the facts", daemon.kubelet.endpoints[RESOURCE].topology, nodes,
                 hidden=True),
        compared("/readyz", (await daemon.page("/readyz")).strip(), "ok"),
    ]  # fmt: skip
    if healthy:
        answer = await daemon.kubelet.allocate(RESOURCE, healthy[0])
        given = answer.envs.get("NVIDIA_VISIBLE_DEVICES", "")
        rows.append(compared("allocates one: the container gets its id", given, healthy[0], hidden=True))
    return rows


async def labels(daemon: Daemon, facts: dict[str, Any]) -> list[Row]:
    """The node's labels, as far as the facts say the same."""
    await daemon.logged("labels_written")
    lines = (daemon.folder / "labels").read_text().splitlines()
    found = dict(line.removeprefix("nvidia.com/").split("=", 1) for line in lines)
    gpu = facts["gpus"][0]
    major, minor = (gpu["compute_capability"] or ".").split(".")
    wanted = {
        "cuda.driver-version.full": facts["driver_version"],
        "cuda.runtime-version.full": facts["cuda_version"],
        "gpu.compute.major": major,
        "gpu.compute.minor": minor,
        "gpu.family": (gpu["architecture"] or "").lower().replace(" ", "-"),
        "mig.capable": str(any(one["mig"]["capable"] for one in facts["gpus"])).lower(),
    }
    alike = len({(one["name"], one["mig"]["mode"]) for one in facts["gpus"]}) == 1
    if alike and gpu["mig"]["mode"] != "enabled":
        wanted["gpu.count"] = str(facts["count"])
        wanted["gpu.product"] = gpu["name"].replace(" ", "-")
        wanted["gpu.memory"] = str(gpu["memory_total_bytes"] // (1024 * 1024))
    return [compared(f"label {key}", found.get(key), value) for key, value in wanted.items()]


async def telemetry(daemon: Daemon, facts: dict[str, Any]) -> list[Row]:
    """What a scrape says of each GPU."""
    samples = await daemon.metrics()
    rows = []
    for gpu in facts["gpus"]:
        for what, (metric, path, share) in TELEMETRY.items():
            wanted: Any = gpu
            for key in path.split("."):
                wanted = wanted[key]
            found = next((v for (n, text), v in samples.items() if n == metric and gpu["uuid"] in text), None)
            if found is None or wanted is None:
                good = found is wanted
            else:
                good = abs(found - wanted) <= max(share * max(abs(found), abs(wanted)), 3 if share else 0)
            rows.append(Row(f"{gpu['index']}: metric {what}", (str(found), str(wanted)), verdict(good)))
    return rows


async def fault(daemon: Daemon, facts: dict[str, Any]) -> list[Row]:
    """A program's fault on a real GPU: the XID reaches the kubelet, and the GPU is offered again after a quiet time."""
    gpu = min((one for one in facts["gpus"] if not one["lost"]), key=lambda one: str(one["pci"]["bus_id"]))
    update = len(daemon.kubelet.endpoints[RESOURCE].updates)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gpu.fault", "0", cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = (await program.communicate())[0].decode(errors="replace").strip()
    if program.returncode == NO_CUDA:
        return [Row("a program's fault", (said, "libcuda"), "-")]
    rows = [Row("a program's fault is made", (said, ""), verdict(program.returncode == 0))]
    if program.returncode != 0:
        return rows
    marked = await daemon.kubelet.devices(RESOURCE, lambda devices: devices.get(gpu["uuid"]) == "Unhealthy")
    others = [health for device, health in marked.items() if device != gpu["uuid"]]
    rows.append(Row("its GPU becomes unhealthy, and no other", (str(len(marked) - len(others)), "1"),
                    verdict(set(others) <= {"Healthy"})))  # fmt: skip
    samples = await daemon.metrics()
    xids = {text: value for (name, text), value in samples.items() if name == "nvidia_devplugin_xids_total"}
    codes = sorted(re.findall(r'xid="(\d+)"', " ".join(xids)))
    known = bool(xids) and all(f'gpu="{gpu["uuid"]}"' in text for text in xids)
    rows.append(Row("the XIDs are this GPU's", (", ".join(codes), ", ".join(map(str, APPLICATION))), verdict(known)))
    await daemon.kubelet.devices(RESOURCE, lambda devices: devices.get(gpu["uuid"]) == "Healthy")
    seen = [one.get(gpu["uuid"]) for one in daemon.kubelet.endpoints[RESOURCE].updates[update:]]
    rows.append(compared("it is offered again after a quiet time", ", ".join(map(str, seen)), "Unhealthy, Healthy"))
    return rows


async def idle(daemon: Daemon, seconds: float = 12.0) -> list[Row]:
    """What the daemon takes when nothing happens: its checks of the driver are in it."""

    def ticks() -> int:
        fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])  # utime and stime, proc(5)

    before = ticks()
    await asyncio.sleep(seconds)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK")
    return [
        Row("idle, share of a core", (f"{used / seconds:.2%}", ""), "-"),
        Row("resident memory", (daemon.resident(), ""), "-"),
    ]
