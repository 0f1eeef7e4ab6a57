"""The daemon's state for the control socket: faults, labels and config, as JSON with a version that grows.

It is computed on request: a daemon without an agent does none of this.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..health.state import HealthState
from ..model import Fault, Gpu, indices_of

LONGEST_WATCH_SECONDS = 30.0
"""How long `watch` waits for a change before it answers with the same state, in seconds."""

ALL_GPUS = ""
"""In place of the UUID, for a fault of the driver, which concerns all GPUs."""


def entries(health: HealthState, gpus: Sequence[Gpu]) -> list[dict[str, str]]:
    """The faults, one entry for each GPU or MIG device that has one.

    severity: transient (heals by itself), fatal (until a reset or an operator's acknowledgement) or reported (as long
    as the driver reports it). A fault's text is split at its first semicolon into message and hint.
    """
    indices = indices_of(gpus)
    found = [] if health.driver is None else [_entry(ALL_GPUS, "", health.driver, "reported")]
    for uuid, record in sorted(health.records.items()):
        if record.fault is not None:
            severity = "reported" if record.reported is not None else record.severity
            found.append(_entry(uuid, indices.get(uuid, ""), record.fault, severity))
    return found


def _entry(uuid: str, index: str, fault: Fault, severity: str) -> dict[str, str]:
    message, _semicolon, hint = fault.message.partition("; ")
    return {
        "uuid": uuid,
        "index": index,
        "code": fault.code,
        "message": message,
        "hint": hint,
        "severity": severity,
    }


class Status:
    """The state for the verbs `state` and `watch`.

    faults, labels, config: return the current values; None for what is not known yet. clock: seconds since 1970.
    """

    def __init__(
        self,
        faults: Callable[[], list[dict[str, str]] | None],
        labels: Callable[[], Mapping[str, str] | None],
        config: Callable[[], Mapping[str, str | None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._faults = faults
        self._labels = labels
        self._config = config
        self._clock = clock
        self._since: dict[tuple[str, str], str] = {}
        self._state: dict[str, Any] | None = None
        # a restarted daemon must not use a version that the previous one used
        self._version = int(clock() * 1000)
        self._changed = asyncio.Event()

    def touch(self) -> None:
        """Wake the watchers, because something may have changed."""
        self._changed.set()

    def state(self, rest: str = "") -> str:
        """One line of JSON: version, labels, faults and config. Raises ValueError if `rest` is not empty."""
        if rest:
            raise ValueError("state takes no argument")
        return json.dumps({"version": self._refresh(), **(self._state or {})}, separators=(",", ":"))

    async def watch(self, rest: str, seconds: float = LONGEST_WATCH_SECONDS) -> str:
        """The same as soon as the version differs from `rest`, or after `seconds`.

        Raises ValueError if `rest` is not a number.
        """
        if not rest.isascii() or not rest.isdigit():
            raise ValueError("watch expects the version that the client has")
        until = asyncio.get_running_loop().time() + seconds
        while self._refresh() == int(rest):
            self._changed.clear()
            left = until - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, left))
            except asyncio.TimeoutError:
                break
        return self.state()

    def _refresh(self) -> int:
        """Compute the state; returns its version, which grows if the state has changed."""
        faults = self._faults()
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        if faults is not None:
            kept = {(entry["uuid"], entry["code"]): now for entry in faults}
            self._since = {key: self._since.get(key, at) for key, at in kept.items()}
            faults = [{**entry, "since": self._since[entry["uuid"], entry["code"]]} for entry in faults]
        labels = self._labels()
        state = {
            "labels": None if labels is None else dict(labels),
            "faults": faults,
            "config": dict(self._config()),
        }
        if state != self._state:
            self._state = state
            self._version += 1
        return self._version
