"""The Events on the node. Pure.

An Event's name is a hash of its content, so that the API server refuses duplicates and the right to create is enough.
They are core/v1, which every kubectl shows in `describe node`.
"""

from __future__ import annotations

import hashlib
from typing import Any

from .state import ReportedFault

NAMESPACE = "default"
"""Where Events of objects without a namespace belong."""

COMPONENT = "nvidia-device-plugin"
_LONGEST = 1024  # characters of a message that the API server accepts


def unhealthy(node: str, fault: ReportedFault, now: str) -> dict[str, Any]:
    """A fault appeared. now: as 2026-08-01T12:00:00Z."""
    remedy = f". What to do: {fault.hint}" if fault.hint else ""
    text = f"{fault.subject} is unhealthy: {fault.message}{remedy} [{fault.code}]"
    return _event(node, "Warning", "GPUUnhealthy", text, now, f"{fault.uuid} {fault.code} {fault.since}")


def healthy(node: str, fault: ReportedFault, now: str) -> dict[str, Any]:
    """The GPU or MIG device that had this fault has recovered."""
    text = f"{fault.subject} is healthy again; it had: {fault.message} [{fault.code}]"
    return _event(node, "Normal", "GPUHealthy", text, now, f"{fault.uuid} {fault.code} {fault.since}")


def acknowledged(node: str, name: str, problem: str | None, now: str) -> dict[str, Any]:
    """An operator's acknowledgement was applied, or could not be for this problem."""
    if problem is None:
        return _event(node, "Normal", "GPUAcknowledged", f"GPU {name} was acknowledged", now, f"{name} {now}")
    text = f"GPU {name} was not acknowledged: {problem}"
    return _event(node, "Warning", "GPUNotAcknowledged", text, now, f"{name} {now}")


def config_refused(node: str, reason: str, now: str) -> dict[str, Any]:
    """The config that the node's label names is refused."""
    return _event(node, "Warning", "DevicePluginConfigRefused", reason, now, f"{reason} {now}")


def _event(node: str, kind: str, reason: str, message: str, now: str, identity: str) -> dict[str, Any]:
    digest = hashlib.sha256(f"{node} {reason} {identity}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{node[:200].rstrip('-.')}.{digest}", "namespace": NAMESPACE},
        # in Events the uid of a node is its name: the kubelet writes it so, and kubectl selects by it
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": kind,
        "reason": reason,
        "message": message if len(message) <= _LONGEST else message[: _LONGEST - 1] + "…",
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
