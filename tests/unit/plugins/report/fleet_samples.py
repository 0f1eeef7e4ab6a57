# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as the role report observes it: facts of simulated machines, and a cluster around them.

``python -m tests.unit.plugins.report.fleet_samples FILE [NODES]`` writes its page, for a look at it.
"""

from __future__ import annotations

import base64
import copy
import functools
import json
import sys
import tempfile
from pathlib import Path

from tests.unit.plugins.module_utils.gpu.simulated import REPOSITORY, SimulatedMachine

STYLE = (REPOSITORY / "roles/report/files/report.css").read_text(encoding="utf-8")
SCRIPT = (REPOSITORY / "roles/report/files/report.js").read_text(encoding="utf-8")
GENERATED = "2026-11-23 12:00 UTC"
PLUGIN_LABELS = {
    "app.kubernetes.io/name": "nvidia-device-plugin",
    "app.kubernetes.io/managed-by": "kubegpu.nvidia",
}
TOOLKIT = {
    "version": "1.17.8",
    "cli_version": "1.17.8",
    "libnvidia_container_version": "1.17.8",
    "runtime_path": "/usr/bin/nvidia-container-runtime",
}
UNREACHABLE = "Failed to connect to the host via ssh: connect to host gpu-12 port 22: No route to host"


def _busy(machine: SimulatedMachine, gpu: int, memory: int, load: int) -> None:
    for key, value in (
        ("memory_used_mib", memory),
        ("utilization_gpu", load),
        ("temperature", 38 + load // 3),
        ("power_draw_mw", 110_000 + 5_600 * load),
        ("process", f"pid={4100 + gpu} type=C memory_mib={memory}"),
    ):
        machine.sim("set", str(gpu), key, str(value))


@functools.lru_cache(maxsize=1)
def machines() -> dict[str, dict]:
    """Facts of the kinds of machines that the fleet is made of, as the module gathers them from simulated GPUs."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="kubegpu-fleet-") as name:
        folder = Path(name)

        def machine(kind: str, *init: str) -> SimulatedMachine:
            (folder / kind).mkdir()
            return SimulatedMachine(folder / kind, *init)

        hgx = machine("hgx", "--model", "H100", "--count", "8", "--nvswitches", "4")
        for gpu in range(4):
            _busy(hgx, gpu, 71_400 - 9_000 * gpu, 97 - 11 * gpu)
        found["hgx"] = hgx.facts("nvml")
        found["old"] = machine(
            "old", "--model", "H100", "--count", "8", "--nvswitches", "4", "--driver", "535.183.01"
        ).facts("nvml")
        sick = machine("sick", "--model", "H100", "--count", "8", "--nvswitches", "4")
        sick.sim("set", "5", "ecc_volatile_uncorrected_dram", "3")
        sick.sim("set", "2", "vbios_version", "96.00.30.00.01")
        sick.sim("lose", "3")
        found["sick"] = sick.facts("nvml")
        found["mig"] = machine("mig", "--model", "A100-80", "--count", "4", "--mig", "0:3g.40gb,3g.40gb").facts("nvml")
        found["pairs"] = machine("pairs", "--model", "RTX-A6000", "--count", "4", "--nvlink", "pairs").facts("nvml")
        unloaded = machine("unloaded", "--model", "L40S", "--count", "2")
        unloaded.sim("unload")
        unloaded.record()
        found["unloaded"] = unloaded.facts("nvml")
    for facts in found.values():
        facts["toolkit"] = {**facts["toolkit"], **TOOLKIT}
        facts["kernel"] = {**facts["kernel"], "release": "6.1.0-28-amd64"}
    found["old"]["toolkit"]["version"] = "1.16.2"
    return found


KINDS = ["hgx", "hgx", "hgx", "hgx", "hgx", "old", "sick", "mig", "mig", "pairs", "unloaded", "away"]


def _facts(kind: str, number: int) -> dict:
    """Facts of one machine of a kind: each has GPUs of its own."""
    mark = f"{number:04x}"
    text = json.dumps(machines()[kind])
    for place, gpu in enumerate(machines()[kind]["gpus"]):
        for uuid in [gpu["uuid"], *[instance["uuid"] for instance in gpu["mig"]["instances"]]]:
            if uuid:
                text = text.replace(uuid, uuid[:-6] + f"{mark}{place:02x}")
    return json.loads(text)


def _node(name: str, gpus: int, lost: int = 0, taint: bool = False) -> dict:
    return {
        "metadata": {
            "name": name,
            "labels": {"nvidia.com/gpu.present": "true"},
            "annotations": {"volumes.kubernetes.io/controller-managed": "true"},
        },
        "spec": {"unschedulable": True} if taint else {},
        "status": {
            "capacity": {"cpu": "192", "nvidia.com/gpu": str(gpus)},
            "allocatable": {"cpu": "191", "nvidia.com/gpu": str(gpus - lost)},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.34.2",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "kernelVersion": "6.1.0-28-amd64",
            },
        },
    }


def _pod(name: str, node: str, gpus: int, namespace: str = "training", **status: object) -> dict:
    return {
        "metadata": {
            "uid": f"uid-{namespace}-{name}",
            "name": name,
            "namespace": namespace,
            "creationTimestamp": "2026-11-22T09:14:03Z",
            "ownerReferences": [{"kind": "Job", "name": name.rpartition("-")[0] or name}],
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "resources": {"limits": {"cpu": "8", "nvidia.com/gpu": str(gpus)}}}],
        },
        "status": status or {"phase": "Running", "startTime": "2026-11-22T09:14:05Z"},
    }


def _plugin(node: str) -> dict:
    return {
        "metadata": {"name": f"plugin-{node}", "namespace": "nvidia-device-plugin", "labels": PLUGIN_LABELS},
        "spec": {"nodeName": node, "containers": [{"name": "plugin"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def checkpoint(*entries: tuple[dict, list[str]]) -> str:
    """The kubelet's file about pods and their devices, as ``slurp`` returns it."""
    document = {
        "Data": {
            "PodDeviceEntries": [
                {
                    "PodUID": pod["metadata"]["uid"],
                    "ContainerName": "main",
                    "ResourceName": "nvidia.com/gpu",
                    "DeviceIDs": {"0": devices},
                    "AllocResp": "",
                }
                for pod, devices in entries
            ],
            "RegisteredDevices": {},
        },
        "Checksum": 1,
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def fleet(size: int = len(KINDS)) -> tuple[dict, dict]:
    """What the filter fleet_report takes, for so many hosts: the observations by host, and the API's answers."""
    hosts, nodes, pods, events = {}, [], [], []
    for number in range(1, size + 1):
        name = f"gpu-{number:02}" if size < 100 else f"gpu-{number:03}"
        kind = KINDS[(number - 1) % len(KINDS)]
        if kind == "away":
            hosts[name] = {"unreachable": UNREACHABLE, "node_name": name}
            nodes.append(_node(name, 8))
            nodes[-1]["status"]["conditions"][1] = {
                "type": "Ready",
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
            continue
        facts = _facts(kind, number)
        pending = "restart" if kind == "old" else "none"
        seen = {
            "node_name": name,
            "gpu": facts,
            "runtime": {
                "runtime": "containerd",
                "kubelet_running": True,
                "installed": {"containerd": {"version": "1.7.24"}},
            },
            "containerd": {
                "changed": False,
                "pending": pending,
                "pending_reasons": ["/etc/containerd/config.toml changed, and containerd reads it only when it starts"],
            },
        }
        lost = sum(gpu["health"]["state"] == "unhealthy" for gpu in facts["gpus"])
        nodes.append(_node(name, facts["count"], lost=lost, taint=kind == "sick"))
        if kind == "unloaded":
            nodes[-1]["status"]["capacity"].pop("nvidia.com/gpu")
            nodes[-1]["status"]["allocatable"].pop("nvidia.com/gpu")
        pods.append(_plugin(name))
        if kind == "hgx":
            pod = _pod(f"llm-pretrain-{number - 1}", name, 4)
            pods.append(pod)
            seen["checkpoint"] = checkpoint((pod, [gpu["uuid"] for gpu in facts["gpus"][:4]]))
        if kind == "sick":
            events.append(
                {
                    "type": "Warning",
                    "reason": "GPUUnhealthy",
                    "message": "GPU 3: XID 79, the GPU has fallen off the bus",
                    "involvedObject": {"kind": "Node", "name": name},
                    "count": 4,
                    "lastTimestamp": "2026-11-23T11:41:12Z",
                }
            )
        hosts[name] = seen
    pods.append(
        _pod(
            "batch-0",
            "",
            8,
            namespace="research",
            phase="Pending",
            conditions=[
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/12 nodes are available: 12 Insufficient nvidia.com/gpu.",
                }
            ],
        )
    )
    api = {
        "asked": True,
        "nodes": {"resources": nodes},
        "pods": {"resources": pods},
        "events": {"resources": events},
    }
    return copy.deepcopy(hosts), api


def write(path: Path, size: int = len(KINDS)) -> dict:
    """Writes the fleet's page; returns its report."""
    from ansible_collections.kubegpu.nvidia.plugins.filter.fleet_report import fleet_report
    from ansible_collections.kubegpu.nvidia.plugins.filter.fleet_report_page import fleet_report_page

    hosts, api = fleet(size)
    report = fleet_report(hosts, api, GENERATED)
    path.write_text(fleet_report_page(report, STYLE, SCRIPT), encoding="utf-8")
    return report


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY / ".cache/collections"))
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else len(KINDS))
