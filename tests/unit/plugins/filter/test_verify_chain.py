# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.verify_chain import verify_chain
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_pod_plan import verify_pod_plan
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_pod_state import verify_pod_state
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_registered import verify_registered
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_summary import verify_summary
from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify import pods as test_pods
from tests.unit.queries import cut

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
OPTIONS = {"namespace": "gpu", "timeout": 60, "run": "r1", "image": "i", "runtime_class": "", "tolerations": []}


def tried(kind, phase, node="n1", message="", **status):
    """A test pod as the cluster returns it."""
    pod = test_pods.definition(kind, node, "nvidia.com/gpu", 1, "r1", OPTIONS)
    pod["metadata"]["name"] = f"kubegpu-verify-{kind}-x"
    container = {"name": "c", "state": {"terminated": {"exitCode": int(phase == "Failed"), "message": message}}}
    key = "initContainerStatuses" if kind == test_pods.ALL else "containerStatuses"
    pod["status"] = {"phase": phase, key: [container], **status}
    return pod


def one(message="", phase="Succeeded", **status):
    return [tried(test_pods.ONE, phase, message=message, **status), HOLDING]


HOLDING = tried(test_pods.ALL, "Running", message=f"NVIDIA_VISIBLE_DEVICES={','.join(UUIDS)}\n" + "\n".join(UUIDS))
TURNED_AWAY = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: 1 Insufficient nvidia.com/gpu."}
WAITING = tried(test_pods.MORE, "Pending", conditions=[TURNED_AWAY])
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
    "crio": {"changed": False, "pending": "none"},
    "cluster": True,
    "api": {"msg": ""},
    "node_name": "n1",
    "node": {
        "metadata": {"name": "n1", "labels": {"nvidia.com/gpu.present": "true"}},
        "status": {
            "capacity": RESOURCES,
            "allocatable": RESOURCES,
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.20.2"},
        },
    },
    "pods": [PLUGIN],
    "resource": "nvidia.com/gpu",
    "expected": {"nvidia.com/gpu": 2},
    "container_engines": {
        "docker": {"image": "plugin:1", "named": False, "option": "verify_docker_image", "skip": ""},
        "containerd": {"image": "docker.io/library/plugin:1", "named": False, "option": "", "skip": ""},
    },
    "container_runs": {
        "docker_gpus": {"rc": 0, "stdout": LIST},
        "docker_runtime": {"rc": 0, "stdout": LIST},
        "containerd_runtime": {"rc": 0, "stdout": LIST},
    },
    "pod_skip": "",
    "all_skip": "",
    "amount": 2,
    "pods_wanted": [],
    "pods_made": {"result": {"results": []}},
    "pods_tried": one(f"NVIDIA_VISIBLE_DEVICES={UUIDS[0]}\n{UUIDS[0]}\n"),
    "more_made": {},
    "more_tried": [WAITING],
    "pod_removed": {},
    "runtime_class": "nvidia",
    "namespace": "gpu",
}
PRODUCT = "NVIDIA-H100-80GB-HBM3"
NAMES = [
    "driver",
    "toolkit",
    "docker",
    "containerd",
    "crio",
    "node",
    "plugin",
    "registered",
    "labels",
    "resources",
    "docker_gpus",
    "docker_runtime",
    "containerd_runtime",
    "pod",
    "all_gpus",
    "one_more",
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
    if seen["node"]:
        (seen["node"],) = cut("verify_node_query", [seen["node"]])
    if seen["pods"]:
        seen["pods"] = cut("verify_pod_query", seen["pods"])
    return {link["name"]: link for link in verify_chain(seen)}


def test_a_healthy_chain():
    links = chain()
    assert list(links) == NAMES
    assert {link["status"] for link in links.values()} == {"passed"}
    assert all(link["remedy"] == "" for link in links.values())
    assert UUIDS[0] in links["pod"]["detail"]


@pytest.mark.parametrize(
    ("changes", "link", "detail"),
    [
        pytest.param({}, "driver", "driver 550.54.15, 2 GPUs (NVIDIA H100 80GB HBM3)", id="driver"),
        pytest.param({"gpu__gpus": None}, "driver", "driver 550.54.15, 2 GPUs ()", id="no-names"),
        pytest.param({"gpu__gpus": [{"name": None}]}, "driver", "driver 550.54.15, 2 GPUs (unknown)", id="no-name"),
        pytest.param({}, "toolkit", "version 1.17.8", id="toolkit"),
        pytest.param({"gpu__toolkit__version": None}, "toolkit", "version unknown", id="toolkit-unversioned"),
        pytest.param({}, "docker", "dockerd has the runtime nvidia; default: nvidia", id="docker"),
        pytest.param({}, "node", "ready, kubelet v1.20.2", id="node"),
        pytest.param({"node__spec": {"unschedulable": True}}, "node", "ready, but cordoned", id="cordoned"),
        pytest.param({}, "plugin", "the pod plugin-x is ready", id="plugin"),
        pytest.param({}, "registered", "the kubelet knows nvidia.com/gpu", id="registered"),
        pytest.param({"pods": None}, "registered", "the kubelet knows nvidia.com/gpu", id="pods-unknown"),
        pytest.param({}, "labels", "nvidia.com/gpu.present is true", id="labels"),
        pytest.param(
            {
                "node__metadata__labels": {
                    "nvidia.com/gpu.present": "true",
                    "nvidia.com/gpu.product": f"{PRODUCT}-SHARED",
                }
            },
            "labels",
            f"nvidia.com/gpu.present is true, product {PRODUCT}-SHARED",
            id="product",
        ),
        pytest.param({}, "resources", "nvidia.com/gpu: capacity 2, allocatable 2, expected 2", id="resources"),
    ],
)
def test_what_is_said_of_a_link_that_holds(changes, link, detail):
    found = chain(**changes)[link]
    assert (found["status"], found["detail"]) == ("passed", detail)


PROBLEM = {"code": "version_mismatch", "message": "they differ", "hint": "reboot"}
FAILED_POD = one(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed")
BARE_NODE = {**HEALTHY["node"], "metadata": {"name": "n1"}}
TAINTED = {**HEALTHY["node"], "spec": {"taints": [{"key": "dedicated", "effect": "NoSchedule"}]}}
UNKNOWN = {**HEALTHY["node"]["status"], "capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}}
# as ctr 1.6 says it
NO_RUNTIME = (
    "ctr: failed to create shim task: OCI runtime create failed: unable to retrieve OCI runtime error (open "
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io/kubegpu-verify-7/log.json: no such file or directory): "
    "fork/exec /usr/bin/nvidia-container-runtime: no such file or directory: unknown"
)
NO_CONTAINERD = (
    'ctr: failed to dial "/run/containerd/containerd.sock": context deadline exceeded: connection error: desc = '
    '"transport: error while dialing: dial unix:///run/containerd/containerd.sock: timeout"'
)
FORBIDDEN = 'pods is forbidden: User "eve" cannot list resource "pods" in API group "" at the cluster scope'
UNREADY = {**PLUGIN, "status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}]}}
ENDED = {"name": "c", "state": {"terminated": {"exitCode": 7, "message": "first line\nmiddle\nlast line"}}}
CRASHED = {**PLUGIN, "status": {"containerStatuses": [ENDED]}}
WITH_OTHERS = {"cpu": "2", "nvidia.com/gpu": "2", "nvidia.com/mig-1g.10gb": "7", "example.com/fpga": "3"}


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
        pytest.param({"docker__in_place": False}, "docker", "not in its", "docker_runtime", id="docker-hidden"),
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
        pytest.param({"docker__failed": True}, "docker", "cannot be read", "mend the file", id="docker-failed"),
        pytest.param({"docker": {"msg": "no answer"}}, "docker", "no answer", "mend the file", id="docker-no-answer"),
        pytest.param({"docker__pending": "reload"}, "docker", "former configuration", "docker_runtime", id="reload"),
        pytest.param({"containerd__changed": True}, "containerd", "not in", "containerd_runtime", id="containerd"),
        pytest.param({"node": {}}, "node", "no node named n1", "kubegpu_node_name", id="node"),
        pytest.param(
            {"node": None, "api__msg": "Connection refused"}, "node", "cannot be reached", "check that", id="api"
        ),
        pytest.param({"node__status__conditions": []}, "node", "not ready", "kubelet", id="not-ready"),
        pytest.param(
            {"node__status__conditions": [{"type": "Ready", "status": "False", "message": "no network"}]},
            "node",
            "it is not ready: no network",
            "kubelet",
            id="not-ready-and-why",
        ),
        pytest.param({"pods": []}, "plugin", "no pod", "device_plugin", id="no-plugin"),
        pytest.param(
            {"pods": [CRASHED]},
            "plugin",
            "plugin-x is not ready: container c ended with exit code 7 (no reason given); last words: last line",
            "see 'kubectl -n gpu logs plugin-x'",
            id="plugin-crashed",
        ),
        pytest.param({"pods": [UNREADY]}, "plugin", "ErrImagePull", "image", id="plugin-not-ready"),
        pytest.param(
            {"node__status__allocatable": {"nvidia.com/gpu": "1"}},
            "resources",
            "capacity 2, allocatable 1, expected 2",
            "1 device unhealthy",
            id="unhealthy",
        ),
        pytest.param({"node__status": UNKNOWN}, "registered", "has not registered", "plugin's log", id="unregistered"),
        pytest.param({"node__status": UNKNOWN}, "resources", "capacity 0", "link registered", id="no-capacity"),
        pytest.param(
            {"pods": [UNREADY]},
            "registered",
            "no device plugin that is ready serves nvidia.com/gpu",
            "link plugin",
            id="left",
        ),
        pytest.param(
            {"node__status": UNKNOWN, "pods": []},
            "registered",
            "the kubelet knows no nvidia.com/gpu: no device plugin",
            "link plugin",
            id="never-there",
        ),
        pytest.param(
            {"node__status": {**HEALTHY["node"]["status"], "capacity": WITH_OTHERS}},
            "resources",
            "expected 2; nvidia.com/mig-1g.10gb: capacity 7, allocatable 0, expected 0",
            "7 devices unhealthy",
            id="more-than-expected",
        ),
        pytest.param({"pods": [], "node": BARE_NODE}, "plugin", "not the label", "device_plugin", id="no-label"),
        pytest.param({"node": BARE_NODE}, "labels", "is not true", "device_plugin", id="label"),
        pytest.param(
            {"node__metadata__labels": {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "Tesla-T4"}},
            "labels",
            "Tesla-T4, the driver has NVIDIA-H100-80GB-HBM3",
            "Feature Discovery",
            id="product",
        ),
        pytest.param({"pods": [], "node": TAINTED}, "plugin", "dedicated:NoSchedule", "tolerations", id="taint"),
        pytest.param(
            {"pods": None, "pods_error": FORBIDDEN}, "plugin", "eve may not list pods", "ClusterRole", id="rbac"
        ),
        pytest.param({"crio__pending": "restart"}, "crio", "restart is due", "crio_runtime", id="crio"),
        pytest.param(
            {"expected": {"nvidia.com/gpu": 3}}, "resources", "expected 3", "device_plugin_config", id="expected"
        ),
        pytest.param(
            {"expected": {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.10gb": 7}},
            "resources",
            "capacity 2, allocatable 2, expected 0; nvidia.com/mig-1g.10gb: capacity 0, allocatable 0, expected 7",
            "device_plugin_config",
            id="mig",
        ),
        pytest.param(
            {"container_runs__docker_gpus": {"rc": 125, "stderr": "could not select device driver"}},
            "docker_gpus",
            "exit code 125",
            "restart Docker",
            id="gpus-flag",
        ),
        pytest.param(
            {"container_runs__docker_runtime": {"rc": 0, "stdout": ONE}},
            "docker_runtime",
            "saw 1 GPU, the driver has 2",
            "",
            id="few",
        ),
        pytest.param(
            {"container_runs__containerd_runtime": {"rc": 127, "stderr": "/bin/sh: 1: nvidia-smi: not found"}},
            "containerd_runtime",
            "nvidia-smi: not found",
            "nvidia-container-cli",
            id="containerd-plain",
        ),
        pytest.param(
            {"container_runs__containerd_runtime": {"rc": 1, "stderr": NO_RUNTIME}},
            "containerd_runtime",
            "OCI runtime create failed",
            "container_toolkit",
            id="containerd-no-runtime",
        ),
        pytest.param(
            {"container_runs__containerd_runtime": {"rc": 1, "stderr": NO_CONTAINERD}},
            "containerd_runtime",
            "failed to dial",
            "systemctl status containerd",
            id="containerd-dead",
        ),
        pytest.param({"pods_tried": FAILED_POD}, "pod", "UnexpectedAdmissionError", "allocate", id="pod-failed"),
        pytest.param(
            {"pods_tried": one("NVIDIA_VISIBLE_DEVICES=x\nnvidia-smi: not found", "Failed")},
            "pod",
            "nvidia-smi: not found",
            "nvidia-container-cli",
            id="no-smi",
        ),
        pytest.param({"pods_tried": []}, "pod", "vanished", "events", id="pod-gone"),
        pytest.param(
            {"pods_tried": [], "pods_made": {"changed": False, "msg": "violates PodSecurity"}},
            "pod",
            "refused",
            "privileged",
            id="refused",
        ),
        pytest.param(
            {
                "pods_tried": [HOLDING],
                "pods_wanted": [tried(test_pods.ONE, "", "n2"), tried(test_pods.ONE, ""), HOLDING],
                "pods_made": {"result": {"results": [{}, {"error": {"msg": "exceeded quota"}}, {}]}},
            },
            "pod",
            "refused: a quota",
            "raise",
            id="one-refused",
        ),
        pytest.param(
            {"pods_tried": one("NVIDIA_VISIBLE_DEVICES=all\n" + "\n".join(UUIDS))},
            "pod",
            "saw 2 GPUs",
            "more than was allocated",
            id="two",
        ),
        pytest.param({"pods_tried": one("NVIDIA_VISIBLE_DEVICES=x")}, "pod", "saw 0 GPUs", "no GPU was put", id="none"),
        pytest.param(
            {"pods_tried": one(f"NVIDIA_VISIBLE_DEVICES=all\n{UUIDS[0]}")},
            "pod",
            "'all' instead",
            "kubelet's",
            id="all",
        ),
        pytest.param(
            {"pods_tried": one(f"NVIDIA_VISIBLE_DEVICES={UUIDS[1]}\n{UUIDS[0]}")},
            "pod",
            "was given",
            "toolkit's log",
            id="another",
        ),
        pytest.param(
            {"pods_tried": [tried(test_pods.ALL, "Running", message=UUIDS[0])]},
            "all_gpus",
            "a pod with limits 2 saw 1 GPU",
            "nvidia-container-cli",
            id="not-all",
        ),
        pytest.param(
            {"pods_tried": [tried(test_pods.ALL, "Pending", conditions=[TURNED_AWAY])]},
            "all_gpus",
            "Insufficient",
            "taken or unhealthy",
            id="all-waits",
        ),
        pytest.param(
            {"more_tried": [tried(test_pods.MORE, "Running")]},
            "one_more",
            "was placed",
            "two device plugins",
            id="more",
        ),
        pytest.param(
            {"more_tried": [tried(test_pods.MORE, "Pending")]},
            "one_more",
            "not for a GPU",
            "scheduler",
            id="no-verdict",
        ),
        pytest.param({"gpu__gpus": [{"uuid": UUIDS[1]}]}, "pod", "does not have", "right node", id="other-node"),
        pytest.param(
            {"pod_removed": {"failed": False, "msg": "Connection refused"}},
            "cleanup",
            "cannot be reached",
            "kubectl",
            id="cleanup",
        ),
        pytest.param({"pods_left": [WAITING]}, "cleanup", "kubegpu-verify-more-x did not go", "kubectl", id="left-pod"),
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
        pytest.param({"all_skip": "1 of 2"}, ["all_gpus", "one_more"], "1 of 2", id="busy"),
        pytest.param({"pods_tried": []}, ["one_more"], "not all GPUs were held", id="not-held"),
        pytest.param({"expected": None}, ["resources"], "does not say how many", id="unknown-number"),
        pytest.param({"expected": {"nvidia.com/gpu": 0}}, ["registered"], "nothing to register", id="nothing"),
        pytest.param(
            {
                "pods_tried": [
                    tried(
                        test_pods.ALL, "Failed", reason="UnexpectedAdmissionError", message="failRequestsGreaterThanOne"
                    )
                ]
            },
            ["all_gpus"],
            "shared",
            id="shared",
        ),
        pytest.param(
            {"container_runs__docker_gpus": {"rc": 125, "stderr": "docker: Error: No such image: plugin:1."}},
            ["docker_gpus"],
            "not on the node",
            id="no-image",
        ),
        pytest.param(
            {"container_runs": {}, "container_engines__docker__skip": "no image"},
            ["docker_gpus", "docker_runtime"],
            "no image",
            id="no-name",
        ),
        pytest.param(
            {"container_runs": {}, "container_engines__containerd__skip": "the kubelet does not use containerd"},
            ["containerd_runtime"],
            "does not use containerd",
            id="no-containerd",
        ),
        pytest.param(
            {"container_runs__containerd_runtime": {"rc": 125, "stderr": "no such image: docker.io/library/plugin:1"}},
            ["containerd_runtime"],
            "the image docker.io/library/plugin:1 is not on the node",
            id="no-image-containerd",
        ),
        pytest.param(
            {"container_runs__containerd_runtime": {"rc": 127, "stderr": "there is no ctr in PATH"}},
            ["containerd_runtime"],
            "no ctr in PATH, which comes with containerd",
            id="no-ctr",
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
    links = chain(container_runs__docker_gpus=run, container_engines__docker__named=True)
    assert links["docker_gpus"]["status"] == "failed"


def test_a_pod_with_the_index_strategy():
    assert chain(pods_tried=one(f"NVIDIA_VISIBLE_DEVICES=0\n{UUIDS[0]}"))["pod"]["status"] == "passed"


def test_a_pod_that_was_given_its_gpu_by_cdi():
    assert chain(pods_tried=one(f"NVIDIA_VISIBLE_DEVICES=void\n{UUIDS[0]}"))["pod"]["status"] == "passed"


def test_all_shares_of_two_gpus_are_two_gpus():
    assert chain(amount=20)["all_gpus"]["status"] == "passed"


def test_mig_devices_are_counted_and_not_their_gpus():
    mig = [f"MIG-{number}{UUIDS[0][5:]}" for number in range(7)]
    holding = tried(test_pods.ALL, "Running", message="\n".join(UUIDS + mig))
    assert "7 MIG devices on 2 GPUs" in chain(amount=7, pods_tried=[holding])["all_gpus"]["detail"]
    assert chain(amount=8, pods_tried=[holding])["all_gpus"]["status"] == "passed"
    assert chain(amount=1, pods_tried=[holding])["all_gpus"]["status"] == "failed"


WANTED = {
    "node": "n1",
    "resource": "nvidia.com/gpu",
    "expected": {"nvidia.com/gpu": 2},
    "image": "",
    "runtime_class": "auto",
    "tolerations": [{"operator": "Exists"}],
    "all": True,
}
OURS = {**PLUGIN, "spec": {**PLUGIN["spec"], "nodeName": "n1", "runtimeClassName": "nvidia"}}


def whole_plan(wanted=None, pods=(), nodes=None, check_mode=False, answers=None):
    nodes = [HEALTHY["node"]] if nodes is None else nodes
    nodes, pods = cut("verify_node_query", nodes), cut("verify_pod_query", [OURS, *pods])
    asked = {"nodes": {"resources": nodes}, "pods": {"resources": pods}, **(answers or {})}
    options = {"namespace": "gpu", "timeout": 60, "run": "r1", "check_mode": check_mode}
    return verify_pod_plan(wanted or {"h1": WANTED}, asked, options)


def pod_plan(pods=(), nodes=None, check_mode=False, answers=None, **changes):
    return whole_plan({"h1": {**WANTED, **changes}}, pods, nodes, check_mode, answers)["hosts"]["h1"]


def taker(count, phase="Running", node="n1", name="t", init=0):
    limits = [{"resources": {"limits": {"nvidia.com/gpu": str(number)}}} for number in (count, init)]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": limits[:1], "initContainers": limits[1:]},
        "status": {"phase": phase},
    }


def kinds(plan):
    return [(pod["metadata"]["labels"][test_pods.KIND], limit(pod)) for pod in plan["pods"]]


def limit(pod):
    containers = pod["spec"].get("initContainers") or pod["spec"]["containers"]
    return containers[0]["resources"]["limits"]["nvidia.com/gpu"]


def test_the_plugins_own_image_and_runtime_class_are_used():
    assert (pod_plan()["image"], pod_plan()["runtime_class"]) == ("plugin:1", "nvidia")
    assert pod_plan(image="mine:1")["image"] == "mine:1"
    assert pod_plan(runtime_class="gold")["runtime_class"] == "gold"
    assert pod_plan(runtime_class="")["runtime_class"] == ""


def test_a_free_node_gets_a_pod_with_one_gpu_then_one_with_all_then_one_more():
    plan = whole_plan()
    assert kinds(plan) == [("one", 1), ("all", 2)]
    assert list(plan["more"]) == [test_pods.mark("n1")]
    assert [pod["spec"]["runtimeClassName"] for pod in plan["pods"]] == ["nvidia", "nvidia"]
    assert plan["selector"] == f"kubegpu.nvidia/verify in ({test_pods.mark('n1')})"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"check_mode": True}, "check mode"),
        ({"nodes": []}, "not known"),
        ({"answers": {"pods": {"msg": FORBIDDEN}}}, "pods are not known"),
        ({"answers": {"pods": {"resources": []}}}, "no image"),
        (
            {"pods": [taker(1), taker(1, name="u")]},
            "all 2 nvidia.com/gpu of the node are taken, by default/t, default/u",
        ),
        ({"nodes": [{**HEALTHY["node"], "status": {"allocatable": RESOURCES}}]}, "not ready"),
        ({"resource": "nvidia.com/other"}, "no allocatable"),
    ],
)
def test_why_no_pod_is_tried(changes, reason):
    plan = pod_plan(**changes)
    assert reason in plan["skip"]
    assert plan["skip_all"] == plan["skip"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pods": [taker(1)]}, "1 of 2 are in use, by default/t"),
        ({"pods": [taker(0, init=1)]}, "1 of 2 are in use"),
        ({"all": False}, "verify_all_gpus"),
    ],
)
def test_why_a_pod_with_all_gpus_is_not_tried(changes, reason):
    plan = pod_plan(**changes)
    assert plan["skip"] == ""
    assert reason in plan["skip_all"]


def test_pods_that_have_ended_or_run_elsewhere_take_no_gpu():
    others = [taker(1), taker(1, "Succeeded"), taker(1, "Failed"), taker(2, node="n2")]
    assert pod_plan(pods=others)["skip"] == ""


def test_what_a_dead_run_left_is_found_and_takes_no_gpu():
    left = tried(test_pods.ALL, "Running")
    left["spec"]["nodeName"] = "n1"
    elsewhere = tried(test_pods.ALL, "Running", node="n2")
    plan = whole_plan(pods=[left, elsewhere])
    assert plan["leftovers"] == ["kubegpu-verify-all-x"]
    assert kinds(plan) == [("one", 1), ("all", 2)]


def test_nothing_is_removed_in_check_mode_or_where_pods_cannot_be_read():
    assert whole_plan(check_mode=True)["selector"] == ""
    assert verify_pod_plan({"h1": WANTED}, {}, {"check_mode": False, "run": "r"})["selector"] == ""


def test_the_pods_of_many_hosts_are_one_plan():
    nodes = [{**HEALTHY["node"], "metadata": {"name": name}} for name in ("n1", "n2")]
    plan = whole_plan({"h1": WANTED, "h2": {**WANTED, "node": "n2", "image": "i", "all": False}}, nodes=nodes)
    assert kinds(plan) == [("one", 1), ("all", 2), ("one", 1)]
    assert plan["hosts"]["h2"]["node"]["metadata"]["name"] == "n2"


@pytest.mark.parametrize(
    ("pods", "settled", "succeeded", "held"),
    [
        pytest.param([], True, True, 0, id="none"),
        pytest.param([tried("one", "Running"), HOLDING], False, False, 1, id="looks"),
        pytest.param([tried("one", "Succeeded"), HOLDING], True, True, 1, id="done"),
        pytest.param([tried("one", "Succeeded"), tried("all", "Pending")], False, False, 0, id="all-waits"),
        pytest.param([HOLDING, tried("more", "Pending")], False, True, 1, id="not-looked-at"),
        pytest.param([HOLDING, WAITING], True, True, 1, id="turned-away"),
        pytest.param([HOLDING, tried("more", "Running")], True, False, 1, id="placed"),
        pytest.param([tried("one", "Failed"), tried("all", "Failed")], True, False, 0, id="failed"),
    ],
)
def test_how_far_the_pods_have_come(pods, settled, succeeded, held):
    state = verify_pod_state(pods)
    assert (state["settled"], state["succeeded"], len(state["held"])) == (settled, succeeded, held)


def test_a_node_that_is_there_is_waited_for_until_it_offers_what_is_expected():
    nodes = [HEALTHY["node"]]
    assert verify_registered(nodes, {"h1": WANTED, "gone": {**WANTED, "node": "n9"}})
    assert not verify_registered(nodes, {"h1": {**WANTED, "expected": {"nvidia.com/gpu": 3}}})
    assert verify_registered(nodes, {"h1": {**WANTED, "expected": None}})


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
