"""What the agent writes to the node, by its metadata and the daemon's state; and when it writes again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.agent import events, node_changes
from nvidia_devplugin.agent.node_changes import ACK, FAULTS, FEATURES, OWNED, NodeMetadata
from nvidia_devplugin.agent.retry import FIRST_SECONDS, LONGEST_SECONDS, Retry, WritePace
from nvidia_devplugin.agent.state import DaemonState, ReportedFault, parse_state
from nvidia_devplugin.config.table import NODE_LABEL

TIMES = st.sampled_from(["2026-08-01T12:00:00Z", "2026-08-01T13:00:00Z", "2026-08-02T00:00:00Z"])
FAULT = st.builds(
    ReportedFault,
    uuid=st.sampled_from(["", "GPU-a", "GPU-b", "MIG-c"]),
    index=st.sampled_from(["", "0", "0:1"]),
    code=st.sampled_from(["xid_79", "xid_48", "gpu_lost"]),
    message=st.text(max_size=20),
    hint=st.text(max_size=20),
    severity=st.sampled_from(["", "fatal"]),
    since=TIMES,
)
FAULT_SETS = st.lists(FAULT, max_size=5, unique_by=lambda fault: fault.key).map(tuple)
KEYS = st.sampled_from(
    ["nvidia.com/gpu.count", "nvidia.com/gpu.present", "nvidia.com/mig-1g.10gb.count", "nvidia.com/mps.capable"]
)
LABELS = st.dictionaries(KEYS, st.sampled_from(["1", "2", "true"]))
FOREIGN = {"kubernetes.io/hostname": "n", "nvidia.com/device-plugin.config": "small", "example.com/x": "1"}
STATES = st.builds(DaemonState, version=st.just(1), faults=st.none() | FAULT_SETS, labels=st.none() | LABELS)
ANNOTATIONS = st.fixed_dictionaries(
    {"example.com/note": st.just("stays")},
    optional={
        FAULTS: st.sampled_from(["[]", "nonsense", "[1]", "{}", "3"])
        | FAULT_SETS.map(node_changes.annotation).filter(bool),
        ACK: st.just("GPU-a"),
        OWNED: st.sampled_from(["", "gpu.count", "gpu.count,mps.capable", "gpu.present,../x,device-plugin.config"]),
    },
)
NODES = st.builds(NodeMetadata, LABELS.map(lambda labels: {**FOREIGN, **labels}), ANNOTATIONS)
SOME = st.sets(st.sampled_from(FEATURES))


def merged(node, patch):
    def apply(old, new):
        return {key: value for key, value in {**old, **new}.items() if value is not None}

    return NodeMetadata(
        apply(node.labels, patch.get("labels", {})), apply(node.annotations, patch.get("annotations", {}))
    )


def test_the_label_is_the_one_that_the_daemon_means():
    assert node_changes.CONFIG_LABEL == NODE_LABEL


@given(NODES, STATES, SOME)
def test_what_is_written_once_needs_no_second_time(node, state, features):
    after = merged(node, node_changes.patch(node, state, features))
    assert node_changes.patch(after, state, features) == {}


@given(NODES, STATES, SOME)
def test_nothing_of_others_is_touched(node, state, features):
    patch = node_changes.patch(node, state, features)
    touched = set(patch.get("labels", {}))
    assert not touched & {*FOREIGN, "nvidia.com/gpu.present"}
    assert all(key.startswith("nvidia.com/") for key in touched)
    assert set(patch.get("annotations", {})) <= {FAULTS, OWNED}
    if node_changes.LABELS not in features:
        assert not touched
    if not features & {node_changes.LABELS, node_changes.ANNOTATIONS}:
        assert patch == {}


@given(NODES, STATES)
def test_labels_are_those_of_the_daemon_and_earlier_ones_are_removed(node, state):
    after = merged(node, node_changes.patch(node, state, {node_changes.LABELS}))
    if state.labels is None:
        assert after == node
        return
    ours = {key: value for key, value in state.labels.items() if key != "nvidia.com/gpu.present"}
    assert {key: after.labels[key] for key in ours} == ours
    assert node_changes.owned_labels(after) == set(ours)
    assert not (node_changes.owned_labels(node) - set(ours)) & set(after.labels)


@given(NODES, STATES)
def test_removal_removes_all_of_ours_and_nothing_else(node, state):
    clean = NodeMetadata({**node.labels}, {"example.com/note": "stays"})
    written = merged(clean, node_changes.patch(clean, state, FEATURES))
    after = merged(written, node_changes.removal(written))
    assert after.annotations == clean.annotations
    ours = set(state.labels or {}) - {"nvidia.com/gpu.present"}
    assert after.labels == {key: value for key, value in clean.labels.items() if key not in ours}
    assert node_changes.removal(after) == {}


@given(NODES, FAULT_SETS)
def test_the_annotation_has_the_faults_and_is_removed_with_the_last(node, faults):
    after = merged(node, node_changes.patch(node, DaemonState(1, faults=faults), {node_changes.ANNOTATIONS}))
    assert [fault.key for fault in node_changes.annotated_faults(after)] == [fault.key for fault in faults]
    assert (FAULTS in after.annotations) == bool(faults)
    before = {fault.key: fault.since for fault in node_changes.annotated_faults(node)}
    for fault in node_changes.annotated_faults(after):
        assert fault.since == before.get(fault.key, fault.since), "known before the daemon's restart"
    for entry in json.loads(after.annotations.get(FAULTS, "[]")):
        assert {"uuid", "index", "code", "message", "hint", "since"} <= set(entry)


def test_the_annotation_never_grows_beyond_what_a_node_may_have():
    faults = [ReportedFault(f"GPU-{number}", str(number), "xid_79", "x" * 1000) for number in range(300)]
    text = node_changes.annotation(faults)
    assert text is not None
    assert 60_000 < len(text) <= 64 * 1024


@given(FAULT_SETS, FAULT_SETS)
def test_each_fault_and_each_recovery_is_announced_once(before, now):
    found = node_changes.fault_changes(before, now)
    assert {fault.key for fault in found.appeared} == {fault.key for fault in now} - {fault.key for fault in before}
    healed = {fault.uuid for fault in before} - {fault.uuid for fault in now}
    assert sorted(fault.uuid for fault in found.recovered) == sorted(healed)
    assert node_changes.fault_changes(now, now) == node_changes.FaultChanges()


@given(FAULT, TIMES, st.text(alphabet="abc-.", min_size=1, max_size=253))
def test_events_are_valid_for_the_api_server(fault, now, node):
    made = [events.unhealthy(node, fault, now), events.healthy(node, fault, now)]
    made += [events.acknowledged(node, "0", "x" * 2000, now), events.config_refused(node, "reason", now)]
    assert len({event["metadata"]["name"] for event in made}) == 4
    for event in made:
        assert len(event["metadata"]["name"]) <= 253
        assert event["metadata"]["name"].rpartition(".")[2].isalnum()
        assert len(event["message"]) <= 1024
        assert event["involvedObject"]["name"] == node
    again = events.unhealthy(node, fault, "2030-01-01T00:00:00Z")
    assert again["metadata"]["name"] == made[0]["metadata"]["name"], "the same fault is the same Event"


def test_an_event_says_which_gpu_what_and_what_to_do():
    fault = ReportedFault("GPU-a", "1", "xid_79", "XID 79: GPU has fallen off the bus", "reboot the node", "fatal", "t")
    assert events.unhealthy("n", fault, "t")["message"] == (
        "GPU 1 (GPU-a) is unhealthy: XID 79: GPU has fallen off the bus. What to do: reboot the node [xid_79]"
    )
    assert ReportedFault("", "", "driver_not_loaded", "").subject == "NVIDIA driver"
    assert ReportedFault("MIG-b", "1:0", "xid_48", "").subject == "MIG device 1:0 (MIG-b)"


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ()), ("GPU-a", ("GPU-a",)), (" GPU-a, 1 GPU-a,,0:1 ", ("GPU-a", "1", "0:1"))],
)
def test_the_acknowledgement_names_gpus(text, names):
    node = NodeMetadata({}, {ACK: text})
    assert node_changes.to_acknowledge(node, {node_changes.ACKNOWLEDGE}) == names
    assert node_changes.to_acknowledge(node, {node_changes.LABELS}) == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version":1,"labels":[],"faults":3,"config":{}}'])
def test_an_invalid_state_is_refused(text):
    with pytest.raises(ValueError):
        parse_state(text)


@given(st.integers(1, 200), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_delays_grow_to_a_limit_and_heed_what_the_server_asks(failures, chance, asked):
    retry = Retry(lambda: chance)
    delays = [retry.failed(0.0) for _ in range(failures)]
    assert delays == sorted(delays)
    assert all(FIRST_SECONDS / 2 <= delay <= LONGEST_SECONDS for delay in delays)
    assert retry.failed(5.0, asked) >= min(asked or 0, 10 * LONGEST_SECONDS)
    assert retry.at > 5.0
    retry.succeeded(7.0)
    assert (retry.failures, retry.at) == (0, 7.0)


CHANGES = {"labels": {"nvidia.com/gpu.count": "2", "nvidia.com/old": None}}


def test_changes_that_are_undone_are_written_at_growing_intervals():
    pace, now, gaps = WritePace(), 100.0, []
    assert pace.due(CHANGES, now), "the first time at once"
    for _ in range(12):
        pace.wrote(CHANGES, now)
        assert not pace.due({}, now)
        assert not pace.due(CHANGES, now + 0.1)
        assert not pace.due(CHANGES, pace.at - 0.1)
        assert pace.due(CHANGES, pace.at)
        gaps.append(pace.at - now)
        now = pace.at
    assert gaps == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]
    assert pace.reverts == 11


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({"labels": {"nvidia.com/gpu.count": "2"}}, 256),
        ({"labels": {"nvidia.com/gpu.count": "3"}}, 2),
        ({"labels": {"nvidia.com/gpu.count": "2", "nvidia.com/new": "1"}}, 2),
        ({"annotations": {"nvidia.com/gpu.count": "2"}}, 2),
    ],
)
def test_only_other_changes_are_written_soon(changes, gap):
    pace, now = WritePace(), 100.0
    for _ in range(8):
        pace.due(CHANGES, now)
        pace.wrote(CHANGES, now)
    assert pace.due(changes, now) is False
    assert pace.at == now + gap


def test_an_edit_long_after_the_last_write_is_another_matter():
    pace = WritePace()
    for now in (0.0, 2.0, 6.0, 14.0):
        assert pace.due(CHANGES, now)
        pace.wrote(CHANGES, now)
    assert pace.reverts == 3
    assert not pace.due({}, 15.0)
    assert pace.due(CHANGES, 14.0 + 301), "at once"
    pace.wrote(CHANGES, 14.0 + 301)
    assert (pace.reverts, pace.pause) == (1, 4.0)


def test_metadata_that_is_older_than_the_last_write_is_no_revert():
    pace = WritePace()
    pace.wrote(CHANGES, 0.0)
    assert not pace.due(CHANGES, 0.1), "the watch has not seen the write yet"
    assert not pace.due({}, 0.2)
    assert pace.reverts == 0
