"""What a restart of the daemon must not forget: a small file of the faults that wait for a reset or for an operator.

It lies in a directory of our own beside the kubelet's socket, the one place on the host that the daemon may write to; a
kubelet that starts removes files there, but no directories. The faults of an earlier boot, or from before the kernel
module was loaded anew, are over: both are written down with them. There is no fsync, since a crash of the machine is
such an end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .. import atomic_write
from ..log import Logger
from .state import HealthState, dump, restore

log = Logger("memory")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MODULE = Path("/sys/module/nvidia")


def era(boot_id: Path = _BOOT_ID, module: Path = _MODULE) -> str:
    """Names the time since this boot and since the kernel module was loaded: sysfs gives each load a new inode."""
    try:
        boot = boot_id.read_text().strip()
    except OSError:
        boot = "unknown"
    try:
        return f"{boot} {module.stat().st_ino}"
    except OSError:
        return f"{boot} -"


class FaultStore:
    """One file. Nothing here raises: a daemon that cannot write goes on, and says so."""

    def __init__(self, directory: Path, name_era: Callable[[], str] = era) -> None:
        self._path = directory / "health.json"
        self._era = name_era
        self._kept: object = None

    def recall(self) -> HealthState:
        """The faults that still hold; none if there is no file, or one that cannot be understood."""
        atomic_write.sweep(self._path)
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["era"] != self._era():
                return HealthState()
            state = restore(content["gpus"])
        except FileNotFoundError:
            return HealthState()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("health_not_recalled", path=self._path, error=repr(error))
            return HealthState()
        if state.records:
            log.info("health_recalled", path=self._path, gpus=",".join(sorted(state.records)))
        self._kept = _essence(state)
        return state

    def keep(self, state: HealthState) -> None:
        """Write down what changed; nothing during a storm of events that changes no more than a time."""
        essence = _essence(state)
        if essence == self._kept or (self._kept is None and not essence):
            return
        self._kept = essence
        try:
            atomic_write.put(self._path, json.dumps({"era": self._era(), "gpus": dump(state)}))
        except OSError as error:
            self._kept = None
            log.warning("health_not_kept", path=self._path, error=error)


def _essence(state: HealthState) -> dict[str, tuple[object, ...]]:
    return {
        uuid: (record.latched, record.severity, record.strikes, record.accepted)
        for uuid, record in state.records.items()
        if record.latched is not None or record.accepted is not None
    }
