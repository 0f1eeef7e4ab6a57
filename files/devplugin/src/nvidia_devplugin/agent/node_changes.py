"""Computes the changes to the node's labels and annotations from its metadata and the daemon's state. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .state import DaemonState, ReportedFault, parse_fault

EVENTS, ANNOTATIONS, ACKNOWLEDGE, LABELS, CONFIG = "events", "annotations", "acknowledge", "labels", "config"
FEATURES = (EVENTS, ANNOTATIONS, ACKNOWLEDGE, LABELS, CONFIG)
NEED_THE_NODE = frozenset((ANNOTATIONS, ACKNOWLEDGE, LABELS, CONFIG))

FAULTS = "kubegpu.nvidia/gpu-faults"
ACK = "kubegpu.nvidia/ack"
ACK_RESULT = "kubegpu.nvidia/ack-result"
OWNED = "kubegpu.nvidia/labels"
"""Names the labels that the agent wrote, so that it removes these and no others."""

CONFIG_LABEL = "nvidia.com/device-plugin.config"
PREFIX = "nvidia.com/"
FOREIGN = frozenset(("nvidia.com/gpu.present", CONFIG_LABEL))
"""Never written: the DaemonSet selects its nodes by the first, an operator sets the second."""

_LONGEST = 64 * 1024
"""The longest value of the annotation, in bytes: all annotations of a node may have 256 KiB together."""


@dataclass(frozen=True)
class NodeMetadata:
    """Labels and annotations of the node."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> NodeMetadata:
        """metadata: that of the API's object, as JSON."""
        return cls(dict(metadata.get("labels") or {}), dict(metadata.get("annotations") or {}))


def annotated_faults(node: NodeMetadata) -> tuple[ReportedFault, ...]:
    """The faults in the node's annotation; none if it cannot be parsed."""
    try:
        entries = json.loads(node.annotations.get(FAULTS, "[]"))
        return tuple(parse_fault(entry) for entry in entries)
    except (ValueError, TypeError, RecursionError):
        return ()


def with_first_times(faults: Iterable[ReportedFault], before: Iterable[ReportedFault]) -> tuple[ReportedFault, ...]:
    """The faults, with the times that `before` has for them: a restarted daemon does not know their first time."""
    since = {fault.key: fault.since for fault in before if fault.since}
    return tuple(replace(fault, since=since.get(fault.key, fault.since)) for fault in faults)


def annotation(faults: Iterable[ReportedFault]) -> str | None:
    """The value of the annotation; None to remove it."""
    entries = [vars(fault) for fault in faults]
    while entries:
        text = json.dumps(entries, separators=(",", ":"))
        if len(text) <= _LONGEST:
            return text
        entries.pop()
    return None


def patch(node: NodeMetadata, state: DaemonState, features: Collection[str]) -> dict[str, dict[str, str | None]]:
    """The metadata to merge into the node's, None to remove a key; empty if the node is as it should be."""
    labels: dict[str, str | None] = {}
    annotations: dict[str, str | None] = {}
    if ANNOTATIONS in features and state.faults is not None:
        annotations[FAULTS] = annotation(with_first_times(state.faults, annotated_faults(node)))
    if LABELS in features and state.labels is not None:
        wanted = {key: value for key, value in state.labels.items() if key.startswith(PREFIX) and key not in FOREIGN}
        labels.update(dict.fromkeys(owned_labels(node) - set(wanted)))
        labels.update(wanted)
        annotations[OWNED] = ",".join(sorted(key[len(PREFIX) :] for key in wanted)) or None
    return _different(node, labels, annotations)


def removal(node: NodeMetadata) -> dict[str, dict[str, str | None]]:
    """The same, to remove everything that the agent wrote."""
    return _different(node, dict.fromkeys(owned_labels(node)), dict.fromkeys((FAULTS, ACK, ACK_RESULT, OWNED)))


def owned_labels(node: NodeMetadata) -> set[str]:
    """The keys of the labels that the agent wrote. Others can edit the annotation, so it cannot name foreign labels."""
    keys = {PREFIX + part for part in node.annotations.get(OWNED, "").split(",") if part}
    return {key for key in keys if key not in FOREIGN}


def _different(
    node: NodeMetadata, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]
) -> dict[str, dict[str, str | None]]:
    changes = {
        "labels": {key: value for key, value in labels.items() if node.labels.get(key) != value},
        "annotations": {key: value for key, value in annotations.items() if node.annotations.get(key) != value},
    }
    return {kind: change for kind, change in changes.items() if change}


def to_acknowledge(node: NodeMetadata, features: Collection[str]) -> tuple[str, ...]:
    """The GPUs that an operator acknowledges by the annotation: UUIDs or indices, separated by commas or blanks."""
    if ACKNOWLEDGE not in features:
        return ()
    return tuple(dict.fromkeys(node.annotations.get(ACK, "").replace(",", " ").split()))


def claim(node: NodeMetadata, result: str) -> list[dict[str, str]]:
    """A JSON patch that removes the annotation if it is unchanged, and writes `result`.

    The API server refuses it if another agent was faster, so that no acknowledgement is applied twice.
    """
    path = "/metadata/annotations/" + ACK.replace("/", "~1")
    return [
        {"op": "test", "path": path, "value": node.annotations[ACK]},
        {"op": "remove", "path": path},
        {"op": "add", "path": "/metadata/annotations/" + ACK_RESULT.replace("/", "~1"), "value": result},
    ]


def chosen_config(node: NodeMetadata) -> str:
    """The config that the node's label names; empty for none."""
    return node.labels.get(CONFIG_LABEL, "")


@dataclass(frozen=True)
class FaultChanges:
    """Faults that deserve an Event. recovered: the last fault of each GPU or MIG device that is healthy now."""

    appeared: tuple[ReportedFault, ...] = ()
    recovered: tuple[ReportedFault, ...] = ()


def fault_changes(before: Iterable[ReportedFault], now: Iterable[ReportedFault]) -> FaultChanges:
    """The difference of two sets of faults. A GPU that has another fault now has not recovered."""
    before, now = tuple(before), tuple(now)
    known = {fault.key for fault in before}
    faulty = {fault.uuid for fault in now}
    last = {fault.uuid: fault for fault in before if fault.uuid not in faulty}
    return FaultChanges(tuple(fault for fault in now if fault.key not in known), tuple(last.values()))
