# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Allocations, differences, topologies, the cluster's objects, words."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.report import (
    allocations,
    cluster,
    differences,
    fleet,
    matrix,
    words,
)

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
ENTRY = {"PodUID": "u1", "ContainerName": "c", "ResourceName": "nvidia.com/gpu", "DeviceIDs": {"1": ["GPU-b", "GPU-a"]}}


def _file(*entries: object) -> str:
    return json.dumps({"Data": {"PodDeviceEntries": list(entries), "RegisteredDevices": {}}, "Checksum": 1})


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        pytest.param({"0": ["GPU-b"], "1": ["GPU-a"]}, ["GPU-a", "GPU-b"], id="by-numa-node"),
        pytest.param({"-1": ["GPU-a"]}, ["GPU-a"], id="no-numa-node"),
        pytest.param(["GPU-b", "GPU-a"], ["GPU-a", "GPU-b"], id="list-until-1.19"),
        pytest.param(None, [], id="none"),
        pytest.param({"0": "GPU-a"}, [], id="no-list"),
    ],
)
def test_devices_of_a_pod(devices: object, expected: list[str]) -> None:
    (found,) = allocations.parse(_file({**ENTRY, "DeviceIDs": devices}))
    assert found == {"pod_uid": "u1", "container": "c", "resource": "nvidia.com/gpu", "devices": expected}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"Data": null}', '{"Data": {"PodDeviceEntries": 5}}', _file(7)])
def test_a_file_that_cannot_be_understood_tells_nothing(text: str) -> None:
    assert allocations.parse(text) == []


@given(anything)
def test_any_file_is_read(document: object) -> None:
    allocations.parse(json.dumps(document))
    allocations.parse(_file(document, {"DeviceIDs": document}))


GPUS = [
    {"index": 0, "uuid": "GPU-a", "mig": []},
    {"index": 1, "uuid": "GPU-b", "mig": [{"uuid": "MIG-x"}]},
    {"index": 2, "uuid": None, "mig": []},
]


@pytest.mark.parametrize(
    ("device", "expected"),
    [("GPU-b", 1), ("GPU-b::7", 1), ("MIG-x", 1), ("MIG-x::0", 1), ("2", 2), ("0::1", 0), ("GPU-z", None), ("", None)],
)
def test_gpu_of_a_device(device: str, expected: int | None) -> None:
    assert allocations.gpu_of(device, GPUS) == expected


def _difference(*values: object) -> list[tuple[str, list[str]]]:
    nodes = [{"host": f"n{n}", "group": "g", "settings": {"Driver": value}} for n, value in enumerate(values)]
    found = differences.compare(nodes)
    return [(value["value"], value["hosts"]) for value in found[0]["values"]] if found else []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(["550", "550"], [], id="same"),
        pytest.param(["550", None, ""], [], id="unknown-is-no-difference"),
        pytest.param(["550", "535", "550"], [("550", ["n0", "n2"]), ("535", ["n1"])], id="the-odd-one-last"),
        pytest.param([["a"], ["b", "a"]], [("a", ["n0"]), ("a + b", ["n1"])], id="mixed-within-a-node"),
        pytest.param([["a", "b"], ["b", "a"]], [], id="the-same-mixture"),
        pytest.param([["a", "b"]], [("a + b", ["n0"])], id="one-node-whose-gpus-differ"),
        pytest.param([10, 9], [("9", ["n1"]), ("10", ["n0"])], id="numbers-in-their-order"),
        pytest.param([0, 1], [("0", ["n0"]), ("1", ["n1"])], id="zero-is-known"),
    ],
)
def test_differences(values: list[object], expected: list[tuple[str, list[str]]]) -> None:
    assert _difference(*values) == expected


def test_only_nodes_of_one_group_are_compared() -> None:
    nodes = [
        {"host": "a", "group": "H100", "settings": {"Driver": "1"}},
        {"host": "b", "group": "A100", "settings": {"Driver": "2"}},
    ]
    assert differences.compare(nodes) == []


@given(st.lists(st.tuples(st.sampled_from("xy"), st.one_of(st.none(), st.sampled_from("abc"))), max_size=12))
def test_every_known_value_of_a_differing_setting_is_told_once(nodes: list[tuple[str, str | None]]) -> None:
    given_nodes = [
        {"host": f"n{number}", "group": group, "settings": {"S": value}} for number, (group, value) in enumerate(nodes)
    ]
    found = differences.compare(given_nodes)
    assert found == differences.compare(list(reversed(given_nodes)))
    for item in found:
        told = {host: value["value"] for value in item["values"] for host in value["hosts"]}
        known = {
            node["host"]: node["settings"]["S"]
            for node in given_nodes
            if node["group"] == item["group"] and node["settings"]["S"] is not None
        }
        assert told == known
        sizes = [len(value["hosts"]) for value in item["values"]]
        assert sizes == sorted(sizes, reverse=True)
    differing = {
        group for group in "xy" if len({value for name, value in nodes if name == group and value is not None}) > 1
    }
    assert {item["group"] for item in found} == differing


def test_matrix_and_its_groups() -> None:
    pairs = [{"gpus": [0, 1], "connection": "NV4"}, {"gpus": [0, 3], "connection": "SYS"}]
    assert matrix.matrix([0, 1, 3], pairs) == [["X", "NV4", "SYS"], ["NV4", "X", None], ["SYS", None, "X"]]
    node = {"model": "M", "indices": [0, 1, 3], "numa": [0, 0, 1], "pairs": pairs}
    single = {"model": "M", "indices": [0], "numa": [0], "pairs": []}
    dark = {"model": "M", "indices": [0, 1], "numa": [0, 0], "pairs": None}
    found = matrix.group([dict(node, host=name) for name in "ab"] + [dict(single, host="c"), dict(dark, host="d")])
    assert [item["hosts"] for item in found] == [["a", "b"]]


@pytest.mark.parametrize(
    ("connection", "kind"),
    [("NV18", "nvlink"), ("PIX", "pix"), ("SYS", "sys"), ("NVX", "unknown"), (None, "unknown"), ("X", "unknown")],
)
def test_kinds_of_connections(connection: str | None, kind: str) -> None:
    assert matrix.kind(connection) == kind


def _pod(**spec: object) -> dict:
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec, "status": {"phase": "Running"}}


def _limits(**limits: str) -> dict:
    return {"resources": {"limits": {f"nvidia.com/{name}": value for name, value in limits.items()} | {"cpu": "4"}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": [_limits(gpu="1"), _limits(gpu="2")]}, {"nvidia.com/gpu": 3}, id="containers-add"),
        pytest.param(
            {"containers": [_limits(gpu="1")], "initContainers": [_limits(gpu="4"), _limits(gpu="2")]},
            {"nvidia.com/gpu": 4},
            id="an-init-container-may-need-more",
        ),
        pytest.param({"containers": [_limits(gpu="0")]}, None, id="none"),
        pytest.param({"containers": [{"resources": {}}, {}]}, None, id="no-limits"),
        pytest.param({"containers": [_limits(**{"mig-1g.10gb": "1"})]}, {"nvidia.com/mig-1g.10gb": 1}, id="mig"),
    ],
)
def test_what_a_pod_asks_for(spec: dict, expected: dict | None) -> None:
    found = cluster.gpu_pods([_pod(**spec)], "nvidia.com/", lambda pod: "")
    assert [pod["resources"] for pod in found] == ([expected] if expected else [])


def test_pods_that_ended_are_left_out() -> None:
    pods = [dict(_pod(containers=[_limits(gpu="1")]), status={"phase": phase}) for phase in ("Succeeded", "Failed")]
    assert cluster.gpu_pods(pods, "nvidia.com/", lambda pod: "") == []


@pytest.mark.parametrize(
    ("condition", "bad"),
    [
        (("Ready", "True"), None),
        (("DiskPressure", "False"), None),
        (("Ready", "Unknown"), True),
        (("DiskPressure", "True"), True),
        (("XidErrors", "True"), True),
        (("XidErrors", "False"), False),
        (("GpuHealthy", "False"), True),
        (("GpuHealthy", "True"), False),
    ],
)
def test_conditions(condition: tuple[str, str], bad: bool | None) -> None:
    thing = {"status": {"conditions": [{"type": condition[0], "status": condition[1]}]}}
    told = cluster.node(thing, [], "nvidia.com/")["conditions"]
    assert [item["bad"] for item in told] == ([] if bad is None else [bad])


def test_annotations_and_events_about_gpus() -> None:
    names = ["nvidia.com/gpu.health", "example.com/gpu-note", "volumes.kubernetes.io/x", "kubegpu.dev/state"]
    thing = {"metadata": {"annotations": dict.fromkeys(names, "v")}}
    assert set(cluster.node(thing, [], "nvidia.com/")["annotations"]) == set(names) - {"volumes.kubernetes.io/x"}
    events = [
        {"type": "Normal", "reason": "Starting", "involvedObject": {"kind": "Node", "name": "a"}},
        {"type": "Normal", "reason": "Old", "message": "on gpu-1", "involvedObject": {"kind": "Node", "name": "gpu-1"}},
        {"type": "Normal", "reason": "GPUBack", "involvedObject": {"kind": "Node", "name": "a"}, "lastTimestamp": "1"},
        {"type": "Warning", "reason": "OOM", "involvedObject": {"kind": "Node", "name": "a"}, "lastTimestamp": "2"},
        {"type": "Warning", "reason": "OOM", "involvedObject": {"kind": "Node", "name": "b"}},
        {"type": "Warning", "reason": "OOM", "involvedObject": {"kind": "Pod", "name": "a"}},
        {"type": "Warning", "reason": "OOM", "involvedObject": {"kind": "Node"}},
    ]
    found = cluster.events(events, {"a", "gpu-1"})
    assert {name: [event["reason"] for event in listed] for name, listed in found.items()} == {"a": ["OOM", "GPUBack"]}


def test_an_event_without_a_name_is_of_no_host_without_a_node() -> None:
    event = {"type": "Warning", "reason": "OOM", "involvedObject": {"kind": "Node"}}
    api: dict = {"asked": True, "problem": None, "nodes": {}, "pods": [], "events": [event]}
    report = fleet.build({"bare": {}}, api, "now", "nvidia.com/")
    assert [(node["host"], node["kubernetes"]) for node in report["nodes"]] == [("bare", None)]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(None, "\u2013"), (True, "\u2013"), (0, "0"), (2**30, "1"), (int(7.66 * 2**30), "7.7"), (80 * 2**30 - 1, "80")],
)
def test_gibibytes(number: int | None, expected: str) -> None:
    assert words.gibibytes(number) == expected


def test_words() -> None:
    assert words.count(1, "node") == "1 node"
    assert words.count(2, "node") == "2 nodes"
    assert words.listed("abcdef") == "a, b, c, d, e, f"
    assert words.listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert words.whole(3.6, " W") == "4 W"
    assert words.text("") == words.text(None) == "\u2013"


def test_names_in_their_natural_order() -> None:
    names = ["gpu-10", "gpu-9", "gpu", "gpu-9a", "7", "a07", "a7", "\u0663"]
    assert sorted(names, key=words.natural) == ["7", "a07", "a7", "gpu", "gpu-9", "gpu-9a", "gpu-10", "\u0663"]


@given(st.lists(st.text(max_size=6), max_size=6))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    ordered = sorted(names, key=words.natural)
    assert all(words.natural(one) <= words.natural(other) for one, other in pairwise(ordered))
