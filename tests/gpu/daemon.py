"""The device plugin of this checkout on this machine's GPUs, with a kubelet stub: what it says against the facts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.bench.calls import cpu_seconds
from tests.gpu.fault import NO_CUDA
from tests.gpu.fields import FIELDS, agree, look_up
from tests.gpu.rows import Row, compared, verdict
from tests.unit.devplugin.daemon_process import Daemon
from tests.unit.devplugin.kubelet_stub import KubeletStub

ROOT = Path(__file__).resolve().parents[2]
RESOURCE = "nvidia.com/gpu"
APPLICATION = (13, 31, 43, 45)
"""XIDs that a stray address may bring. The default policy ignores them: here they count as transient."""
QUIET = 3
"""Seconds that such an XID holds the GPU back in this check."""
TELEMETRY = {
    "nvidia_gpu_memory_total_bytes": "memory_total_bytes",
    "nvidia_gpu_memory_used_bytes": "memory_used_bytes",
    "nvidia_gpu_temperature_celsius": "temperature.gpu_celsius",
    "nvidia_gpu_power_watts": "power.draw_watts",
}
"""What a scrape says, and the fact that says the same."""


@dataclass
class Checked:
    """A daemon on this machine's GPUs, the kubelet that it serves, and the folder of its files."""

    daemon: Daemon
    kubelet: KubeletStub
    folder: Path
    took: float = 0.0  # seconds from start to Register

    async def samples(self) -> list[Sample]:
        """What a scrape says."""
        _, page = await self.daemon.get("/metrics")
        return [sample for family in text_string_to_metric_families(page + "\n") for sample in family.samples]


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Checked]:
    """A daemon that has registered with a kubelet stub."""
    sockets, config = folder / "device-plugins", folder / "config.json"
    sockets.mkdir()
    xids = {str(xid): "transient" for xid in APPLICATION}
    health = {"xids": xids, "quietPeriod": f"{QUIET}s"}
    config.write_text(json.dumps({"version": "v1", "kubegpu": {"health": health}}))
    async with KubeletStub(sockets) as kubelet:
        await kubelet.start()
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nvidia_devplugin", "--kubelet-socket", str(kubelet.socket),
            "--http-address", "127.0.0.1:0", "--gpu-telemetry", "--labels-file", str(folder / "labels"),
            "--config-file", str(config),
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'files/devplugin/src'}:{os.environ.get('PYTHONPATH', '')}"},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        checked = Checked(Daemon(process), kubelet, folder)
        try:
            await kubelet.registered()
            checked.took = time.monotonic() - began
            yield checked
        except AssertionError as error:
            raise AssertionError(f"{error}; its log: {' '.join(checked.daemon.lines)[-2000:]}") from error
        finally:
            if process.returncode is None:
                process.terminate()
            await checked.daemon.exit()


async def try_daemon(facts: dict[str, Any]) -> list[Row]:
    """Registration, devices, an allocation, labels, telemetry, a fault's way through, and a clean end."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kubelet-") as folder:
        try:
            async with running(Path(folder)) as checked:
                for part in (served, labels, telemetry, fault):
                    rows += await part(checked, facts)
                rows += await idle(checked)
            rows.append(compared("ends on SIGTERM with status", checked.daemon.process.returncode, 0))
        except AssertionError as error:
            rows.append(Row("the daemon", (str(error), ""), "DIFFERS"))
    return rows


async def served(checked: Checked, facts: dict[str, Any]) -> list[Row]:
    """What the kubelet is told, and given for one device."""
    split = any(gpu["mig"]["mode"] == "enabled" for gpu in facts["gpus"])
    wanted = {gpu["uuid"] for gpu in facts["gpus"] if not gpu["lost"]}
    devices = await checked.kubelet.devices(RESOURCE)
    healthy = sorted(device for device, health in devices.items() if health == "Healthy")
    nodes = {gpu["uuid"]: gpu["pci"]["numa_node"] for gpu in facts["gpus"] if gpu["pci"]["numa_node"] is not None}
    rows = [
        Row("start to Register", (f"{checked.took * 1000:.0f} ms", ""), "-"),
        compared("registers", checked.kubelet.registrations[-1].resource_name, RESOURCE),
        Row(
            "offers the GPUs of the facts",
            (str(len(devices)), str(len(wanted))),
            verdict(split or set(devices) == wanted),
        ),
        compared("all are healthy", len(healthy), len(devices)),
        compared("their NUMA nodes are those of the facts", checked.kubelet.endpoints[RESOURCE].topology, nodes,
                 hidden=True),
        compared("/readyz", await checked.daemon.get("/readyz"), (200, "ok")),
    ]  # fmt: skip
    if healthy:
        answer = await checked.kubelet.allocate(RESOURCE, healthy[0])
        given = answer.envs.get("NVIDIA_VISIBLE_DEVICES", "")
        rows.append(compared("allocates one: the container gets its id", given, healthy[0], hidden=True))
    return rows


async def labels(checked: Checked, facts: dict[str, Any]) -> list[Row]:
    """The node's labels, as far as the facts say the same."""
    await checked.daemon.logged("labels_written")
    lines = (checked.folder / "labels").read_text().splitlines()
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


async def telemetry(checked: Checked, facts: dict[str, Any]) -> list[Row]:
    """What a scrape says of each GPU."""
    found = {(sample.name, sample.labels.get("gpu")): sample.value for sample in await checked.samples()}
    fields = {field.fact: field for field in FIELDS}
    rows = []
    for gpu in facts["gpus"]:
        for metric, fact in TELEMETRY.items():
            value, wanted = found.get((metric, gpu["uuid"])), look_up(gpu, fact)
            good = agree(fields[fact], value, wanted)
            rows.append(Row(f"{gpu['index']}: {metric}", (str(value), str(wanted)), verdict(good)))
    return rows


async def fault(checked: Checked, facts: dict[str, Any]) -> list[Row]:
    """A program's fault on a real GPU: the XID reaches the kubelet, and the GPU is offered again after a quiet time."""
    gpu = min((one for one in facts["gpus"] if not one["lost"]), key=lambda one: str(one["pci"]["bus_id"]))
    update = len(checked.kubelet.endpoints[RESOURCE].updates)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gpu.fault", "0", cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = (await program.communicate())[0].decode(errors="replace").strip()
    if program.returncode == NO_CUDA:
        return [Row("a program's fault", (said, "libcuda"), "-")]
    rows = [Row("a program's fault is made", (said, ""), verdict(program.returncode == 0))]
    if program.returncode != 0:
        return rows
    marked = await checked.kubelet.devices(RESOURCE, lambda devices: devices.get(gpu["uuid"]) == "Unhealthy")
    others = [health for device, health in marked.items() if device != gpu["uuid"]]
    rows.append(Row("its GPU becomes unhealthy, and no other", (str(len(marked) - len(others)), "1"),
                    verdict(set(others) <= {"Healthy"})))  # fmt: skip
    xids = [sample.labels for sample in await checked.samples() if sample.name == "nvidia_devplugin_xids_total"]
    codes = ", ".join(sorted(labels["xid"] for labels in xids))
    known = bool(xids) and all(labels["gpu"] == gpu["uuid"] for labels in xids)
    rows.append(Row("the XIDs are this GPU's", (codes, ", ".join(map(str, APPLICATION))), verdict(known)))
    await checked.kubelet.devices(RESOURCE, lambda devices: devices.get(gpu["uuid"]) == "Healthy")
    seen = [one.get(gpu["uuid"]) for one in checked.kubelet.endpoints[RESOURCE].updates[update:]]
    rows.append(compared("it is offered again after a quiet time", ", ".join(map(str, seen)), "Unhealthy, Healthy"))
    return rows


async def idle(checked: Checked, seconds: float = 6.0) -> list[Row]:
    """What the daemon takes when nothing happens: a check of the driver is in it."""
    before = cpu_seconds(checked.daemon.process.pid)
    await asyncio.sleep(seconds)
    used = cpu_seconds(checked.daemon.process.pid) - before
    resident = next(s.value for s in await checked.samples() if s.name == "process_resident_memory_bytes")
    return [
        Row("idle, share of a core", (f"{used / seconds:.2%}", ""), "-"),
        Row("resident memory", (f"{resident / 1024**2:.1f} MiB", ""), "-"),
    ]
