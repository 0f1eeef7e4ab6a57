# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Kubernetes API says about a node and about the pods that ask for its GPUs."""

from __future__ import annotations

from typing import Any, Callable, Container

from ..kubernetes.pods import ENDED, limits, quantity
from .words import natural

# Conditions that every kubelet reports, with the status that is good.
_GOOD = {
    "Ready": "True",
    "MemoryPressure": "False",
    "DiskPressure": "False",
    "PIDPressure": "False",
    "NetworkUnavailable": "False",
}


def at(value: Any, *keys: Any) -> Any:
    """A value deep in dicts, None where a key is missing or something on the way is no dict."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def node(thing: dict[str, Any], pods: list[dict[str, Any]], prefix: str) -> dict[str, Any]:
    """What a report says of a Node object.

    Args:
        thing (dict): the Node.
        pods (list[dict]): as ``gpu_pods`` returns them, those of this node.
        prefix (str): of the resources that matter, like ``nvidia.com/``.

    Returns:
        dict: ``ready``, ``cordoned``, ``kubelet``, ``os``, ``kernel``, ``resources`` (``name``, ``capacity``,
        ``allocatable``, ``requested``), ``conditions`` (those that are not as they should be, or not Kubernetes'
        own) and ``annotations`` (name -> value, those that are about GPUs).
    """
    conditions = [item for item in at(thing, "status", "conditions") or [] if isinstance(item, dict)]
    ready = [item.get("status") for item in conditions if item.get("type") == "Ready"]
    info = at(thing, "status", "nodeInfo") or {}
    return {
        "ready": ready == ["True"],
        "cordoned": bool(at(thing, "spec", "unschedulable")),
        "kubelet": info.get("kubeletVersion"),
        "os": info.get("osImage"),
        "kernel": info.get("kernelVersion"),
        "resources": _resources(thing, pods, prefix),
        "conditions": [_condition(item) for item in conditions if _tells(item)],
        "annotations": {
            key: "%s" % (value,)
            for key, value in sorted((at(thing, "metadata", "annotations") or {}).items())
            if _about_gpus(key, prefix)
        },
    }


def _about_gpus(key: str, prefix: str) -> bool:
    owner, _slash, name = ("%s" % (key,)).lower().rpartition("/")
    return owner + "/" == prefix or "kubegpu" in owner or "gpu" in name


def _tells(item: dict[str, Any]) -> bool:
    """A condition that is not the everyday one; of those that are not Kubernetes' own, all."""
    return _GOOD.get(item.get("type") or "") != item.get("status")


def _condition(item: dict[str, Any]) -> dict[str, Any]:
    kind, status = item.get("type") or "", item.get("status") or ""
    wanted = _GOOD.get(kind)
    # Conditions of others name a trouble, as the node problem detector's do, unless they are called ready or healthy.
    positive = any(word in kind.lower() for word in ("ready", "healthy", "available", "ok"))
    bad = status != wanted if wanted else status == ("False" if positive else "True")
    return {
        "type": kind,
        "status": status,
        "bad": bad,
        "reason": item.get("reason") or "",
        "message": item.get("message") or "",
    }


def _resources(thing: dict[str, Any], pods: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    capacity, allocatable = at(thing, "status", "capacity") or {}, at(thing, "status", "allocatable") or {}
    requested: dict[str, int] = {}
    for pod in pods:
        for name, number in pod["resources"].items():
            requested[name] = requested.get(name, 0) + number
    names = sorted(
        {name for name in [*capacity, *allocatable] if name.startswith(prefix)} | set(requested), key=natural
    )
    return [
        {
            "name": name,
            "capacity": quantity(capacity.get(name)),
            "allocatable": quantity(allocatable.get(name)),
            "requested": requested.get(name, 0),
        }
        for name in names
    ]


def gpu_pods(pods: list[dict[str, Any]], prefix: str, trouble: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    """The pods that ask for GPUs and have not ended.

    Args:
        pods (list[dict]): Pod objects.
        prefix (str): of the resources that matter.
        trouble (Callable[[dict], str]): why a pod does not run; asked for those that do not.

    Returns:
        list[dict]: ``uid``, ``namespace``, ``name``, ``node`` (empty: waits for one), ``phase``, ``since``,
        ``resources`` (name -> number), ``owner`` and ``trouble``; sorted by namespace and name.
    """
    found = []
    for pod in pods:
        phase = at(pod, "status", "phase") or "Unknown"
        resources = {} if phase in ENDED else limits(at(pod, "spec") or {}, prefix)
        if not resources:
            continue
        owners = at(pod, "metadata", "ownerReferences") or [{}]
        found.append(
            {
                "uid": at(pod, "metadata", "uid") or "",
                "namespace": at(pod, "metadata", "namespace") or "",
                "name": at(pod, "metadata", "name") or "",
                "node": at(pod, "spec", "nodeName") or "",
                "phase": phase,
                "since": at(pod, "status", "startTime") or at(pod, "metadata", "creationTimestamp") or "",
                "resources": {resource: resources[resource] for resource in sorted(resources, key=natural)},
                "owner": " ".join("%s" % (at(owners[0], key),) for key in ("kind", "name") if at(owners[0], key)),
                "trouble": "" if phase == "Running" else trouble(pod),
            }
        )
    return sorted(found, key=lambda pod: (natural(pod["namespace"]), natural(pod["name"])))


def events(found: list[dict[str, Any]], names: Container[str]) -> dict[str, list[dict[str, Any]]]:
    """Events about nodes that somebody who looks for a GPU's trouble wants to see.

    Args:
        found (list[dict]): Event objects.
        names (Container[str]): of the nodes.

    Returns:
        dict[str, list[dict]]: by node ``type``, ``reason``, ``message``, ``count`` and ``last`` (time), newest first.
    """
    by_node: dict[str, list[dict[str, Any]]] = {}
    for event in found:
        name = at(event, "involvedObject", "name")
        if at(event, "involvedObject", "kind") != "Node" or name not in names:
            continue
        words = ("%s %s" % (event.get("reason"), event.get("message"))).replace(name, "")
        if event.get("type") != "Warning" and "gpu" not in words.lower() and "nvidia" not in words.lower():
            continue
        by_node.setdefault(name, []).append(
            {
                "type": event.get("type") or "",
                "reason": event.get("reason") or "",
                "message": event.get("message") or "",
                "count": quantity(event.get("count")) or quantity(at(event, "series", "count")) or 1,
                "last": event.get("lastTimestamp")
                or at(event, "series", "lastObservedTime")
                or event.get("eventTime")
                or "",
            }
        )
    for listed in by_node.values():
        listed.sort(key=lambda event: (event["reason"], event["message"]))
        listed.sort(key=lambda event: event["last"], reverse=True)
    return by_node
