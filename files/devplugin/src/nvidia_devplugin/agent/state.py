"""The daemon's state as the agent sees it: plain frozen values. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FIELDS = ("uuid", "index", "code", "message", "hint", "severity", "since")


@dataclass(frozen=True)
class ReportedFault:
    """A fault of one GPU or MIG device. uuid: empty for a fault of the driver, which concerns all GPUs.

    since: when the daemon first saw it, as 2026-08-01T12:00:00Z. severity: transient, fatal or reported.
    """

    uuid: str
    index: str
    code: str
    message: str
    hint: str = ""
    severity: str = ""
    since: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the fault."""
        return self.uuid, self.code

    @property
    def subject(self) -> str:
        """The GPU, MIG device or driver that has the fault, for people."""
        if not self.uuid:
            return "NVIDIA driver"
        kind = "MIG device" if self.uuid.startswith("MIG-") else "GPU"
        return f"{kind} {self.index} ({self.uuid})" if self.index else f"{kind} {self.uuid}"


@dataclass(frozen=True)
class DaemonState:
    """faults, labels: None while the daemon does not know them. config: the name of the config in force.

    refused: why the config that should be in force is refused.
    """

    version: int
    faults: tuple[ReportedFault, ...] | None = None
    labels: Mapping[str, str] | None = None
    config: str | None = None
    refused: str | None = None


def parse_fault(entry: Any) -> ReportedFault:
    """A fault from JSON; unknown fields are ignored. Raises ValueError."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in _FIELDS[:4]):
        raise ValueError(f"not a fault: {entry!r}")
    return ReportedFault(**{name: str(entry[name]) for name in _FIELDS if name in entry})


def parse_state(text: str) -> DaemonState:
    """The state from the daemon's line of JSON. Raises ValueError."""
    content = json.loads(text)
    try:
        labels, faults = content["labels"], content["faults"]
        return DaemonState(
            version=int(content["version"]),
            faults=None if faults is None else tuple(parse_fault(entry) for entry in faults),
            labels=None if labels is None else {str(key): str(value) for key, value in labels.items()},
            config=content["config"]["name"],
            refused=content["config"]["refused"],
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a state: {error!r}") from error
