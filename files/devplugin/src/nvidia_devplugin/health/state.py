"""Which GPUs are fit to be handed out, and why not. Pure: updates from the driver and the time in, the new state out.

What concerns all GPUs (the driver is gone) is kept apart from each GPU's own record, whose life recovery describes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..model import (
    FATAL,
    IGNORE,
    DriverGone,
    DriverUpdate,
    EccEvent,
    Fault,
    Inventory,
    MigDevice,
    Topology,
    XidEvent,
)
from . import recovery
from .policy import Policy
from .recovery import Record
from .vitals import examine, is_hot


@dataclass(frozen=True)
class HealthState:
    """Everything known about the health of all GPUs; replaced as a whole, never changed.

    known: the uuids seen so far, so that a GPU that vanishes stays advertised, as unhealthy.
    records: by uuid of GPU or MIG device; who has none never had a fault.
    mig: each GPU's MIG devices, for events that name an instance.
    removed: GPUs that left the bus while all others could be read: when they are back, the driver has initialised them
    again.
    hot: GPUs that reached their shutdown temperature and have not cooled down since.
    """

    known: tuple[str, ...] = ()
    driver: Fault | None = None
    records: Mapping[str, Record] = field(default_factory=dict)
    mig: Mapping[str, tuple[MigDevice, ...]] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()
    hot: frozenset[str] = frozenset()

    def fault(self, uuid: str) -> Fault | None:
        """Why the GPU is unhealthy; None if it is healthy. What concerns all comes first."""
        return self.driver or self.records.get(uuid, recovery.HEALTHY).fault

    def faults(self) -> dict[str, Fault]:
        """All unhealthy GPUs by uuid, and those MIG devices that are so while the rest of their GPU is not."""
        instances = (device.uuid for devices in self.mig.values() for device in devices)
        named = {uuid: fault for uuid in instances if (fault := self.records.get(uuid, recovery.HEALTHY).fault)}
        return {uuid: fault for uuid in self.known if (fault := self.fault(uuid)) is not None} | named


def update(state: HealthState, policy: Policy, news: DriverUpdate, now: float = 0.0) -> HealthState:
    """The state after one update from the driver at `now`. An event whose GPU is not known concerns all GPUs."""
    if isinstance(news, DriverGone):
        if news.fault.code in _UNLOADED:
            # only a module that is loaded anew brings the GPUs back, and it initialises them
            records = {uuid: recovery.reset(record, now) for uuid, record in state.records.items()}
            return replace(state, driver=news.fault, records=records)
        return replace(state, driver=news.fault)
    if isinstance(news, Inventory):
        return _checked(state, policy, news, now)
    if isinstance(news, Topology):
        return state
    if isinstance(news, EccEvent):
        if policy.checks_disabled or ECC_DOUBLE_BIT in policy.ignored:
            return state
        return _hit(state, policy, news, Fault(ECC_DOUBLE_BIT, _ECC_MESSAGE), FATAL, now)
    severity = policy.severity(news.xid)
    return state if severity == IGNORE else _hit(state, policy, news, policy.fault(news.xid), severity, now)


def acknowledge(state: HealthState, name: str, now: float) -> HealthState:
    """An operator vouches for the GPU or MIG device with this uuid, and for all MIG devices of a GPU.

    Raises ValueError with a message for the operator.
    """
    if name not in state.known and name not in state.records:
        raise ValueError(f"no GPU or MIG device {name} here; known: {', '.join(state.known) or 'none'}")
    parts = [name, *(device.uuid for device in state.mig.get(name, ()))]
    faulty = [uuid for uuid in parts if state.records.get(uuid, recovery.HEALTHY).fault is not None]
    if not faulty:
        raise ValueError(f"{name} is healthy: there is nothing to acknowledge")
    return replace(
        state, records={**state.records, **{uuid: recovery.acknowledge(state.records[uuid], now) for uuid in faulty}}
    )


ECC_DOUBLE_BIT = "ecc_double_bit"
_ECC_MESSAGE = "double-bit ECC error; reset the GPU, and have it examined if it comes back"
_UNLOADED = ("driver_not_loaded", "version_mismatch")
_LOST = Fault("gpu_lost", "the driver does not show this GPU any more; look for XID 79 in the kernel's log, reboot")


def _checked(state: HealthState, policy: Policy, news: Inventory, now: float) -> HealthState:
    present = {gpu.uuid for gpu in news.gpus}
    known = (*state.known, *(gpu.uuid for gpu in news.gpus if gpu.uuid not in state.known))
    # a GPU that vanished keeps the instances that it had
    mig = {**state.mig, **{gpu.uuid: gpu.mig for gpu in news.gpus}}
    reported = {uuid: _LOST for uuid in known if uuid not in present}
    hot = frozenset(uuid for uuid, vitals in news.vitals if is_hot(vitals, uuid in state.hot))
    found = {uuid: fault for uuid, vitals in news.vitals if (fault := examine(vitals, uuid in hot)) is not None}
    if not policy.checks_disabled:
        reported.update((uuid, fault) for uuid, fault in found.items() if fault.code not in policy.ignored)
    reported.update((uuid, fault) for uuid, fault in news.faults if fault.code not in policy.ignored)
    gone = {device.uuid for devices in state.mig.values() for device in devices}
    gone -= {device.uuid for devices in mig.values() for device in devices}
    back = set(state.removed & present)
    back |= {device.uuid for uuid in back for device in mig.get(uuid, ())}
    records = {}
    for uuid in {*state.records, *reported}:
        record = state.records.get(uuid, recovery.HEALTHY)
        if uuid in gone:
            continue  # a MIG device that was destroyed; one that comes later under its name is new
        if uuid in back:
            record = recovery.reset(record, now)
        records[uuid] = recovery.check(record, reported.get(uuid), policy.recovery, now)
    # one that cannot be read may only look as if it had left
    left = frozenset() if news.unreadable else frozenset(known) - present
    return HealthState(known, None, records, mig=mig, removed=(state.removed - present) | left, hot=hot)


def _hit(
    state: HealthState, policy: Policy, event: XidEvent | EccEvent, fault: Fault, severity: str, now: float
) -> HealthState:
    uuids: Iterable[str] = state.known if event.uuid is None else _scope(state, event.uuid, event.gi, event.ci)
    hit = {
        uuid: recovery.hit(state.records.get(uuid, recovery.HEALTHY), fault, severity, policy.recovery, now)
        for uuid in uuids
    }
    return replace(state, records={**state.records, **hit})


def _scope(state: HealthState, gpu: str, gi: int | None, ci: int | None) -> tuple[str, ...]:
    """What an event on one GPU concerns: the instances that it names, or the whole GPU and so all its instances.

    An instance that we have not seen means that the event is older or newer than the inventory: then all of the GPU.
    """
    if gi is None:
        return (gpu,)
    named = [device.uuid for device in state.mig.get(gpu, ()) if device.gi == gi and ci in (None, device.ci)]
    return tuple(named) or (gpu,)


def dump(state: HealthState) -> dict[str, Any]:
    """The faults that a restart of the daemon must not forget, for JSON: latched ones, and what was accepted."""
    return {
        uuid: {
            "latched": None if record.latched is None else [record.latched.code, record.latched.message],
            "severity": record.severity,
            "until": record.until,
            "strikes": record.strikes,
            "calm": record.calm,
            "accepted": None if record.accepted is None else [record.accepted.code, record.accepted.message],
        }
        for uuid, record in state.records.items()
        if record.latched is not None or record.accepted is not None
    }


def restore(kept: Mapping[str, Any]) -> HealthState:
    """The state that dump() wrote. Raises ValueError, TypeError or KeyError for anything else."""

    def fault(pair: Any) -> Fault | None:
        if pair is None:
            return None
        code, message = pair
        return Fault(str(code), str(message))

    records = {}
    for uuid, entry in kept.items():
        severity = str(entry["severity"])
        if severity not in ("", "transient", "fatal"):
            raise ValueError(f"unknown severity {severity}")
        records[str(uuid)] = Record(
            latched=fault(entry["latched"]),
            severity=severity,
            until=float(entry["until"]),
            strikes=int(entry["strikes"]),
            calm=float(entry["calm"]),
            accepted=fault(entry["accepted"]),
        )
    return HealthState(records=records)
