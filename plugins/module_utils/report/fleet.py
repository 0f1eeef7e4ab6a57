# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as one dict: what was observed of each host and of the cluster, and what of it needs somebody."""

from __future__ import annotations

from typing import Any

from . import allocations, cluster, differences, matrix
from .words import count, natural

VERSION = 1
UNKNOWN = "unknown"
STATES = ("unreachable", "broken", "attention", "ok")


def build(hosts: dict[str, dict[str, Any]], api: dict[str, Any], generated: str, prefix: str) -> dict[str, Any]:
    """The report.

    Args:
        hosts (dict[str, dict]): by inventory name what was observed: ``unreachable`` (message), ``gpu`` (facts) and
            ``gpu_error``, ``runtime`` (facts of the kubelet's), ``docker``, ``containerd``, ``crio`` (results of the
            comparing modules), ``checkpoint`` (text), ``node_name``, ``group``, ``links`` and ``links_source``. Any may
            be missing.
        api (dict): ``asked``, ``problem`` (None, or ``cause`` and ``remedy``), ``nodes`` (Node objects by name),
            ``pods`` (as cluster.gpu_pods returns them) and ``events`` (Event objects).
        generated (str): when, as the page shall show it.
        prefix (str): of the resources that matter.

    Returns:
        dict: see the documentation of the filter fleet_report.
    """
    names = sorted(hosts, key=natural)
    events = cluster.events(api["events"], {hosts[name]["node_name"] for name in names if hosts[name].get("node_name")})
    nodes = [_node(name, hosts[name], api, events, prefix) for name in names]
    topologies = matrix.group([_topology(node, hosts[node["host"]]) for node in nodes])
    known = {node["name"]: node for node in nodes}
    pods = [dict(pod, host=known[pod["node"]]["host"] if pod["node"] in known else "") for pod in api["pods"]]
    for pod in pods:
        pod["gpus"] = sorted(
            gpu["index"]
            for gpu in (known[pod["node"]]["gpus"] if pod["node"] in known else [])
            if pod["uid"] in [user["uid"] for user in gpu["used_by"]]
        )
    report = {
        "version": VERSION,
        "generated": generated,
        "cluster": {"asked": api["asked"], "problem": api["problem"]},
        "nodes": nodes,
        "pods": pods,
        "differences": differences.compare([node for node in nodes if node["settings"]]),
        "topologies": topologies,
    }
    report["summary"] = _summary(report)
    return report


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    nodes = report["nodes"]
    gpus = [gpu for node in nodes for gpu in node["gpus"]]
    resources = [item for node in nodes for item in (node["kubernetes"] or {}).get("resources", [])]
    return {
        "nodes": len(nodes),
        "states": {state: sum(node["state"] == state for node in nodes) for state in STATES},
        "gpus": len(gpus),
        "health": {
            state: sum(gpu["health"] == state for gpu in gpus)
            for state in ("healthy", "degraded", "unhealthy", "unknown")
        },
        "models": _models(gpus),
        "allocatable": sum(item["allocatable"] for item in resources),
        "requested": sum(item["requested"] for item in resources),
        "waiting_pods": sum(not pod["node"] for pod in report["pods"]),
        "differences": len(report["differences"]),
    }


def _models(gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = differences.distinct([gpu["name"] for gpu in gpus])
    models = [{"name": name, "count": sum(gpu["name"] == name for gpu in gpus)} for name in sorted(names, key=natural)]
    return sorted(models, key=lambda model: -model["count"])


def _node(host: str, seen: dict[str, Any], api: dict[str, Any], events: dict[str, Any], prefix: str) -> dict[str, Any]:
    facts = seen.get("gpu") or {}
    name = seen.get("node_name") or host
    thing = api["nodes"].get(name)
    pods = [pod for pod in api["pods"] if pod["node"] == name]
    gpus = [_gpu(gpu) for gpu in facts.get("gpus") or []]
    _assign(gpus, allocations.parse(seen.get("checkpoint") or ""), pods)
    kubernetes = cluster.node(thing, pods, prefix) if thing else None
    if kubernetes is not None:
        kubernetes["events"] = events.get(name, [])
    node = {
        "host": host,
        "name": name,
        "unreachable": seen.get("unreachable") or None,
        "error": seen.get("gpu_error") or None,
        "driver_version": facts.get("driver_version"),
        "cuda_version": facts.get("cuda_version"),
        "toolkit_version": (facts.get("toolkit") or {}).get("version"),
        "kernel": (facts.get("kernel") or {}).get("release"),
        "source": facts.get("source"),
        "problem": facts.get("problem"),
        "runtime": _runtime(seen),
        "kubernetes": kubernetes,
        "gpus_on_pci": sum(cluster.at(device, "kind") == "gpu" for device in facts.get("devices_on_pci") or []),
        "gpus": gpus,
        "links": list(seen.get("links") or []),
        "links_source": seen.get("links_source") or "none",
    }
    node["models"] = _models(gpus)
    node["group"] = seen.get("group") or _kind(node) or "no GPU"
    node["settings"] = {} if node["unreachable"] or not facts else _settings(node, facts, seen)
    node["findings"] = _findings(node)
    levels = [finding["level"] for finding in node["findings"]]
    node["state"] = next((state for state in STATES if state in levels), "ok")
    return node


def _kind(node: dict[str, Any]) -> str:
    """The models of a node's GPUs; a lost one does not tell its own."""
    return " + ".join(model["name"] for model in node["models"] if model["name"] != UNKNOWN)


def _gpu(gpu: dict[str, Any]) -> dict[str, Any]:
    health = gpu.get("health") or {}
    return {
        "index": gpu.get("index"),
        "name": gpu.get("name") or UNKNOWN,
        "uuid": gpu.get("uuid"),
        "bus_id": cluster.at(gpu, "pci", "bus_id"),
        "numa_node": cluster.at(gpu, "pci", "numa_node"),
        "memory_total_bytes": gpu.get("memory_total_bytes"),
        "memory_used_bytes": gpu.get("memory_used_bytes"),
        "utilization_percent": cluster.at(gpu, "utilization", "gpu_percent"),
        "celsius": cluster.at(gpu, "temperature", "gpu_celsius"),
        "watts": cluster.at(gpu, "power", "draw_watts"),
        "processes": gpu.get("process_count"),
        "mig_mode": cluster.at(gpu, "mig", "mode"),
        "mig": [
            {"profile": instance.get("profile"), "uuid": instance.get("uuid")}
            for instance in cluster.at(gpu, "mig", "instances") or []
        ],
        "health": health.get("state") or "unknown",
        "reasons": [
            {"code": reason.get("code"), "message": reason.get("message")} for reason in health.get("reasons") or []
        ],
        "used_by": [],
    }


def _assign(gpus: list[dict[str, Any]], remembered: list[dict[str, Any]], pods: list[dict[str, Any]]) -> None:
    """Tells each GPU which living pods have it, as far as the kubelet's file says."""
    by_uid = {pod["uid"]: pod for pod in pods}
    by_index = {gpu["index"]: gpu for gpu in gpus}
    for entry in remembered:
        pod = by_uid.get(entry["pod_uid"])
        if pod is None or entry["resource"] not in pod["resources"]:
            continue
        for device in entry["devices"]:
            index = allocations.gpu_of(device, gpus)
            if index is not None:
                by_index[index]["used_by"].append(
                    {
                        "uid": pod["uid"],
                        "namespace": pod["namespace"],
                        "pod": pod["name"],
                        "container": entry["container"],
                        "device": device,
                    }
                )


def _runtime(seen: dict[str, Any]) -> dict[str, Any]:
    facts = seen.get("runtime") or {}
    name = facts.get("runtime")
    installed = facts.get("installed") or {}
    live = cluster.at(seen, "docker", "live")
    return {
        "name": name,
        "version": cluster.at(installed, name, "version"),
        "installed": {key: cluster.at(installed, key, "version") for key in sorted(installed)},
        "docker_default": cluster.at(live, "default_runtime"),
        "kubelet_running": facts.get("kubelet_running"),
    }


def _settings(node: dict[str, Any], facts: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """What nodes of one kind should have in common, in the order of the report."""
    gpus = facts.get("gpus") or []

    def each(*keys: Any) -> list[Any]:
        return differences.distinct([cluster.at(gpu, *keys) for gpu in gpus])

    settings = {
        "GPU model": [model["name"] for model in node["models"] if model["name"] != UNKNOWN],
        "Number of GPUs": facts.get("count"),
        "Driver": node["driver_version"],
        "Kernel module": cluster.at(facts, "kernel_module", "flavor"),
        "CUDA (driver)": node["cuda_version"],
        "NVIDIA Container Toolkit": node["toolkit_version"],
        "libnvidia-container": cluster.at(facts, "toolkit", "libnvidia_container_version"),
        "Kernel": node["kernel"],
        "Operating system": (node["kubernetes"] or {}).get("os"),
        "Kubelet": (node["kubernetes"] or {}).get("kubelet"),
        "Kubelet's runtime": node["runtime"]["name"],
    }
    for name, version in node["runtime"]["installed"].items():
        settings["Version of %s" % name] = version
    settings["Docker's default runtime"] = node["runtime"]["docker_default"]
    for name in ("docker", "containerd", "crio"):
        settings["Runtime nvidia in %s" % name] = _configured(seen.get(name))
    settings.update(
        {
            "VBIOS": each("vbios_version"),
            "GSP firmware": each("gsp_firmware_version"),
            "GPU memory (bytes)": each("memory_total_bytes"),
            "MIG mode": each("mig", "mode"),
            "ECC": each("ecc", "mode"),
            "Persistence mode": each("persistence_mode"),
            "Compute mode": each("compute_mode"),
            "Power limit (W)": each("power", "limit_watts"),
            "Widest PCIe link": each("pci", "link_width_max"),
            "Control groups": cluster.at(facts, "cgroup_version"),
        }
    )
    for item in (node["kubernetes"] or {}).get("resources", []):
        settings["Allocatable %s" % item["name"]] = item["allocatable"]
    return settings


def _configured(result: Any) -> str | None:
    if not isinstance(result, dict) or result.get("skipped") or result.get("failed") or "pending" not in result:
        return None
    if result.get("changed"):
        return "not configured"
    return "configured" if result["pending"] == "none" else "waits for a %s" % result["pending"]


def _finding(level: str, what: str, remedy: str | None = "") -> dict[str, str]:
    return {"level": level, "what": what, "remedy": remedy or ""}


def _findings(node: dict[str, Any]) -> list[dict[str, str]]:
    """What needs somebody, the worst first."""
    if node["unreachable"]:
        return [_finding("unreachable", "Ansible cannot reach the host: %s" % node["unreachable"])]
    found = []
    if node["error"]:
        found.append(_finding("broken", "its GPUs could not be asked for: %s" % node["error"]))
    failed = [link.get("name") for link in node["links"] if link.get("status") == "failed"]
    for link in node["links"]:
        if link.get("status") == "failed":
            found.append(_finding("broken", "%s: %s" % (link.get("name"), link.get("detail")), link.get("remedy")))
    for gpu in node["gpus"]:
        level = {"unhealthy": "broken", "degraded": "attention"}.get(gpu["health"], "")
        for reason in gpu["reasons"] if level else []:
            found.append(_finding(level, "GPU %s: %s" % (gpu["index"], reason["message"])))
    kubernetes = node["kubernetes"]
    if kubernetes is not None:
        for condition in kubernetes["conditions"]:
            if condition["bad"] and condition["type"] != "Ready":
                words = condition["message"] or condition["reason"]
                found.append(_finding("attention", "condition %s: %s" % (condition["type"], words)))
        if kubernetes["cordoned"]:
            found.append(_finding("attention", "cordoned: no new pods come to it"))
        for item in kubernetes["resources"]:
            # the chain has said so already where it was looked at
            if item["allocatable"] < item["capacity"] and "resources" not in failed:
                words = "%s %s unhealthy" % (
                    count(item["capacity"] - item["allocatable"], "device"),
                    "of " + item["name"],
                )
                found.append(_finding("attention", words, "see the device plugin's log and the node's events"))
    return sorted(found, key=lambda finding: STATES.index(finding["level"]))


def _topology(node: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    indices = [gpu["index"] for gpu in node["gpus"]]
    return {
        "host": node["host"],
        "model": _kind(node),
        "indices": indices,
        "numa": [gpu["numa_node"] for gpu in node["gpus"]],
        "pairs": (seen.get("gpu") or {}).get("topology"),
    }
