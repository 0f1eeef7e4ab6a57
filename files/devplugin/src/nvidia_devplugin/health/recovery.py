"""One GPU's (or MIG device's) way between healthy and not: a state machine of values. Times are seconds of one clock,
given by the caller. docs/health.md of the collection has its diagram.

A record holds two things that heal differently. `reported` is what the driver says now, replaced by what it says next.
`latched` is what an event said: it stays until it was quiet and the driver's checks were clean (transient), or until a
reset or an operator's word (fatal).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..model import FATAL, TRANSIENT, Fault
from .policy import Recovery

FLAPPING = "flapping"


@dataclass(frozen=True)
class Record:
    """What is known about the health of one GPU or MIG device.

    severity: of `latched`; empty without one. until: a transient one heals at the first clean check from then on.
    strikes: faults in a row without a long healthy time between. calm: when it last became or was found healthy.
    accepted: reported faults that an operator took note of; they count again once they changed.
    """

    latched: Fault | None = None
    severity: str = ""
    until: float = 0.0
    reported: Fault | None = None
    strikes: int = 0
    calm: float = 0.0
    accepted: Fault | None = None

    @property
    def fault(self) -> Fault | None:
        """Why it must not be handed out; None if it may."""
        return self.reported or self.latched


HEALTHY = Record()


def strike(record: Record, rules: Recovery, now: float) -> Record:
    """One more fault of what was healthy; those before it are forgiven after a long healthy time."""
    if record.fault is not None:
        return record
    forgiven = now - record.calm >= rules.longest
    return replace(record, strikes=1 if forgiven else record.strikes + 1)


def hit(record: Record, fault: Fault, severity: str, rules: Recovery, now: float) -> Record:
    """An event. The first is shown as the cause, those after it being mostly its consequences, unless one is worse."""
    record = strike(record, rules, now)
    if severity == FATAL:
        return record if record.severity == FATAL else replace(record, latched=fault, severity=FATAL)
    if record.severity == FATAL:
        return record
    until = max(record.until, now + rules.hold(record.strikes))  # quiet: counted from the last event
    return replace(record, latched=record.latched or fault, severity=TRANSIENT, until=until)


def check(record: Record, fault: Fault | None, rules: Recovery, now: float) -> Record:
    """What the driver says of it now, None if it finds nothing wrong."""
    if fault is not None and fault == record.accepted:
        fault = None
    elif fault != record.accepted:
        record = replace(record, accepted=None)
    if fault is not None:
        return replace(strike(record, rules, now), reported=fault)
    if record.reported is not None:
        last = record.reported.message
        record = replace(record, reported=None, calm=now)
        if record.latched is None and record.strikes > 1:
            held = Fault(FLAPPING, f"held back: it came and went {record.strikes} times; last: {last}")
            return replace(record, latched=held, severity=TRANSIENT, until=now + rules.hold(record.strikes - 1))
    if record.severity == TRANSIENT and now >= record.until:
        return replace(record, latched=None, severity="", calm=now)
    return record


def reset(record: Record, now: float) -> Record:
    """The GPU was initialised anew: what events said of it before does not hold any more. What flapped stays held."""
    if record.latched is not None and record.latched.code == FLAPPING:
        return record
    return replace(record, latched=None, severity="", accepted=None, calm=now)


LOST_CODES = ("gpu_lost", "unreadable", "events_unavailable", "thermal_shutdown")
"""Reported faults that an acknowledgement cannot change."""


def acknowledge(record: Record, now: float) -> Record:
    """An operator vouches for it: latched faults and strikes are forgotten, and a reported one is accepted as it is.

    Raises ValueError if it is healthy, or if the driver says something that no word can cure.
    """
    if record.fault is None:
        raise ValueError("it is healthy: there is nothing to acknowledge")
    reported = record.reported
    if reported is not None and (reported.code in LOST_CODES or reported.code.startswith("nvml_error_")):
        raise ValueError(f"{reported.message}: an acknowledgement cannot change that")
    return Record(accepted=reported or record.accepted, calm=now)
