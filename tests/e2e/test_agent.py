"""The agent against a real API server: a fault where people look, an operator's word by annotation, labels, few rights.

The tests build on each other in the order of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("agent", gpus=2)
NAMESPACE = "nvidia-device-plugin"
AGENT = "nvidia-device-plugin-agent"
FAULTS = "kubegpu.nvidia/gpu-faults"
ACK = "kubegpu.nvidia/ack"
FEATURE_FILES = "/etc/kubernetes/node-feature-discovery/features.d"
SETTINGS = json.dumps(
    {
        "device_plugin_agent_features": ["events", "annotations", "acknowledge", "labels"],
        "device_plugin_nfd_features_dir": FEATURE_FILES,
    }
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    """A node with the device plugin on it, and all that its agent can write."""
    with fresh_cluster(SPEC) as made:
        run = made.playbook("site.yml", "--skip-tags", "verify", "-e", SETTINGS)
        assert run.returncode == 0, run.output
        yield made


def metadata(machine: Handle) -> dict[str, Any]:
    return dict(machine.get("node", machine.node)["metadata"])


def faults(machine: Handle) -> list[str]:
    """The codes in the node's annotation."""
    return [fault["code"] for fault in json.loads(metadata(machine)["annotations"].get(FAULTS, "[]"))]


def reasons(machine: Handle) -> list[str]:
    """Of the node's Events from the device plugin."""
    found = machine.get("events", "-n", "default")["items"]
    return [event["reason"] for event in found if event["source"].get("component") == "nvidia-device-plugin"]


def plugin(machine: Handle) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def alone() -> bool:
        selector = ("-n", NAMESPACE, "-l", "app.kubernetes.io/name=nvidia-device-plugin")
        found[:] = machine.get("pods", *selector)["items"]
        return len(found) == 1

    wait_for("one pod of the plugin", alone, seconds=60)
    return found[0]


def runs(machine: Handle) -> tuple[str, list[int]]:
    """Which pod of the plugin it is, and how often its containers were restarted."""
    pod = plugin(machine)
    return pod["metadata"]["uid"], [status["restartCount"] for status in pod["status"]["containerStatuses"]]


def log(machine: Handle) -> str:
    return machine.kubectl("logs", "-n", NAMESPACE, plugin(machine)["metadata"]["name"], "-c", AGENT)


def test_the_agent_has_the_token_and_the_daemon_has_none(machine: Handle) -> None:
    name = plugin(machine)["metadata"]["name"]
    look = "ls /var/run/secrets/kubernetes.io/serviceaccount 2>/dev/null; ls /dev | grep nvidia; id -u"
    inside = ("exec", "-n", NAMESPACE, name, "-c")
    assert machine.kubectl(*inside, AGENT, "--", "sh", "-c", look).split() == ["ca.crt", "token", "65532"]
    daemon = machine.kubectl(*inside, NAMESPACE, "--", "sh", "-c", look).split()
    assert "token" not in daemon
    assert daemon[-1] == "0"


def test_labels_are_on_the_node(machine: Handle) -> None:
    wait_for("the labels", lambda: metadata(machine)["labels"].get("nvidia.com/gpu.count") == "2")
    assert "H100" in metadata(machine)["labels"]["nvidia.com/gpu.product"]
    assert metadata(machine)["labels"]["nvidia.com/gpu.present"] == "true"


def test_labels_are_in_a_feature_file(machine: Handle) -> None:
    written = machine.execute("cat", f"{FEATURE_FILES}/kubegpu-nvidia").splitlines()
    assert "nvidia.com/gpu.count=2" in written
    assert not [line for line in written if line.startswith("#")]


def test_a_fault_is_where_people_look(machine: Handle) -> None:
    machine.execute("nvml-sim", "xid", "1", "79")
    wait_for("the annotation", lambda: faults(machine) == ["xid_79"])
    wait_for("the Event", lambda: reasons(machine) == ["GPUUnhealthy"])
    described = machine.kubectl("describe", "node", machine.node)
    assert "GPUUnhealthy" in described
    assert "is unhealthy: XID 79" in described
    wait_for("the device to be withdrawn", lambda: machine.gpus() == 1)


def test_an_acknowledgement_by_annotation_heals(machine: Handle) -> None:
    machine.kubectl("annotate", "node", machine.node, f"{ACK}=1")
    wait_for("the device", lambda: machine.gpus() == 2)
    wait_for("the annotation to go", lambda: FAULTS not in metadata(machine)["annotations"])
    wait_for("the result", lambda: "1: acknowledged" in metadata(machine)["annotations"][f"{ACK}-result"])
    assert ACK not in metadata(machine)["annotations"]
    wait_for("the Events", lambda: {"GPUHealthy", "GPUAcknowledged"} <= set(reasons(machine)))
    assert reasons(machine).count("GPUUnhealthy") == 1


def test_without_rights_the_log_names_them(machine: Handle) -> None:
    machine.kubectl("delete", "clusterrolebinding", AGENT)
    machine.execute("nvml-sim", "xid", "0", "79")
    wait_for("the device to be withdrawn all the same", lambda: machine.gpus() == 1)
    wait_for("a line in the log", lambda: "event=forbidden" in log(machine))
    line = next(line for line in log(machine).splitlines() if "event=forbidden" in line)
    assert "verb=patch" in line
    assert f"resource=nodes/{machine.node}" in line
    account = f"--serviceaccount={NAMESPACE}:{NAMESPACE}"
    machine.kubectl("create", "clusterrolebinding", AGENT, f"--clusterrole={AGENT}", account)
    machine.kubectl("label", "clusterrolebinding", AGENT, "app.kubernetes.io/managed-by=kubegpu.nvidia")
    wait_for("the annotation, once it is allowed", lambda: faults(machine) == ["xid_79"])
    machine.kubectl("annotate", "node", machine.node, f"{ACK}=0")
    wait_for("the device", lambda: machine.gpus() == 2)


def test_without_an_api_server_pods_get_their_gpus(machine: Handle) -> None:
    """A static pod: the kubelet starts it without asking anybody."""
    program = (
        "import json, pathlib; p = pathlib.Path('/etc/kubernetes/kubelet.yaml'); "
        "c = json.loads(p.read_text()); c['staticPodPath'] = '/etc/static-pods'; p.write_text(json.dumps(c))"
    )
    machine.execute("mkdir", "-p", "/etc/static-pods")
    machine.execute("python3", "-c", program)
    machine.execute("systemctl", "restart", "kubelet")
    wait_for("the kubelet", lambda: machine.gpus() == 2)
    pod = pods.gpu_pod("static", pods.SHOW_GPUS)
    path = machine.folder / machine.node / "static.json"  # the node's /etc/kubernetes
    path.write_text(json.dumps(pod))
    before = runs(machine)
    machine.execute("systemctl", "stop", "kube-apiserver")
    try:
        machine.execute("mv", "/etc/kubernetes/static.json", "/etc/static-pods/static.json")
        read = "cat /var/log/pods/default_static-*/main/0.log 2>/dev/null || true"
        wait_for("the pod", lambda: pods.gpus_shown(machine.execute("sh", "-c", read)))
    finally:
        machine.execute("systemctl", "start", "kube-apiserver")
    machine.execute("nvml-sim", "xid", "1", "31")  # the application's fault, and nothing to write
    machine.execute("nvml-sim", "xid", "1", "79")
    wait_for("the annotation", lambda: faults(machine) == ["xid_79"], seconds=120)
    assert runs(machine) == before
    machine.execute("rm", "/etc/static-pods/static.json")


def test_what_the_agent_wrote_goes_with_it(machine: Handle) -> None:
    run = machine.playbook("site.yml", "--tags", "device_plugin")
    assert run.returncode == 0, run.output
    left = metadata(machine)
    assert [key for key in left["annotations"] if key.startswith("kubegpu.nvidia/")] == []
    assert [key for key in left["labels"] if key.startswith("nvidia.com/")] == ["nvidia.com/gpu.present"]
    for kind in ("clusterroles", "clusterrolebindings", "roles", "rolebindings"):
        assert machine.get(kind, "-A", "-l", "app.kubernetes.io/managed-by=kubegpu.nvidia")["items"] == []
    assert len(plugin(machine)["spec"]["containers"]) == 1
    assert "# +expiry-time=" in machine.execute("cat", f"{FEATURE_FILES}/kubegpu-nvidia")
