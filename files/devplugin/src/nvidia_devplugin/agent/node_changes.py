"""What to write to the node, given what it has and what the daemon says. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .state import Fault, State, fault_of

EVENTS, ANNOTATIONS, ACKNOWLEDGE, LABELS, CONFIG = "events", "annotations", "acknowledge", "labels", "config"
FEATURES = (EVENTS, ANNOTATIONS, ACKNOWLEDGE, LABELS, CONFIG)
NEED_THE_NODE = frozenset((ANNOTATIONS, ACKNOWLEDGE, LABELS, CONFIG))

FAULTS = "kubegpu.nvidia/gpu-faults"
ACK = "kubegpu.nvidia/ack"
ACK_RESULT = "kubegpu.nvidia/ack-result"
OWNED = "kubegpu.nvidia/labels"
"""Names the labels that the agent has written, so that it takes back these and no others."""

CONFIG_LABEL = "nvidia.com/device-plugin.config"
PREFIX = "nvidia.com/"
FOREIGN = frozenset(("nvidia.com/gpu.present", CONFIG_LABEL))
"""Never written: by the first the DaemonSet finds its nodes, the second is somebody's choice."""

_LONGEST = 64 * 1024
"""Bytes of the annotation at most: all of a node's together may have 256 KiB."""


@dataclass(frozen=True)
class Node:
    """The metadata of a node that matter."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Node:
        """metadata: that of the API's object."""
        return cls(dict(metadata.get("labels") or {}), dict(metadata.get("annotations") or {}))


def annotated(node: Node) -> tuple[Fault, ...]:
    """The faults that the node's annotation has; none if that cannot be understood."""
    try:
        entries = json.loads(node.annotations.get(FAULTS, "[]"))
        return tuple(fault_of(entry) for entry in entries)
    except (ValueError, TypeError, RecursionError):
        return ()


def remembered(faults: Iterable[Fault], before: Iterable[Fault]) -> tuple[Fault, ...]:
    """The faults, each with the time from which it was known before: the daemon may have been restarted since."""
    since = {fault.key: fault.since for fault in before if fault.since}
    return tuple(replace(fault, since=since.get(fault.key, fault.since)) for fault in faults)


def annotation(faults: Iterable[Fault]) -> str | None:
    """The value of the annotation; None if it is not to be there."""
    entries = [vars(fault) for fault in faults]
    while entries:
        text = json.dumps(entries, separators=(",", ":"))
        if len(text) <= _LONGEST:
            return text
        entries.pop()
    return None


def patch(node: Node, state: State, features: Collection[str]) -> dict[str, dict[str, str | None]]:
    """The metadata to merge into the node's, null meaning away; empty if it is as it should be."""
    labels: dict[str, str | None] = {}
    annotations: dict[str, str | None] = {}
    if ANNOTATIONS in features and state.faults is not None:
        annotations[FAULTS] = annotation(remembered(state.faults, annotated(node)))
    if LABELS in features and state.labels is not None:
        wanted = {key: value for key, value in state.labels.items() if key.startswith(PREFIX) and key not in FOREIGN}
        labels.update(dict.fromkeys(owned(node) - set(wanted)))
        labels.update(wanted)
        annotations[OWNED] = ",".join(sorted(key[len(PREFIX) :] for key in wanted)) or None
    return _different(node, labels, annotations)


def removal(node: Node) -> dict[str, dict[str, str | None]]:
    """The same, to take away all that the agent ever wrote."""
    return _different(node, dict.fromkeys(owned(node)), dict.fromkeys((FAULTS, ACK, ACK_RESULT, OWNED)))


def owned(node: Node) -> set[str]:
    """The labels that the agent wrote. Somebody may have written anything there: it is no right to other labels."""
    keys = {PREFIX + part for part in node.annotations.get(OWNED, "").split(",") if part}
    return {key for key in keys if key not in FOREIGN}


def _different(
    node: Node, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]
) -> dict[str, dict[str, str | None]]:
    changes = {
        "labels": {key: value for key, value in labels.items() if node.labels.get(key) != value},
        "annotations": {key: value for key, value in annotations.items() if node.annotations.get(key) != value},
    }
    return {kind: change for kind, change in changes.items() if change}


def asked_for(node: Node, features: Collection[str]) -> tuple[str, ...]:
    """The GPUs that an operator acknowledges by the annotation: uuids or indices, by commas or blanks."""
    if ACKNOWLEDGE not in features:
        return ()
    return tuple(dict.fromkeys(node.annotations.get(ACK, "").replace(",", " ").split()))


def claim(node: Node, result: str) -> list[dict[str, str]]:
    """A JSON patch that takes the annotation away if it is still the same, and writes what becomes of it.

    The API server refuses it if somebody was faster, so that no acknowledgement counts twice.
    """
    path = "/metadata/annotations/" + ACK.replace("/", "~1")
    return [
        {"op": "test", "path": path, "value": node.annotations[ACK]},
        {"op": "remove", "path": path},
        {"op": "add", "path": "/metadata/annotations/" + ACK_RESULT.replace("/", "~1"), "value": result},
    ]


def chosen(node: Node) -> str:
    """The config that the node's label names; empty for none."""
    return node.labels.get(CONFIG_LABEL, "")


@dataclass(frozen=True)
class News:
    """What is worth an Event. recovered: the last fault of what is healthy now."""

    appeared: tuple[Fault, ...] = ()
    recovered: tuple[Fault, ...] = ()


def news(before: Iterable[Fault], now: Iterable[Fault]) -> News:
    """Between two sets of faults. A GPU whose fault became another one has not recovered."""
    before, now = tuple(before), tuple(now)
    known = {fault.key for fault in before}
    faulty = {fault.uuid for fault in now}
    last = {fault.uuid: fault for fault in before if fault.uuid not in faulty}
    return News(tuple(fault for fault in now if fault.key not in known), tuple(last.values()))
