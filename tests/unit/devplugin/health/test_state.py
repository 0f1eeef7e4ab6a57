from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.health.policy import Policy, Recovery, parse_xid_list, read_table
from nvidia_devplugin.health.state import HealthState, update
from nvidia_devplugin.model import DriverGone, Fault, Inventory, XidEvent
from tests.unit.devplugin.strategies import gpu, some_gpus, updates, uuids, xids

APPLICATION_XIDS = (13, 31, 43, 45, 68, 109)
POLICY = Policy.from_text()
GONE = DriverGone(Fault("driver_not_loaded", "not loaded"), "load it")
TWO = Inventory("550", (gpu(0), gpu(1)))


def play(*news, policy=POLICY):
    state = HealthState()
    for each in news:
        state = update(state, policy, each)
    return state


def codes(state):
    return {uuid: fault.code for uuid, fault in state.faults().items()}


def test_the_table_ignores_what_nvidias_plugin_ignores():
    assert tuple(sorted(xid.code for xid in POLICY.table.values() if xid.severity == "ignore")) == APPLICATION_XIDS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("13\tignore\tx", "line 1: expected code", id="missing-field"),
        pytest.param("13\tignore\tx\ty\tz", "line 1: expected code", id="field-too-many"),
        pytest.param("# c\n13\tmaybe\tx\ty", "line 2: expected code", id="policy"),
        pytest.param("13\tignore\tx\ty\n13\tfatal\tx\ty", "line 2: XID 13 is listed twice", id="twice"),
    ],
)
def test_a_wrong_table_names_the_line(text, message):
    with pytest.raises(ValueError, match=message):
        read_table(text)


def test_an_xid_is_shown_with_its_meaning_and_what_to_do():
    policy = Policy(read_table("# c\n79\tfatal\tit is gone\treboot\n"))
    assert policy.fault(79) == Fault("xid_79", "XID 79: it is gone; reboot")
    assert policy.fault(80) == Fault("xid_80", "XID 80")


def test_how_long_faults_are_held_unless_the_config_says_otherwise():
    assert [Recovery().hold(strikes) for strikes in (0, 1, 2, 6, 7, 5000)] == [60, 60, 120, 1920, 3600, 3600]


@pytest.mark.parametrize(
    ("disabled", "enabled", "ignored", "counted"),
    [
        pytest.param("", "", APPLICATION_XIDS, (48, 79, 999), id="defaults"),
        pytest.param("all", "", (*APPLICATION_XIDS, 48, 79), (), id="all-disabled"),
        pytest.param("XIDS", "", (*APPLICATION_XIDS, 48, 79), (), id="xids-any-case"),
        pytest.param("48, 79", "", (*APPLICATION_XIDS, 48, 79), (74,), id="list"),
        pytest.param("48,all", "", (*APPLICATION_XIDS, 79), (), id="all-within-a-list"),
        pytest.param("", "13", (31, 43), (13, 79), id="enable-an-application-xid"),
        pytest.param("all", "79", (13, 48), (79,), id="enable-wins-over-all"),
        pytest.param("79", "79", (13,), (79, 48), id="enable-wins-over-disable"),
        pytest.param("", "all", (), (*APPLICATION_XIDS, 79), id="all-enabled"),
        pytest.param("4x,79", "-1", (79,), (4, 1, 48), id="malformed-is-left-out"),
    ],
)
def test_disable_and_enable(disabled, enabled, ignored, counted):
    policy = Policy.from_text(disabled, enabled)
    assert [xid for xid in ignored if not policy.ignores(xid)] == []
    assert [xid for xid in counted if policy.ignores(xid)] == []


def test_an_xid_that_is_enabled_keeps_its_severity_and_one_of_applications_is_transient():
    policy = Policy.from_text(enabled="all")
    assert [policy.severity(xid) for xid in (13, 79, 94, 999)] == ["transient", "fatal", "transient", "fatal"]


def test_malformed_entries_are_kept_for_the_log():
    assert parse_xid_list(f"4x, 79,²,{'9' * 5000}").malformed == ("4x", "²", "9" * 5000)


@given(st.text())
def test_any_text_is_a_list_of_xids(text):
    parsed = parse_xid_list(text)
    assert parsed.everything or all(code >= 0 for code in parsed.codes)


@given(some_gpus, uuids, xids)
def test_an_xid_concerns_its_gpu_and_no_other(gpus, uuid, xid):
    state = play(Inventory("550", gpus), XidEvent(uuid, xid))
    known = uuid in {gpu.uuid for gpu in gpus}
    assert codes(state) == ({uuid: f"xid_{xid}"} if known and not POLICY.ignores(xid) else {})


def test_an_xid_without_a_gpu_concerns_all():
    assert codes(play(TWO, XidEvent(None, 79))) == {gpu(0).uuid: "xid_79", gpu(1).uuid: "xid_79"}


def test_the_first_xid_is_shown_as_the_cause():
    assert codes(play(TWO, XidEvent(gpu(0).uuid, 48), XidEvent(gpu(0).uuid, 79))) == {gpu(0).uuid: "xid_48"}


def test_an_xid_survives_new_inventories_but_not_a_new_driver():
    faulty = play(TWO, XidEvent(gpu(0).uuid, 79), TWO)
    assert codes(faulty) == {gpu(0).uuid: "xid_79"}
    assert codes(update(update(faulty, POLICY, GONE), POLICY, TWO)) == {}


def test_an_xid_survives_a_driver_that_only_failed_for_a_moment():
    moment = DriverGone(Fault("nvml_error_999", "Unknown Error"), "look")
    state = play(TWO, XidEvent(gpu(0).uuid, 79), moment)
    assert set(codes(state).values()) == {"nvml_error_999"}
    assert codes(update(state, POLICY, TWO)) == {gpu(0).uuid: "xid_79"}
    assert codes(play(TWO, XidEvent(gpu(0).uuid, 79), GONE, moment, TWO)) == {}, "unloaded in between is unloaded"


def test_a_gpu_that_vanishes_is_lost_until_it_is_back():
    lost = play(TWO, Inventory("550", (gpu(1),)))
    assert codes(lost) == {gpu(0).uuid: "gpu_lost"}
    assert codes(update(lost, POLICY, TWO)) == {}


def test_what_the_driver_reports_of_a_gpu_is_its_fault():
    broken = Inventory("550", (gpu(0), gpu(1)), ((gpu(1).uuid, Fault("nvml_error_15", "lost")),))
    assert codes(play(broken)) == {gpu(1).uuid: "nvml_error_15"}
    assert codes(play(broken, TWO)) == {}


@given(st.lists(updates, max_size=30))
def test_whatever_happens(news):
    state = play(*news)
    seen = {gpu.uuid for each in news if isinstance(each, Inventory) for gpu in each.gpus}
    assert set(state.known) == seen, "no GPU is ever forgotten"
    assert len(state.known) == len(seen)
    assert set(state.faults()) <= seen
    if news and isinstance(news[-1], DriverGone):
        assert set(state.faults()) == seen, "without a driver nothing is healthy"
    if news and isinstance(news[-1], Inventory):
        present = {gpu.uuid for gpu in news[-1].gpus}
        assert seen - present <= set(state.faults()), "what the driver does not show is unhealthy"


@given(st.lists(updates, max_size=20), updates)
def test_an_update_twice_is_an_update_once(news, last):
    once = play(*news, last)
    if not isinstance(last, Inventory):
        assert update(once, POLICY, last) == once
    assert update(once, POLICY, last).faults() == once.faults()
