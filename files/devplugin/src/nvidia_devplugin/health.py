"""Which GPUs are fit to be handed out, and why not. Pure: updates from the driver in, the new state out.

Faults have two origins that heal differently. What the driver says about a GPU now (lost, unreadable, driver gone) is
replaced by what it says next. An XID stays with its GPU until the kernel module was seen unloaded and came back, since
only that is known to have initialised the GPU again: that a GPU answers queries does not prove that it computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .model import DriverGone, DriverUpdate, Fault, Inventory, MigDevice, Topology, XidEvent

_TABLE = Path(__file__).with_name("xids.tsv")
_NUMBER = re.compile("[0-9]{1,19}")
_EVERYTHING = ("all", "xids")


@dataclass(frozen=True)
class Xid:
    """One row of the table: `ignore` says that the application, not the GPU, is at fault."""

    code: int
    ignore: bool
    meaning: str
    action: str


def read_table(text: str) -> dict[int, Xid]:
    """The table of XIDs by code. Raises ValueError naming the line."""
    table: dict[int, Xid] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 4 or not fields[0].isdigit() or fields[1] not in ("ignore", "fatal"):
            raise ValueError(f"XID table, line {number}: expected code, ignore|fatal, meaning, action")
        code = int(fields[0])
        if code in table:
            raise ValueError(f"XID table, line {number}: XID {code} is listed twice")
        table[code] = Xid(code, fields[1] == "ignore", fields[2], fields[3])
    return table


@dataclass(frozen=True)
class XidList:
    """A list of XIDs as DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS hold it."""

    everything: bool = False
    codes: frozenset[int] = frozenset()
    malformed: tuple[str, ...] = ()

    def __contains__(self, code: object) -> bool:
        return self.everything or code in self.codes


def parse_xid_list(text: str) -> XidList:
    """`all`, `xids` or codes separated by commas, in any case; what is none of these is kept as malformed.

    As in NVIDIA's plugin, one `all` or `xids` anywhere outweighs the rest, and malformed entries are no error.
    """
    entries = [entry for entry in (part.strip().lower() for part in text.split(",")) if entry]
    if any(entry in _EVERYTHING for entry in entries):
        return XidList(everything=True)
    codes = frozenset(int(entry) for entry in entries if _NUMBER.fullmatch(entry))
    malformed = tuple(entry for entry in entries if not _NUMBER.fullmatch(entry))
    return XidList(codes=codes, malformed=malformed)


@dataclass(frozen=True)
class Policy:
    """Which XIDs count. Explicitly enabled wins over disabled, and that over the table."""

    table: Mapping[int, Xid]
    disabled: XidList = XidList()
    enabled: XidList = XidList()

    @classmethod
    def from_text(cls, disabled: str = "", enabled: str = "") -> Policy:
        """With the package's own table; the arguments are the values of the environment variables."""
        table = read_table(_TABLE.read_text(encoding="utf-8"))
        return cls(table, parse_xid_list(disabled), parse_xid_list(enabled))

    def ignores(self, code: int) -> bool:
        """True if an XID `code` says nothing about the GPU's health."""
        if code in self.enabled:
            return False
        if code in self.disabled:
            return True
        known = self.table.get(code)
        return known is not None and known.ignore

    def fault(self, code: int) -> Fault:
        """How an XID is shown to people."""
        known = self.table.get(code)
        text = f"XID {code}: {known.meaning}; {known.action}" if known else f"XID {code}"
        return Fault(f"xid_{code}", text)


@dataclass(frozen=True)
class HealthState:
    """Everything known about the health of all GPUs; replaced as a whole, never changed.

    known: the uuids seen so far, so that a GPU that vanishes stays advertised, as unhealthy.
    unloaded: the kernel module was unloaded or replaced since the last inventory.
    mig: each GPU's MIG devices, for events that name an instance.
    """

    known: tuple[str, ...] = ()
    driver: Fault | None = None
    reported: Mapping[str, Fault] = field(default_factory=dict)
    xids: Mapping[str, Fault] = field(default_factory=dict)
    unloaded: bool = False
    mig: Mapping[str, tuple[MigDevice, ...]] = field(default_factory=dict)

    def fault(self, uuid: str) -> Fault | None:
        """Why the GPU is unhealthy; None if it is healthy. What concerns all comes first."""
        return self.driver or self.reported.get(uuid) or self.xids.get(uuid)

    def faults(self) -> dict[str, Fault]:
        """All unhealthy GPUs by uuid, and those MIG devices that are so while the rest of their GPU is not."""
        instances = (device.uuid for devices in self.mig.values() for device in devices)
        named = {uuid: self.xids[uuid] for uuid in instances if uuid in self.xids}
        return {uuid: fault for uuid in self.known if (fault := self.fault(uuid)) is not None} | named


def update(state: HealthState, policy: Policy, news: DriverUpdate) -> HealthState:
    """The state after one update from the driver. An XID whose GPU is not known concerns all GPUs."""
    if isinstance(news, DriverGone):
        unloaded = state.unloaded or news.fault.code in _UNLOADED
        return replace(state, driver=news.fault, unloaded=unloaded)
    if isinstance(news, Inventory):
        present = [gpu.uuid for gpu in news.gpus]
        known = (*state.known, *(uuid for uuid in present if uuid not in state.known))
        reported = {uuid: _LOST for uuid in known if uuid not in present}
        reported.update((uuid, fault) for uuid, fault in news.faults)
        # a GPU that vanished keeps the instances that it had
        mig = {**state.mig, **{gpu.uuid: gpu.mig for gpu in news.gpus}}
        return HealthState(known, None, reported, {} if state.unloaded else state.xids, mig=mig)
    if isinstance(news, Topology):
        return state
    if policy.ignores(news.xid):
        return state
    return replace(state, xids={**state.xids, **_blame(state, policy, news)})


_UNLOADED = ("driver_not_loaded", "version_mismatch")
_LOST = Fault("gpu_lost", "the driver does not show this GPU any more; look for XID 79 in the kernel's log, reboot")


def _blame(state: HealthState, policy: Policy, event: XidEvent) -> dict[str, Fault]:
    fault = policy.fault(event.xid)
    uuids: Iterable[str] = state.known if event.uuid is None else _scope(state, event.uuid, event)
    # the first XID is the cause, those after it are mostly its consequences
    return {uuid: fault for uuid in uuids if uuid not in state.xids}


def _scope(state: HealthState, gpu: str, event: XidEvent) -> tuple[str, ...]:
    """What an event on one GPU concerns: the instances that it names, or the whole GPU and so all its instances.

    An instance that we have not seen means that the event is older or newer than the inventory: then all of the GPU.
    """
    if event.gi is None:
        return (gpu,)
    named = [
        device.uuid for device in state.mig.get(gpu, ()) if device.gi == event.gi and event.ci in (None, device.ci)
    ]
    return tuple(named) or (gpu,)
