"""What the daemon tells whoever asks for its state: faults, labels and config, as JSON with a version that grows.

Nothing is put together before somebody asks: a daemon without an agent beside it does none of this.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..health.state import HealthState
from ..model import Fault, Gpu

LONGEST_WATCH_SECONDS = 30.0
"""How long `watch` waits for a change before it answers the same again."""

ALL_GPUS = ""
"""Stands for the uuid of a fault that concerns the driver, and so all GPUs."""


def entries(health: HealthState, gpus: Sequence[Gpu]) -> list[dict[str, str]]:
    """The faults, each with the GPU or MIG device that it was found on: once, whatever else it concerns.

    severity: transient (heals by itself), fatal (waits for a reset or an operator) or reported (holds while the driver
    says so). A fault's text has its meaning, and after a semicolon what to do.
    """
    indices = {gpu.uuid: str(gpu.index) for gpu in gpus}
    indices.update((mig.uuid, f"{gpu.index}:{mig.index}") for gpu in gpus for mig in gpu.mig)
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
    """faults, labels, config: what to tell at this moment; None for what is not known (yet), or not followed."""

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
        self._told: dict[str, Any] | None = None
        # a daemon that starts anew must not seem to say what the one before it said
        self._version = int(clock() * 1000)
        self._changed = asyncio.Event()

    def touch(self) -> None:
        """Something may have changed."""
        self._changed.set()

    def state(self, rest: str = "") -> str:
        """One line of JSON: version, labels, faults and config. Raises ValueError for any `rest`."""
        if rest:
            raise ValueError("state takes nothing")
        return json.dumps({"version": self._look(), **(self._told or {})}, separators=(",", ":"))

    async def watch(self, rest: str, seconds: float = LONGEST_WATCH_SECONDS) -> str:
        """As state(), as soon as its version is another than `rest`, or after so many seconds.

        Raises ValueError if `rest` is no number.
        """
        if not rest.isascii() or not rest.isdigit():
            raise ValueError("watch expects the version that is known")
        until = asyncio.get_running_loop().time() + seconds
        while self._look() == int(rest):
            self._changed.clear()
            left = until - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, left))
            except asyncio.TimeoutError:
                break
        return self.state()

    def _look(self) -> int:
        """The version of what there is to tell now."""
        faults = self._faults()
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        if faults is not None:
            kept = {(entry["uuid"], entry["code"]): now for entry in faults}
            self._since = {key: self._since.get(key, at) for key, at in kept.items()}
            faults = [{**entry, "since": self._since[entry["uuid"], entry["code"]]} for entry in faults]
        labels = self._labels()
        told = {
            "labels": None if labels is None else dict(labels),
            "faults": faults,
            "config": dict(self._config()),
        }
        if told != self._told:
            self._told = told
            self._version += 1
        return self._version
