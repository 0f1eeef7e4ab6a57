# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.pod_trouble import pod_trouble
from ansible_collections.kubegpu.nvidia.plugins.filter.rollout_report import rollout_report

READY = {"type": "Ready", "status": "True"}


def pod(name="p", node="n1", settings="new", created="2026-01-01T00:00:00Z", **status):
    return {
        "metadata": {"name": name, "creationTimestamp": created, "labels": {"kubegpu.nvidia/settings": settings}},
        "spec": {"nodeName": node} if node else {},
        "status": status,
    }


def container(**state):
    return {"name": "c", "ready": False, "state": state}


def event(message, reason="FailedMount", kind="Pod", name="p", time="2026-01-01T00:00:00Z"):
    return {
        "involvedObject": {"kind": kind, "name": name},
        "message": message,
        "reason": reason,
        "lastTimestamp": time,
    }


@pytest.mark.parametrize(
    ("status", "cause", "remedy"),
    [
        pytest.param(
            {"containerStatuses": [container(waiting={"reason": "ImagePullBackOff", "message": "Back-off"})]},
            "container c waits: ImagePullBackOff: Back-off",
            "the image is neither on the node",
            id="image",
        ),
        pytest.param(
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "message": "0/1: Insufficient nvidia.com/gpu."}
                ]
            },
            "not scheduled: 0/1: Insufficient nvidia.com/gpu.",
            "taken or unhealthy",
            id="pending",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed"},
            "UnexpectedAdmissionError: Allocate failed",
            "the kubelet could not allocate",
            id="admission",
        ),
        pytest.param(
            {"containerStatuses": [container(terminated={"exitCode": 127, "reason": "Error"})]},
            "container c ended with exit code 127 (Error)",
            "",
            id="ended",
        ),
        pytest.param(
            {"containerStatuses": [{**container(running={}), "restartCount": 3}]},
            "container c runs but is not ready (restarted 3 times)",
            "",
            id="unready",
        ),
        pytest.param({"phase": "Pending"}, "phase Pending", "", id="nothing-known"),
    ],
)
def test_trouble(status, cause, remedy):
    trouble = pod_trouble(pod(**status))
    assert not trouble["ready"]
    assert trouble["cause"] == cause
    assert remedy in trouble["remedy"]


@pytest.mark.parametrize("status", [{"conditions": [READY]}, {"phase": "Succeeded"}])
def test_no_trouble(status):
    assert pod_trouble(pod(**status)) == {"ready": True, "cause": "", "remedy": "", "last_words": ""}


def test_a_pod_that_is_being_deleted_is_not_ready():
    going = pod(conditions=[READY])
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not pod_trouble(going)["ready"]


def test_the_event_that_matters_is_chosen():
    events = [
        event('no runtime for "nvidia" is configured', "FailedCreatePodSandBox"),
        event("no ClusterDNS", "MissingClusterDNS", time="2026-01-02T00:00:00Z"),
        event("another pod's", name="other", time="2026-01-03T00:00:00Z"),
    ]
    trouble = pod_trouble(pod(containerStatuses=[container(waiting={"reason": "ContainerCreating"})]), events)
    assert trouble["cause"] == 'container c waits: ContainerCreating; no runtime for "nvidia" is configured'
    assert "no handler of that name" in trouble["remedy"]


def test_last_words_of_a_container_that_crashed():
    status = container(waiting={"reason": "CrashLoopBackOff"})
    status["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", "message": "driver not loaded\n"}}
    trouble = pod_trouble(pod(containerStatuses=[status]))
    assert trouble["last_words"] == "driver not loaded"
    assert "it ended before with exit code 1" in trouble["cause"]
    assert "modprobe nvidia" in trouble["remedy"]


def known(**more):
    base = {"node": "n1", "daemonset": "ds", "waited": 5, "settings": "new", "pods": [], "events": [], "taints": []}
    return {**base, "log": "", **more}


def test_report_of_the_newest_pod_with_the_end_of_its_log():
    pods = [
        pod("old", conditions=[READY], settings="old"),
        pod("p", created="2026-02-01T00:00:00Z", containerStatuses=[container(running={})]),
        pod("elsewhere", node="n2", created="2026-03-01T00:00:00Z"),
    ]
    log = "\n".join(str(number) for number in range(30))
    lines = rollout_report(known(pods=pods, log=log)).splitlines()
    assert lines[0] == "The device plugin is not ready on the node n1 after 5 s: container c runs but is not ready."
    assert lines[1] == "The end of its log:"
    assert lines[2:] == [f"  {number}" for number in range(10, 30)]


def test_report_of_a_rollout_that_waits_for_other_nodes():
    assert "former settings" in rollout_report(known(pods=[pod(settings="old", conditions=[READY])]))


def test_a_pod_that_is_not_scheduled_is_found_by_its_affinity():
    waiting = pod(node="", conditions=[{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}])
    field = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    waiting["spec"] = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
    assert "not scheduled: Insufficient cpu" in rollout_report(known(pods=[waiting]))
    assert "made no pod" in rollout_report(known(pods=[waiting], node="n2"))


@pytest.mark.parametrize(
    ("more", "text"),
    [
        pytest.param({"taints": [{"key": "k", "effect": "NoSchedule"}]}, "it has the taints k=:NoSchedule", id="taint"),
        pytest.param(
            {"events": [event("exceeded quota: x", "FailedCreate", "DaemonSet", "ds")]}, "raise the quota", id="quota"
        ),
        pytest.param({}, "kube-controller-manager", id="nothing-known"),
    ],
)
def test_report_without_a_pod(more, text):
    assert text in rollout_report(known(**more))
