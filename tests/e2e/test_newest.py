"""What only a current Kubernetes has: Pod Security, strict validation, devices by CDI, health in a pod's status.

One node with four GPUs on two NUMA nodes, whose kubelet aligns devices with one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster, docker
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("newest", gpus=4, kubelet={"topologyManagerPolicy": "single-numa-node"})
NAMESPACE = "nvidia-device-plugin"
GPU = "nvidia.com/gpu"
LEVEL = "pod-security.kubernetes.io/enforce"
EVERYTHING = {
    "device_plugin_agent_features": ["events", "annotations", "acknowledge", "labels"],
    "device_plugin_nfd_features_dir": "/etc/kubernetes/node-feature-discovery/features.d",
    "device_plugin_configs": {"default": {"version": "v1"}},
    "device_plugin_image_pull_secrets": [{"name": "registry"}],
}


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as made:
        if made.version() < (1, 36):
            pytest.skip(f"Kubernetes {made.version()} lacks what is tested here")
        run = made.playbook("site.yml", "--skip-tags", "docker_runtime,verify")
        assert run.returncode == 0, run.output
        yield made


def start(machine: Handle, name: str, gpus: int = 1, script: str = "exec sleep 3600") -> None:
    machine.apply(pods.gpu_pod(name, script, gpus))


def status(machine: Handle, name: str) -> dict[str, Any]:
    return dict(machine.get("pod", name)["status"])


def running(machine: Handle, name: str) -> None:
    wait_for(f"the pod {name} running", lambda: status(machine, name)["phase"] == "Running")


def delete_pods(machine: Handle) -> None:
    machine.kubectl("delete", "pods", "-l", "app=kubegpu-test", "--wait=true")


def numa_of(machine: Handle) -> dict[str, int]:
    """UUID -> NUMA node, as the driver has them."""
    rows = machine.execute("nvidia-smi", "--query-gpu=uuid,pci.bus_id", "--format=csv,noheader").splitlines()
    found = {}
    for row in rows:
        uuid, address = (word.strip() for word in row.split(","))
        path = f"/sys/bus/pci/devices/{address.lower().removeprefix('0000')}/numa_node"
        found[uuid] = int(machine.execute("cat", path))
    return found


def plugin(machine: Handle) -> str:
    return machine.kubectl("get", "pods", "-n", NAMESPACE, "-o", "jsonpath={.items[0].metadata.name}").strip()


@pytest.mark.parametrize("variables", [{}, EVERYTHING], ids=["plain", "everything"])
def test_the_server_knows_every_field_that_is_deployed(
    machine: Handle, variables: dict[str, Any], tmp_path: Path
) -> None:
    extra = json.dumps({**variables, "device_plugin_render_dir": str(tmp_path)})
    run = machine.playbook("render.yml", "-e", extra)
    assert run.returncode == 0, run.output
    objects = list(yaml.safe_load_all((tmp_path / "nvidia-device-plugin.yaml").read_text()))
    assert "DaemonSet" in {item["kind"] for item in objects}
    manifest = machine.folder / machine.node / "manifest.json"
    for item in objects:
        manifest.write_text(json.dumps(item))
        machine.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", f"/etc/kubernetes/{manifest.name}")


def test_a_field_that_the_server_does_not_know_is_refused(machine: Handle) -> None:
    pod = pods.gpu_pod("wrong", "true")
    pod["spec"]["hostPIDs"] = True
    (machine.folder / machine.node / "wrong.json").write_text(json.dumps(pod))
    with pytest.raises(docker.DockerError, match=r'unknown field "spec\.hostPIDs"'):
        machine.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "/etc/kubernetes/wrong.json")


@pytest.mark.parametrize("level", ["restricted", "baseline"])
def test_a_namespace_that_forbids_the_plugin_is_refused_in_the_servers_words(machine: Handle, level: str) -> None:
    machine.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "theirs", "labels": {LEVEL: level}}})
    probe = pods.gpu_pod("probe", "true")
    probe["metadata"]["namespace"] = "theirs"
    probe["spec"]["volumes"] = [{"name": "device-plugins", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}]
    (machine.folder / machine.node / "probe.json").write_text(json.dumps(probe))
    with pytest.raises(docker.DockerError) as refused:
        machine.kubectl("apply", "-f", "/etc/kubernetes/probe.json")
    violates = f'violates PodSecurity "{level}:latest"'
    assert violates in str(refused.value)
    assert "hostPath" in str(refused.value).split(violates)[1]
    arguments = ("--tags", "device_plugin", "-e", "device_plugin_namespace=theirs")
    try:
        for mode in ((), ("--check",)):
            run = machine.playbook("site.yml", *arguments, *mode)
            assert run.returncode != 0, run.output
            said = re.sub(r"\\(.)", r"\1", " ".join(run.output.split()))
            assert "The namespace theirs, which is not ours, does not take the plugin's pods" in said
            assert f"needs the label {LEVEL}=privileged" in said
            assert violates in said
            assert "hostPath" in said.split(violates)[1]
            assert run.changed == 0, run.output
        assert machine.get("daemonsets", "-n", "theirs")["items"] == []
        # with the label that the message asks for there is nothing in the way
        machine.kubectl("label", "namespace", "theirs", "--overwrite", f"{LEVEL}=privileged")
        assert machine.playbook("site.yml", *arguments, "--check").returncode == 0
    finally:
        machine.kubectl("delete", "namespace", "theirs")


def test_a_namespace_of_ours_that_lost_its_label_gets_it_back(machine: Handle) -> None:
    machine.kubectl("label", "namespace", NAMESPACE, "--overwrite", f"{LEVEL}=restricted")
    machine.kubectl("delete", "pod", "-n", NAMESPACE, plugin(machine))
    links = machine.playbook("verify.yml", "-e", "verify_registration_timeout=0")
    assert links.returncode != 0
    assert re.search(r"FAILED +plugin +no pod of the device plugin is on the node", links.output), links.output
    run = machine.playbook("site.yml", "--tags", "device_plugin")
    assert run.returncode == 0, run.output
    wait_for("all GPUs", lambda: machine.gpus() == 4)


def test_a_pod_gets_gpus_of_one_numa_node(machine: Handle) -> None:
    start(machine, "pair", 2)
    running(machine, "pair")
    numa = numa_of(machine)
    assert set(numa.values()) == {0, 1}, "the driver shows two NUMA nodes"
    assert len({numa[device] for device in machine.allocated("pair")[GPU]}) == 1
    delete_pods(machine)


def test_a_pod_that_needs_gpus_of_two_numa_nodes_is_rejected(machine: Handle) -> None:
    start(machine, "four", 4)
    wait_for("the kubelet's refusal", lambda: status(machine, "four")["phase"] == "Failed")
    assert status(machine, "four")["reason"] == "TopologyAffinityError"
    delete_pods(machine)


def test_a_kubelet_that_restarts_leaves_gpu_pods_running(machine: Handle) -> None:
    start(machine, "stays")
    running(machine, "stays")
    before, had = status(machine, "stays")["containerStatuses"][0], machine.allocated("stays")[GPU]
    machine.execute("systemctl", "restart", "kubelet")
    wait_for("the node's GPUs after the restart", lambda: machine.gpus() == 4)
    start(machine, "next")
    running(machine, "next")
    after = status(machine, "stays")["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert machine.allocated("stays")[GPU] == had
    assert not set(had) & set(machine.allocated("next")[GPU])
    delete_pods(machine)


def health(machine: Handle, name: str) -> dict[str, str]:
    """Device -> health, in the status of a pod's container."""
    entries = status(machine, name)["containerStatuses"][0].get("allocatedResourcesStatus", [])
    return {item["resourceID"]: item["health"] for entry in entries for item in entry["resources"]}


def test_a_fault_shows_in_the_status_of_the_pod_that_has_the_gpu(machine: Handle) -> None:
    start(machine, "sick")
    running(machine, "sick")
    (device,) = machine.allocated("sick")[GPU]
    wait_for("the device's health in the pod's status", lambda: health(machine, "sick") == {device: "Healthy"})
    uuids = re.findall(r"GPU-[0-9a-f-]{36}", machine.execute("nvidia-smi", "-L"))
    index = str(uuids.index(device))
    machine.execute("nvml-sim", "xid", index, "79")
    wait_for("the fault in the pod's status", lambda: health(machine, "sick") == {device: "Unhealthy"})
    machine.kubectl("exec", "-n", NAMESPACE, plugin(machine), "--", "nvidia-devplugin", "ack", index)
    wait_for("the device's recovery in the pod's status", lambda: health(machine, "sick") == {device: "Healthy"})
    delete_pods(machine)


def test_a_pod_gets_its_gpu_as_a_cdi_device_from_the_kubelet(machine: Handle) -> None:
    config = {"version": "v1", "flags": {"plugin": {"deviceListStrategy": "cdi-cri"}}}
    extra = json.dumps({"container_toolkit_cdi": True, "device_plugin_config": config})
    run = machine.playbook("site.yml", "--tags", "container_toolkit,device_plugin", "-e", extra)
    assert run.returncode == 0, run.output
    wait_for("all GPUs", lambda: machine.gpus() == 4)
    start(machine, "cdi", script=pods.SHOW_GPUS)
    wait_for("the driver's answer in the pod", lambda: pods.gpus_shown(machine.kubectl("logs", "cdi")))
    devices = machine.allocated("cdi")[GPU]
    assert pods.gpus_shown(machine.kubectl("logs", "cdi")) == devices
    # what the kubelet handed to containerd
    container = status(machine, "cdi")["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    endpoint = "unix:///run/containerd/containerd.sock"
    inspected = json.loads(machine.execute("crictl", "--runtime-endpoint", endpoint, "inspect", container))
    assert [device["name"] for device in inspected["info"]["config"]["CDI_devices"]] == [
        f"nvidia.com/gpu={device}" for device in devices
    ]
    delete_pods(machine)
