"""The life of faults as a state machine: any sequence of events, checks, resets and acknowledgements, in a time of its
own, against a model of a few facts that must hold."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nvidia_devplugin.health.policy import Policy, Recovery
from nvidia_devplugin.health.state import HealthState, acknowledge, dump, restore, update
from nvidia_devplugin.model import DriverGone, EccEvent, Fault, Inventory, MigDevice, XidEvent
from nvidia_devplugin.nvml.errors import ReadError
from tests.bench.soak import soak
from tests.unit.devplugin.strategies import gpu

RULES = Recovery(quiet=60.0, longest=3600.0)
POLICY = Policy.from_text(recovery=RULES)
GPUS = (gpu(0), gpu(1), gpu(2))
MIG = dataclasses.replace(
    gpu(2), mig_enabled=True, mig=(MigDevice(0, "MIG-a", "1g.10gb", 7, 0), MigDevice(1, "MIG-b", "1g.10gb", 8, 0))
)
ALL = Inventory("550", (*GPUS[:2], MIG))
FAULTS = (Fault("row_remap_pending", "pending"), Fault("ecc_double_bit", "1 error"), Fault("nvml_error_999", "NVML"))
UUIDS = tuple(each.uuid for each in GPUS)


class Life(RuleBasedStateMachine):
    """The state beside what a simple-minded observer wrote down."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.state = update(HealthState(), POLICY, ALL, self.now)
        self.fatal: set[str] = set()  # not to be healthy before a reset or an acknowledgement
        self.last: dict[str, float] = {}  # last transient event
        self.bad: dict[str, Fault] = {}  # what the driver says
        self.gone = False

    def apply(self, news):
        self.state = update(self.state, POLICY, news, self.now)

    def check(self):
        self.gone = False
        self.apply(dataclasses.replace(ALL, faults=tuple(self.bad.items())))

    @rule(seconds=st.sampled_from([0.1, 5.0, 59.0, 61.0, 600.0, 4000.0]))
    def time_passes(self, seconds):
        before = self.state.faults()
        self.now += seconds
        assert self.state.faults() == before, "time alone heals nothing"

    @rule(uuid=st.sampled_from(UUIDS), xid=st.sampled_from([13, 43, 63, 92, 94, 48, 79, 999]))
    def xid(self, uuid, xid):
        before = self.state.faults()
        self.apply(XidEvent(uuid, xid))
        severity = POLICY.severity(xid)
        if severity == "fatal":
            self.fatal.add(uuid)
        elif severity == "transient":
            self.last[uuid] = self.now
        else:
            assert self.state.faults() == before
        changed = {key for key in {**before, **self.state.faults()} if before.get(key) != self.state.faults().get(key)}
        assert changed <= {uuid}, "no other GPU is concerned"

    @rule(uuid=st.sampled_from(UUIDS))
    def double_bit(self, uuid):
        self.apply(EccEvent(uuid))
        self.fatal.add(uuid)

    @rule(instance=st.sampled_from(MIG.mig))
    def instance_xid(self, instance):
        self.apply(XidEvent(MIG.uuid, 48, instance.gi, instance.ci))
        self.fatal.add(instance.uuid)

    @rule(faults=st.dictionaries(st.sampled_from(UUIDS), st.sampled_from(FAULTS)))
    def driver_says(self, faults):
        self.bad = dict(faults)
        self.check()

    @rule()
    def clean_check_after_an_hour(self):
        """Whatever is not fatal is healthy at the first clean check after the longest hold."""
        self.bad = {}
        self.check()
        self.now += RULES.longest + 1
        self.check()
        assert set(self.state.faults()) == self.fatal

    @rule(fault=st.sampled_from(["driver_not_loaded", "version_mismatch", "driver_hangs"]))
    def driver_goes(self, fault):
        self.apply(DriverGone(Fault(fault, fault), "wait"))
        self.gone = True
        if fault != "driver_hangs":
            self.fatal.clear()
            self.last.clear()

    @rule(uuid=st.sampled_from(UUIDS))
    def operator(self, uuid):
        before = self.state
        try:
            self.state = acknowledge(self.state, uuid, self.now)
        except ValueError:
            assert self.state == before
            parts = {uuid, *(each.uuid for each in (MIG.mig if uuid == MIG.uuid else ()))}
            assert self.bad.get(uuid) == FAULTS[2] or not parts & self.fatal
            return
        parts = {uuid, *(each.uuid for each in (MIG.mig if uuid == MIG.uuid else ()))}
        self.fatal -= parts
        for part in parts:
            self.last.pop(part, None)
            assert self.state.records.get(part) is None or self.state.records[part].fault is None

    @rule()
    def daemon_is_killed_and_started(self):
        """What is latched or accepted outlives it; the rest is found anew by the first check."""
        self.state = restore(dump(self.state))
        self.check()

    @invariant()
    def nothing_heals_too_early(self):
        if self.gone:
            assert set(UUIDS) <= set(self.state.faults()), "without a driver nothing is healthy"
        faults = self.state.faults()
        assert self.fatal <= set(faults)
        for uuid, last in self.last.items():
            assert uuid in faults or self.now - last >= RULES.quiet

    @invariant()
    def restart_forgets_no_latch(self):
        kept = restore(dump(self.state)).records
        for uuid, record in self.state.records.items():
            if record.latched:
                assert kept[uuid].latched == record.latched
                assert (kept[uuid].severity, kept[uuid].until) == (record.severity, record.until)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def play(*steps):
    """The state after (time, update) pairs that follow a first inventory."""
    state = update(HealthState(), POLICY, ALL, 0.0)
    for now, news in steps:
        state = update(state, POLICY, news, now)
    return state


def test_a_transient_fault_heals_at_the_first_check_after_the_quiet_time():
    event = XidEvent(UUIDS[0], 94)
    assert UUIDS[0] in play((10, event), (69, ALL)).faults()
    assert not play((10, event), (70, ALL)).faults()
    assert UUIDS[0] in play((10, event), (60, event), (100, ALL)).faults(), "quiet is counted from the last event"


def test_mig_devices_that_were_destroyed_take_no_fault_of_others_along():
    hit = [(1, XidEvent(MIG.uuid, 48, each.gi, each.ci)) for each in MIG.mig]
    whole = dataclasses.replace(ALL, gpus=GPUS)
    for first, second in ((UUIDS[0], UUIDS[1]), (UUIDS[1], UUIDS[0])):
        events = [(1, XidEvent(first, 48)), *hit, (2, XidEvent(second, 48))]
        assert set(play(*events, (3, whole)).faults()) == {first, second}


def test_a_transient_fault_stays_while_the_check_is_not_clean():
    pending = dataclasses.replace(ALL, faults=((UUIDS[0], FAULTS[0]),))
    state = play((10, XidEvent(UUIDS[0], 63)), (500, pending))
    assert state.faults() == {UUIDS[0]: FAULTS[0]}
    assert not update(state, POLICY, ALL, 600).faults(), "the reset did it"


def test_each_flap_is_held_twice_as_long_and_a_long_healthy_time_forgives():
    state, now, held = update(HealthState(), POLICY, ALL, 0.0), 0.0, []
    for _ in range(9):
        state = update(state, POLICY, XidEvent(UUIDS[0], 94), now)
        since = now
        while state.faults():
            now += 5
            state = update(state, POLICY, ALL, now)
        held.append(now - since)
    assert held == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    now += RULES.longest
    state = update(state, POLICY, XidEvent(UUIDS[0], 94), now)
    assert not update(state, POLICY, ALL, now + 60).faults()


def test_a_gpu_that_comes_and_goes_is_held_back_from_the_second_time():
    bad = dataclasses.replace(ALL, faults=((UUIDS[0], FAULTS[2]),))
    assert not play((1, bad), (2, ALL)).faults()
    state = play((1, bad), (2, ALL), (3, bad), (4, ALL))
    assert state.faults()[UUIDS[0]].code == "flapping"
    assert UUIDS[0] in update(state, POLICY, ALL, 63).faults()
    assert not update(state, POLICY, ALL, 64).faults()


def test_each_return_is_held_twice_as_long_and_says_what_it_was():
    bad = dataclasses.replace(ALL, faults=((UUIDS[0], FAULTS[2]),))
    state, now, held, messages = update(HealthState(), POLICY, ALL, 0.0), 0.0, [], []
    for _ in range(4):
        state = update(update(state, POLICY, bad, now + 1), POLICY, ALL, now + 2)
        now = since = now + 2
        messages += [fault.message for fault in state.faults().values()]
        while state.faults():
            now += 5
            state = update(state, POLICY, ALL, now)
        held.append(now - since)
    assert held == [0, 60, 120, 240]
    assert messages == [f"held back: it came and went {times} times; last: NVML" for times in (2, 3, 4)]


def test_a_long_healthy_time_is_counted_from_the_last_fault():
    bad = dataclasses.replace(ALL, faults=((UUIDS[0], FAULTS[2]),))
    assert not play((1, bad), (2, ALL), (5000, bad), (5001, ALL)).faults()
    assert play((1, bad), (3000, ALL), (5000, bad), (5001, ALL)).faults()


def test_a_gpu_that_left_the_bus_and_is_back_was_reset():
    without = Inventory("550", ALL.gpus[1:])
    event = XidEvent(UUIDS[0], 79)
    assert not play((1, event), (2, without), (3, ALL)).faults()
    unreadable = dataclasses.replace(without, unreadable=("index 0: lost",))
    assert play((1, event), (2, unreadable), (3, ALL)).faults()[UUIDS[0]].code == "xid_79", "only out of sight"


def test_a_fault_that_was_accepted_counts_again_when_it_changes():
    def ecc(number):
        return dataclasses.replace(ALL, faults=((UUIDS[0], Fault("ecc_double_bit", f"{number} errors")),))

    state = acknowledge(play((1, ecc(1))), UUIDS[0], 2)
    assert not update(state, POLICY, ecc(1), 3).faults()
    assert not update(restore(dump(state)), POLICY, ecc(1), 3).faults(), "a restart does not forget the word"
    assert dump(update(state, POLICY, ALL, 3)) == {}, "what is neither latched nor accepted is found anew"
    assert update(state, POLICY, ecc(2), 3).faults()[UUIDS[0]].code == "ecc_double_bit"


@pytest.mark.parametrize(
    ("steps", "name", "message"),
    [
        pytest.param((), "GPU-x", "no GPU or MIG device GPU-x here; known: GPU-0", id="unknown"),
        pytest.param((), UUIDS[0], "is healthy: there is nothing to acknowledge", id="healthy"),
        pytest.param(((1, Inventory("550", GPUS[1:])),), UUIDS[0], "an acknowledgement cannot change that", id="lost"),
        *(
            pytest.param(
                ((1, dataclasses.replace(ALL, faults=((UUIDS[0], ReadError(code, "it says nothing").fault),))),),
                UUIDS[0],
                "an acknowledgement cannot change that",
                id=f"unreadable-{code}",
            )
            for code in (None, 999)
        ),
    ],
)
def test_what_cannot_be_acknowledged(steps, name, message):
    with pytest.raises(ValueError, match=message):
        acknowledge(play(*steps), name, 2)


@pytest.mark.parametrize("seed", range(3))
def test_a_short_soak(seed):
    warm, end = soak(5000, seed)
    # no more of them; what tests before this one left to gRPC's threads may go meanwhile
    assert all(now <= before for now, before in zip(end[1:], warm[1:], strict=True)), "descriptors and threads"
