# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.device_plugin_plan import device_plugin_plan
from tests.unit.queries import cut

OURS = {"app.kubernetes.io/managed-by": "kubegpu.nvidia"}
QUERIES = {
    "Node": "device_plugin_node_query",
    "DaemonSet": "device_plugin_daemonset_query",
    "RuntimeClass": "device_plugin_runtime_class_query",
}
OTHERWISE = "device_plugin_object_query"
WANTED = {
    "state": "present",
    "namespace": "gpu",
    "runtime_class": "nvidia",
    "node_name": "n1",
    "play_node_names": ["n1"],
    "node_runtime": "containerd",
    "image_source": "build",
    "image": "",
    "archive": "",
    "labels": {"nvidia.com/gpu.present": "true"},
    "remove_objects": "auto",
    "agent_features": [],
    "replace_others": False,
    "configs": {},
    "default_config": "",
    "config_name": "",
    "objects": [{"kind": "Namespace", "name": "gpu"}, {"kind": "DaemonSet", "name": "plugin", "namespace": "gpu"}],
}


def node(name="n1", runtime="containerd://1.6.20", **labels):
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"nodeInfo": {"containerRuntimeVersion": runtime}},
    }


def thing(name, namespace="", labels=None, **more):
    metadata = {"name": name, "labels": labels}
    if namespace:
        metadata["namespace"] = namespace
    return {"metadata": metadata, **more}


def plan(wanted=None, **resources):
    resources = {"Node": [node()], **resources}
    resources = {kind: cut(QUERIES.get(kind, OTHERWISE), items) for kind, items in resources.items()}
    results = [{"item": {"kind": kind}, "resources": items, "api_found": True} for kind, items in resources.items()]
    return device_plugin_plan(results, {**copy.deepcopy(WANTED), **(wanted or {})})


def test_on_an_untouched_cluster_all_is_ours_to_make():
    result = plan(Namespace=[], RuntimeClass=[])
    assert result["problems"] == []
    assert result["stale"] == []
    assert (result["manage_namespace"], result["manage_runtime_class"]) == (True, True)
    assert (result["runtime_class"], result["namespace_exists"]) == ("nvidia", False)
    assert result["node"]["metadata"]["name"] == "n1"


def test_what_others_made_is_used_and_not_managed():
    result = plan(Namespace=[thing("gpu")], RuntimeClass=[thing("nvidia", handler="nvidia")])
    assert result["problems"] == []
    assert (result["manage_namespace"], result["manage_runtime_class"]) == (False, False)
    assert result["namespace_exists"]


@pytest.mark.parametrize(
    ("wanted", "resources", "message"),
    [
        pytest.param({}, {"Node": []}, "The cluster has no node at all", id="no-nodes"),
        pytest.param(
            {"node_name": "x"}, {}, "no node named x; it has n1. To do: set kubegpu_node_name", id="node-name"
        ),
        pytest.param(
            {},
            {"RuntimeClass": [thing("nvidia", handler="runc")]},
            "its handler is runc instead of nvidia",
            id="handler",
        ),
        pytest.param({"image_source": "registry"}, {}, "set device_plugin_image", id="registry"),
        pytest.param({"image_source": "archive"}, {}, "set device_plugin_archive", id="archive"),
        pytest.param({"image_source": "push"}, {}, "is push, but no image is named", id="push"),
        pytest.param({"image_source": "push", "image": "r/i@sha256:0"}, {}, "yet to be built", id="push-digest"),
        pytest.param({"node_runtime": "other"}, {}, "its kubelet uses the runtime other", id="runtime"),
        pytest.param({"node_runtime": ""}, {}, "start the kubelet, or set kubegpu_runtime", id="no-kubelet"),
    ],
)
def test_problems(wanted, resources, message):
    problems = plan(wanted, **resources)["problems"]
    assert len(problems) == 1
    assert message in problems[0]


@pytest.mark.parametrize("runtime", ["docker", "containerd", "crio"])
def test_an_image_can_be_brought_to_these_runtimes(runtime):
    assert plan({"node_runtime": runtime})["problems"] == []


def test_where_the_kubelet_pulls_its_runtime_does_not_matter():
    assert plan({"node_runtime": "", "image_source": "push", "image": "r/i"})["problems"] == []


def test_one_cause_for_every_kind_is_one_problem():
    results = [{"item": {"kind": kind}, "msg": "Connection refused"} for kind in ("Node", "DaemonSet")]
    problems = device_plugin_plan(results, WANTED)["problems"]
    assert len(problems) == 1
    assert "the API server cannot be reached" in problems[0]
    assert problems[0].endswith(" (Connection refused)")


def test_what_the_api_server_said_stands_once_where_nobody_knows_its_cause():
    results = [{"item": {"kind": "Node"}, "msg": "teapot"}]
    (problem,) = device_plugin_plan(results, WANTED)["problems"]
    assert problem.count("teapot") == 1


def test_a_cluster_that_is_too_old_is_named():
    results = [{"item": {"kind": "RuntimeClass"}, "resources": [], "api_found": False}]
    (problem,) = device_plugin_plan(results, WANTED)["problems"]
    assert "no RuntimeClass of the API version" in problem


@pytest.mark.parametrize(
    ("nodes", "shown"),
    [
        pytest.param(10, "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9. To do", id="ten"),
        pytest.param(11, "n0, n1, n10, n2, n3, n4, n5, n6, n7, n8, and 1 more. To do", id="eleven"),
        pytest.param(12, "n0, n1, n10, n11, n2, n3, n4, n5, n6, n7, and 2 more. To do", id="twelve"),
    ],
)
def test_ten_nodes_are_named_and_the_rest_counted(nodes, shown):
    (problem,) = plan({"node_name": "x"}, Node=[node(f"n{number}") for number in range(nodes)])["problems"]
    assert f"it has {shown}" in problem


@pytest.mark.parametrize(
    ("nodes", "used"),
    [
        pytest.param([node(runtime="docker://20.10.24")], "", id="this-node"),
        pytest.param([node(), node("n2", "docker://20.10.24", **{"nvidia.com/gpu.present": "true"})], "", id="other"),
        pytest.param([node(), node("n2", "docker://20.10.24")], "nvidia", id="a-node-without-gpu"),
        pytest.param([node("n0"), node(runtime="docker://20.10.24")], "", id="behind-a-node-without-gpu"),
    ],
)
def test_no_runtime_class_where_a_kubelet_uses_docker(nodes, used):
    assert plan(Node=nodes)["runtime_class"] == used


def test_what_former_settings_left_is_stale_in_the_order_of_removal():
    result = plan(
        Namespace=[thing("gpu", labels=OURS), thing("old", labels=OURS), thing("theirs")],
        DaemonSet=[thing("plugin", "gpu", OURS, spec={}), thing("plugin", "old", OURS, spec={})],
        ConfigMap=[thing("config", "old", OURS)],
    )
    assert [(item["kind"], item["namespace"], item["name"]) for item in result["stale"]] == [
        ("DaemonSet", "old", "plugin"),
        ("ConfigMap", "old", "config"),
        ("Namespace", "", "old"),
    ]
    assert result["stale"][0]["apiVersion"] == "apps/v1"


def offering(**allocatable):
    found = node()
    found["status"]["allocatable"] = {"cpu": "8", **{"nvidia.com/" + name: str(n) for name, n in allocatable.items()}}
    return found


def test_gpus_that_no_daemonset_offers_have_an_owner_that_must_be_found():
    (problem,) = plan(Node=[offering(gpu=8)], DaemonSet=[])["problems"]
    assert "The node n1 already offers 8 nvidia.com/gpu" in problem
    assert "spec.nodeName=n1" in problem
    (problem,) = plan({"replace_others": True}, Node=[offering(**{"mig-1g.10gb": 7})], DaemonSet=[])["problems"]
    assert "7 nvidia.com/mig-1g.10gb" in problem


@pytest.mark.parametrize(
    ("nodes", "daemonsets"),
    [
        pytest.param([offering(gpu=0)], [], id="a plugin that is gone"),
        pytest.param([offering(gpu=8)], [thing("plugin", "gpu", OURS, spec={})], id="ours"),
        pytest.param([node(), {**offering(gpu=8), "metadata": {"name": "n2"}}], [], id="another node's"),
    ],
)
def test_gpus_without_a_stranger_stand_in_nobodys_way(nodes, daemonsets):
    assert plan(Node=nodes, DaemonSet=daemonsets)["problems"] == []


def foreign(**metadata):
    pod = {
        "containers": [{"name": "ctr", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0"}],
        "volumes": [{"hostPath": {"path": "/var/lib/kubelet/device-plugins"}}],
    }
    item = thing("nvidia-device-plugin-daemonset", "kube-system", spec={"template": {"spec": pod}})
    item["metadata"].update(metadata)
    return item


def test_another_device_plugin_is_refused_and_named():
    result = plan(DaemonSet=[foreign()])
    assert len(result["problems"]) == 1
    assert "kube-system/nvidia-device-plugin-daemonset" in result["problems"][0]
    assert "device_plugin_replace_others=true" in result["problems"][0]
    assert result["replaced"] == []


REPLACED = [{"namespace": "kube-system", "name": "nvidia-device-plugin-daemonset"}]


def test_another_device_plugin_is_replaced_if_asked():
    result = plan({"replace_others": True}, DaemonSet=[foreign()])
    assert (result["problems"], result["replaced"]) == ([], REPLACED)


@pytest.mark.parametrize(
    ("metadata", "remedy"),
    [
        pytest.param({"ownerReferences": [{"kind": "ClusterPolicy"}]}, "clusterpolicies cluster-policy", id="operator"),
        pytest.param({"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}}, "switch it off", id="add-on"),
    ],
)
def test_what_would_be_put_back_is_refused_though_it_was_asked_for(metadata, remedy):
    problems = plan({"replace_others": True}, DaemonSet=[foreign(**metadata)])["problems"]
    assert len(problems) == 1
    assert remedy in problems[0]
    other = foreign(name="a-first-one")
    assert plan({"replace_others": True}, DaemonSet=[other, foreign(**metadata)])["problems"] == problems


def test_what_was_replaced_is_given_back_with_the_last_node():
    parked = foreign()
    parked["spec"]["template"]["spec"]["nodeSelector"] = {"kubegpu.nvidia/replaced": "true"}
    assert plan(ABSENT, DaemonSet=[parked])["replaced"] == REPLACED
    others = [node(), node("n2", **LABELLED)]
    assert plan(ABSENT, DaemonSet=[parked], Node=others)["replaced"] == []
    assert plan(DaemonSet=[parked])["replaced"] == []
    assert plan(DaemonSet=[parked])["problems"] == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        pytest.param({"configs": {"a/b": {}}}, "'a/b' cannot be a name", id="slash"),
        pytest.param({"configs": {"a" * 64: {}}}, "cannot be a name", id="long"),
        pytest.param({"configs": {"a": {}, "b": {}}}, "set device_plugin_default_config", id="no-default"),
        pytest.param(
            {"configs": {"a": {}}, "default_config": "b"}, "is b, and device_plugin_configs has a.", id="default"
        ),
        pytest.param({"config_name": "b"}, "is b for the node n1, and device_plugin_configs has none.", id="node"),
    ],
)
def test_problems_of_named_configurations(wanted, message):
    problems = plan(wanted)["problems"]
    assert len(problems) == 1
    assert message in problems[0]
    assert device_plugin_plan([], {**WANTED, **wanted, "state": "rendered"})["problems"] == problems
    assert plan({**wanted, "state": "absent"})["problems"] == []


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({"configs": {"only": {}}}, id="only-one"),
        pytest.param({"configs": {"default": {}, "a10": {}}, "config_name": "a10"}, id="one-named-default"),
        pytest.param({"configs": {"a": {}, "b": {}}, "default_config": "b"}, id="default"),
    ],
)
def test_named_configurations_that_are_right(wanted):
    assert plan(wanted)["problems"] == []


ABSENT = {"state": "absent", "labels": {"nvidia.com/gpu.present": None}}
LABELLED = {"nvidia.com/gpu.present": "true"}


@pytest.mark.parametrize(
    ("has", "wanted", "labels"),
    [
        pytest.param({}, {}, LABELLED, id="to-set"),
        pytest.param(LABELLED, {}, {}, id="set"),
        pytest.param({"nvidia.com/gpu.present": "false"}, {}, LABELLED, id="other-value"),
        pytest.param(LABELLED, ABSENT, {"nvidia.com/gpu.present": None}, id="to-remove"),
        pytest.param({}, ABSENT, {}, id="removed"),
        pytest.param(LABELLED, {"node_name": "nobody"}, {}, id="no-such-node"),
    ],
)
def test_only_labels_that_are_wrong_are_named(has, wanted, labels):
    assert plan(wanted, Node=[node(**has)])["labels"] == labels


@pytest.mark.parametrize(
    ("wanted", "others"),
    [
        pytest.param(ABSENT, ["n2"], id="absent"),
        pytest.param({**ABSENT, "remove_objects": "always"}, [], id="always"),
        pytest.param({**ABSENT, "play_node_names": ["n1", "n2"]}, [], id="all-of-them"),
        pytest.param({}, [], id="present"),
    ],
)
def test_the_objects_stay_for_nodes_that_are_served_and_not_of_the_play(wanted, others):
    nodes = [node(**LABELLED), node("n2", **LABELLED), node("n3")]
    result = plan(wanted, Node=nodes, DaemonSet=[thing("plugin", "gpu", OURS, spec={})])
    assert result["others"] == others
    removed = [] if others or not wanted else ["DaemonSet"]
    assert [item["kind"] for item in result["stale"]] == removed


def test_absent_removes_all_of_ours_and_asks_for_nothing():
    result = plan(
        {"state": "absent", "node_name": "gone", "node_runtime": ""},
        Namespace=[thing("gpu", labels=OURS), thing("theirs")],
        DaemonSet=[thing("plugin", "gpu", OURS, spec={})],
    )
    assert result["problems"] == []
    assert [item["kind"] for item in result["stale"]] == ["DaemonSet", "Namespace"]


def test_what_is_rendered_needs_no_cluster():
    result = device_plugin_plan([], {**WANTED, "state": "rendered", "node_runtime": ""})
    assert result["problems"] == []
    assert (result["manage_namespace"], result["manage_runtime_class"]) == (True, True)
    assert result["runtime_class"] == "nvidia"


NOTES = {"kubegpu.nvidia/labels": "gpu.count,gpu.present,device-plugin.config,gone", "kubegpu.nvidia/gpu-faults": "[]"}


@pytest.mark.parametrize(
    ("wanted", "labels", "annotations"),
    [
        pytest.param({"agent_features": ["labels", "annotations"]}, [], [], id="all-wanted"),
        pytest.param({"agent_features": ["labels"]}, [], ["kubegpu.nvidia/gpu-faults"], id="annotation-off"),
        pytest.param(
            {"agent_features": ["annotations"]}, ["nvidia.com/gpu.count"], ["kubegpu.nvidia/labels"], id="labels"
        ),
        pytest.param(
            {"state": "absent", "agent_features": ["labels", "annotations"]},
            ["nvidia.com/gpu.count"],
            ["kubegpu.nvidia/gpu-faults", "kubegpu.nvidia/labels"],
            id="absent",
        ),
    ],
)
def test_what_the_agent_wrote_is_taken_back(wanted, labels, annotations):
    one = node(
        **{
            "nvidia.com/gpu.count": "2",
            "nvidia.com/gpu.present": "true",
            "nvidia.com/device-plugin.config": "x",
            "a": "b",
        }
    )
    one["metadata"]["annotations"] = {**NOTES, "example.com/note": "stays"}
    traces = plan(wanted, Node=[one])["traces"]
    assert {kind: sorted(change) for kind, change in traces.items()} == {
        kind: keys for kind, keys in (("labels", labels), ("annotations", annotations)) if keys
    }
    assert all(value is None for change in traces.values() for value in change.values())
    assert plan(wanted, Node=[node()])["traces"] == {}


def test_the_agents_rights_go_with_its_last_feature():
    objects = {
        kind: [thing("agent", "" if kind.startswith("Cluster") else "default", OURS)]
        for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    }
    stale = plan(**objects)["stale"]
    assert [(item["kind"], item["apiVersion"]) for item in stale] == [
        (kind, "rbac.authorization.k8s.io/v1") for kind in ("RoleBinding", "ClusterRoleBinding", "Role", "ClusterRole")
    ]
    wanted = [{"kind": "ClusterRole", "name": "agent"}, {"kind": "Role", "name": "agent", "namespace": "default"}]
    kept = plan({"objects": wanted}, **objects)["stale"]
    assert [item["kind"] for item in kept] == ["RoleBinding", "ClusterRoleBinding"]
