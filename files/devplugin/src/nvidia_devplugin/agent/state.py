"""What the daemon says of itself, as plain frozen values. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FIELDS = ("uuid", "index", "code", "message", "hint", "severity", "since")


@dataclass(frozen=True)
class Fault:
    """A fault of one GPU or MIG device. uuid: empty if it concerns the driver, and so all GPUs.

    since: when the daemon saw it first, as 2026-08-01T12:00:00Z. severity: transient, fatal or reported.
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
        """What makes it the same fault as another."""
        return self.uuid, self.code

    @property
    def subject(self) -> str:
        """What it concerns, for people."""
        if not self.uuid:
            return "NVIDIA driver"
        kind = "MIG device" if self.uuid.startswith("MIG-") else "GPU"
        return f"{kind} {self.index} ({self.uuid})" if self.index else f"{kind} {self.uuid}"


@dataclass(frozen=True)
class State:
    """One state. faults, labels: None while the daemon does not know them. config: the name of the one in force.

    refused: what is wrong with the config that should be in force.
    """

    version: int
    faults: tuple[Fault, ...] | None = None
    labels: Mapping[str, str] | None = None
    config: str | None = None
    refused: str | None = None


def fault_of(entry: Any) -> Fault:
    """A fault from JSON; what is not known is left out. Raises ValueError."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("uuid", "code", "message")):
        raise ValueError(f"not a fault: {entry!r}")
    return Fault(**{name: str(entry[name]) for name in _FIELDS if name in entry})


def parse(text: str) -> State:
    """The daemon's line. Raises ValueError."""
    content = json.loads(text)
    try:
        labels, faults = content["labels"], content["faults"]
        return State(
            version=int(content["version"]),
            faults=None if faults is None else tuple(fault_of(entry) for entry in faults),
            labels=None if labels is None else {str(key): str(value) for key, value in labels.items()},
            config=content["config"]["name"],
            refused=content["config"]["refused"],
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a state: {error!r}") from error
