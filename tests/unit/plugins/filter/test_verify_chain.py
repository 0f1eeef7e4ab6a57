# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.verify_chain import verify_chain
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_pod_plan import verify_pod_plan
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_summary import verify_summary

UUIDS = ["GPU-7927c87e-b2a0-58dc-8d86-556e4dfa73b7", "GPU-c29a8f43-287a-5ac1-a138-4b63838c2b3b"]
LIST = "".join(f"GPU {index}: NVIDIA H100 80GB HBM3 (UUID: {uuid})\n" for index, uuid in enumerate(UUIDS))
ONE = LIST.splitlines(keepends=True)[0]
LABELS = {"app.kubernetes.io/name": "nvidia-device-plugin", "app.kubernetes.io/managed-by": "kubegpu.nvidia"}
PLUGIN = {
    "metadata": {"name": "plugin-x", "namespace": "gpu", "labels": LABELS},
    "spec": {"containers": [{"name": "c", "image": "plugin:1"}]},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}
RESOURCES = {"cpu": "2", "nvidia.com/gpu": "2"}
HEALTHY = {
    "gpu": {
        "present": True,
        "driver_loaded": True,
        "driver_version": "550.54.15",
        "problem": None,
        "count": 2,
        "gpus": [{"uuid": uuid, "name": "NVIDIA H100 80GB HBM3"} for uuid in UUIDS],
        "toolkit": {"version": "1.17.8", "runtime_path": "/usr/bin/nvidia-container-runtime"},
    },
    "docker": {
        "changed": False,
        "pending": "none",
        "live": {"runtimes": {"nvidia": {}}, "default_runtime": "nvidia"},
    },
    "containerd": {"changed": False, "pending": "none"},
    "cluster": True,
    "api": {"msg": ""},
    "node_name": "n1",
    "node": {
        "status": {
            "capacity": RESOURCES,
            "allocatable": RESOURCES,
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.20.2"},
        }
    },
    "pods": [PLUGIN],
    "resource": "nvidia.com/gpu",
    "expected": 2,
    "docker_image": "plugin:1",
    "docker_image_named": False,
    "docker_skip": "",
    "docker_runs": {"gpus": {"rc": 0, "stdout": LIST}, "runtime": {"rc": 0, "stdout": LIST}},
    "pod_skip": "",
    "pod_created": {},
    "pod": {"status": {"phase": "Succeeded"}},
    "pod_log": f"{ONE}NVIDIA_VISIBLE_DEVICES={UUIDS[0]}\n",
    "pod_removed": {},
    "runtime_class": "nvidia",
    "namespace": "gpu",
}
NAMES = [
    "driver",
    "toolkit",
    "docker",
    "containerd",
    "node",
    "plugin",
    "resources",
    "docker_gpus",
    "docker_runtime",
    "pod",
]


def chain(**changes):
    """The links by name, of a healthy chain in which some observations (a.b=value as a__b) are changed."""
    seen = copy.deepcopy(HEALTHY)
    for path, value in changes.items():
        *parents, key = path.split("__")
        target = seen
        for parent in parents:
            target = target[parent]
        target[key] = value
    return {link["name"]: link for link in verify_chain(seen)}


def test_a_healthy_chain():
    links = chain()
    assert list(links) == NAMES
    assert {link["status"] for link in links.values()} == {"passed"}
    assert all(link["remedy"] == "" for link in links.values())
    assert UUIDS[0] in links["pod"]["detail"]


PROBLEM = {"code": "version_mismatch", "message": "they differ", "hint": "reboot"}
FAILED_POD = {"status": {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed"}}
UNREADY = {**PLUGIN, "status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}]}}


@pytest.mark.parametrize(
    ("changes", "broken", "detail", "remedy"),
    [
        pytest.param({"gpu__problem": PROBLEM}, "driver", "they differ", "reboot", id="driver"),
        pytest.param({"gpu__present": False}, "driver", "no NVIDIA GPU", "group", id="no-gpu"),
        pytest.param(
            {"gpu__toolkit": {"version": None}}, "toolkit", "not installed", "container_toolkit", id="toolkit"
        ),
        pytest.param(
            {"gpu__toolkit": {"version": "1.17.8", "runtime_path": None}}, "toolkit", "is missing", "again", id="half"
        ),
        pytest.param({"docker__changed": True}, "docker", "not in its configuration", "docker_runtime", id="docker"),
        pytest.param(
            {"docker__pending": "restart", "docker__pending_reasons": ["the hook is newer"]},
            "docker",
            "a restart is due: the hook is newer",
            "docker_runtime_allow_restart",
            id="docker-restart",
        ),
        pytest.param({"docker__live": None}, "docker", "does not answer", "systemctl", id="docker-dead"),
        pytest.param({"docker__live__runtimes": {}}, "docker", "runs without", "docker_runtime", id="docker-live"),
        pytest.param(
            {"docker": {"failed": True, "msg": "daemon.json:3:7: bad"}}, "docker", "daemon.json:3:7", "mend", id="file"
        ),
        pytest.param({"containerd__changed": True}, "containerd", "not in", "containerd_runtime", id="containerd"),
        pytest.param({"node": {}}, "node", "no node named n1", "kubegpu_node_name", id="node"),
        pytest.param(
            {"node": None, "api__msg": "Connection refused"}, "node", "cannot be reached", "check that", id="api"
        ),
        pytest.param({"node__status__conditions": []}, "node", "not ready", "kubelet", id="not-ready"),
        pytest.param({"pods": []}, "plugin", "no pod", "device_plugin", id="no-plugin"),
        pytest.param({"pods": [UNREADY]}, "plugin", "ErrImagePull", "image", id="plugin-not-ready"),
        pytest.param(
            {"node__status__allocatable": {"nvidia.com/gpu": "1"}},
            "resources",
            "capacity 2, allocatable 1, expected 2",
            "1 device unhealthy",
            id="unhealthy",
        ),
        pytest.param({"node__status__capacity": {}}, "resources", "capacity 0", "not registered", id="unregistered"),
        pytest.param({"expected": 3}, "resources", "expected 3", "verify_expected_gpus", id="expected"),
        pytest.param(
            {"docker_runs__gpus": {"rc": 125, "stderr": "could not select device driver"}},
            "docker_gpus",
            "exit code 125",
            "restart Docker",
            id="gpus-flag",
        ),
        pytest.param(
            {"docker_runs__runtime": {"rc": 0, "stdout": ONE}},
            "docker_runtime",
            "saw 1 GPU, the driver has 2",
            "",
            id="few",
        ),
        pytest.param({"pod": FAILED_POD}, "pod", "UnexpectedAdmissionError", "allocate", id="pod-failed"),
        pytest.param({"pod": {}}, "pod", "vanished", "events", id="pod-gone"),
        pytest.param(
            {"pod_created": {"failed": True, "msg": "violates PodSecurity"}},
            "pod",
            "refused",
            "privileged",
            id="refused",
        ),
        pytest.param(
            {"pod_log": f"{LIST}NVIDIA_VISIBLE_DEVICES=all"}, "pod", "saw 2 GPUs", "more than was allocated", id="two"
        ),
        pytest.param({"pod_log": "NVIDIA_VISIBLE_DEVICES=x"}, "pod", "saw 0 GPUs", "no GPU was put", id="none"),
        pytest.param(
            {"pod_log": f"{ONE}NVIDIA_VISIBLE_DEVICES=all"}, "pod", "'all' instead of one", "kubelet's", id="all"
        ),
        pytest.param(
            {"pod_log": f"{ONE}NVIDIA_VISIBLE_DEVICES={UUIDS[1]}"}, "pod", "was given", "toolkit's log", id="another"
        ),
        pytest.param({"gpu__gpus": [{"uuid": UUIDS[1]}]}, "pod", "does not have", "right node", id="other-node"),
        pytest.param(
            {"pod_removed": {"failed": True, "msg": "Connection refused"}},
            "cleanup",
            "removed",
            "kubectl",
            id="cleanup",
        ),
    ],
)
def test_a_broken_link_is_named_with_cause_and_remedy(changes, broken, detail, remedy):
    links = chain(**changes)
    assert links[broken]["status"] == "failed"
    assert detail in links[broken]["detail"]
    assert remedy in links[broken]["remedy"]
    assert list(links)[: len(NAMES)] == NAMES


@pytest.mark.parametrize(
    ("changes", "skipped", "reason"),
    [
        pytest.param({"docker": None}, ["docker"], "not installed", id="no-docker"),
        pytest.param({"containerd": {"skipped": True}}, ["containerd"], "does not use containerd", id="docker-only"),
        pytest.param({"cluster": False, "node": None}, ["node"], "kubegpu_cluster is false", id="no-cluster"),
        pytest.param({"node": {}}, ["plugin", "resources"], "the node is not known", id="node-unknown"),
        pytest.param({"pod_skip": "all taken"}, ["pod"], "all taken", id="pod"),
        pytest.param(
            {"docker_runs__gpus": {"rc": 125, "stderr": "docker: Error: No such image: plugin:1."}},
            ["docker_gpus"],
            "not on the node",
            id="no-image",
        ),
        pytest.param(
            {"docker_runs": {}, "docker_skip": "no image"}, ["docker_gpus", "docker_runtime"], "no image", id="no-name"
        ),
    ],
)
def test_a_skipped_link_has_a_reason(changes, skipped, reason):
    links = chain(**changes)
    assert [(links[name]["status"], reason in links[name]["detail"]) for name in skipped] == [("skipped", True)] * len(
        skipped
    )


def test_an_image_that_was_asked_for_and_is_missing_is_a_failure():
    run = {"rc": 125, "stderr": "Unable to find image 'x' locally"}
    assert chain(docker_runs__gpus=run, docker_image_named=True)["docker_gpus"]["status"] == "failed"


def test_a_pod_with_the_index_strategy():
    assert chain(pod_log=f"{ONE}NVIDIA_VISIBLE_DEVICES=0")["pod"]["status"] == "passed"


def pod_plan(**changes):
    seen = {
        "cluster": True,
        "node": HEALTHY["node"],
        "pods": [PLUGIN],
        "resource": "nvidia.com/gpu",
        "image": "",
        "runtime_class": "auto",
        "runtime": "containerd",
        "default_runtime": "runc",
        "check_mode": False,
    }
    return verify_pod_plan({**seen, **changes})


def taker(count, phase="Running"):
    limits = {"nvidia.com/gpu": str(count)}
    return {
        "metadata": {"name": "t"},
        "spec": {"containers": [{"resources": {"limits": limits}}]},
        "status": {"phase": phase},
    }


def test_the_plugins_own_image_is_used():
    assert pod_plan() == {"skip": "", "image": "plugin:1", "runtime_class": "nvidia"}
    assert pod_plan(image="mine:1")["image"] == "mine:1"


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({"default_runtime": "nvidia"}, ""),
        ({"runtime": "docker"}, ""),
        ({"runtime_class": "gold"}, "gold"),
        ({"runtime_class": ""}, ""),
    ],
)
def test_runtime_class_of_the_pod(changes, used):
    assert pod_plan(**changes)["runtime_class"] == used


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster": False}, "kubegpu_cluster"),
        ({"node": None}, "not known"),
        ({"check_mode": True}, "check mode"),
        ({"pods": []}, "no image"),
        ({"pods": [PLUGIN, taker(1), taker(1)]}, "all 2 nvidia.com/gpu of the node are taken"),
        ({"node": {"status": {"allocatable": {}}}}, "no allocatable"),
    ],
)
def test_why_no_pod_is_tried(changes, reason):
    assert reason in pod_plan(**changes)["skip"]


def test_pods_that_have_ended_take_no_gpu():
    assert pod_plan(pods=[PLUGIN, taker(1), taker(1, "Succeeded"), taker(1, "Failed")])["skip"] == ""


def test_summary():
    links = [
        {"name": "driver", "status": "passed", "detail": "550", "remedy": ""},
        {"name": "toolkit", "status": "failed", "detail": "not\n installed", "remedy": "install it"},
        {"name": "pod", "status": "skipped", "detail": "why", "remedy": ""},
    ]
    assert verify_summary(links, "n1").splitlines() == [
        "n1: 1 passed, 1 failed, 1 skipped",
        "  ok       driver   550",
        "  FAILED   toolkit  not installed",
        "                    to do: install it",
        "  skipped  pod      why",
    ]
