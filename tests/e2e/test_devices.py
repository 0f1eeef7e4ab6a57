"""MIG, time-slicing and renaming through the real kubelet, on a node of its own.

The tests build on each other in the order of this file. Each gives the device plugin another configuration, as a
person does, by running the playbook again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster, wait
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("devices", gpus=2)
GPU = "nvidia.com/gpu"
NAMESPACE = "nvidia-device-plugin"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as handle:
        yield handle


def configure(machine: Handle, config: dict[str, Any], *arguments: str) -> None:
    """With the role alone: the play's last step, verify, counts whole GPUs, and that is looked at here in detail."""
    extra = json.dumps({"device_plugin_config": {"version": "v1", **config}})
    run = machine.playbook("site.yml", "-e", extra, *(arguments or ("--tags", "device_plugin")))
    assert run.returncode == 0, run.output


def amounts(machine: Handle, kind: str = "allocatable") -> dict[str, int]:
    """The node's NVIDIA resources; those with none are left out, for a kubelet never forgets a name."""
    status = machine.get("node", machine.node)["status"][kind]
    return {name: int(amount) for name, amount in status.items() if name.startswith("nvidia.com/") and int(amount)}


def expect(machine: Handle, expected: dict[str, int]) -> None:
    try:
        wait_for(f"allocatable {expected}", lambda: amounts(machine) == expected, seconds=60)
    except wait.NotReadyError as error:
        raise AssertionError(f"{error}; allocatable is {amounts(machine)}") from error


def plugin_pod(machine: Handle) -> str:
    """The name of the plugin's pod that is ready, or nothing."""
    ready = "jsonpath={.items[?(@.status.containerStatuses[0].ready==true)].metadata.name}"
    return machine.kubectl("get", "pods", "-n", NAMESPACE, "-o", ready).strip()


def start_pod(machine: Handle, name: str, resource: str, amount: int = 1) -> None:
    pod = pods.gpu_pod(name, pods.SHOW_GPUS)
    pod["spec"]["containers"][0]["resources"] = {"limits": {resource: amount}}
    machine.apply(pod)


def visible(machine: Handle, name: str) -> list[str]:
    """The devices that the driver shows in a pod, once it runs."""
    wait_for(f"the pod {name}", lambda: pods.gpus_shown(machine.kubectl("logs", name)))
    return pods.gpus_shown(machine.kubectl("logs", name))


def delete_pods(machine: Handle) -> None:
    machine.kubectl("delete", "pods", "-l", "app=kubegpu-test", "--wait=true")


def capabilities(machine: Handle) -> dict[str, list[str]]:
    """Those of the plugin's container."""
    spec = machine.get("daemonset", "nvidia-device-plugin", "-n", NAMESPACE)["spec"]["template"]["spec"]
    return dict(spec["containers"][0]["securityContext"]["capabilities"])


def test_a_gpu_in_mig_mode_is_offered_whole_without_any_capability(machine: Handle) -> None:
    machine.execute("nvml-sim", "mig", "1:3g.40gb")
    configure(machine, {"flags": {"migStrategy": "none"}}, "--skip-tags", "verify")
    assert capabilities(machine) == {"drop": ["ALL"]}
    expect(machine, {GPU: 2})


def test_mig_mixed(machine: Handle) -> None:
    machine.execute("nvml-sim", "mig", "1:3g.40gb,1g.10gb,1g.10gb")
    configure(machine, {"flags": {"migStrategy": "mixed"}})
    assert capabilities(machine) == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    expect(machine, {GPU: 1, LARGE: 1, SMALL: 2})
    start_pod(machine, "small", SMALL)
    start_pod(machine, "whole", GPU)
    (small,), (whole,) = visible(machine, "small"), visible(machine, "whole")
    assert (small[:4], whole[:4]) == ("MIG-", "GPU-")
    delete_pods(machine)


def test_mig_reconfigured_while_the_daemon_runs(machine: Handle) -> None:
    # The driver shows a container only the MIG devices whose files it has: the daemon ends, and the kubelet makes a
    # container that has them all.
    machine.execute("nvml-sim", "mig", "1:1g.10gb,1g.10gb,1g.10gb,1g.10gb")
    expect(machine, {GPU: 1, SMALL: 4})


def test_mig_turned_off_while_the_daemon_runs(machine: Handle) -> None:
    started = time.monotonic()
    machine.execute("nvml-sim", "mig", "off")
    expect(machine, {GPU: 2})
    print(f"the node's status followed after {time.monotonic() - started:.1f} s")


def test_time_slicing_by_ten_with_distinct_gpus(machine: Handle) -> None:
    sharing = {"timeSlicing": {"resources": [{"name": GPU, "replicas": 10}]}}
    configure(machine, {"sharing": sharing, "kubegpu": {"distinctGpus": True}})
    expect(machine, {GPU: 20})
    start_pod(machine, "two", GPU, 2)
    assert len(visible(machine, "two")) == 2, "the kubelet took one slice of each GPU"
    start_pod(machine, "three", GPU, 3)  # there are but two GPUs

    def refused() -> bool:
        status = machine.get("pod", "three")["status"]
        return status["phase"] == "Failed" and "no container two devices of one GPU" in status.get("message", "")

    wait_for("the refusal in the pod's status", refused)
    machine.execute("nvml-sim", "xid", "1", "79")
    expect(machine, {GPU: 10})
    machine.execute("systemctl", "restart", "kubelet")
    expect(machine, {GPU: 10})
    delete_pods(machine)
    # Another pod of the plugin knows of it too, until somebody says that the GPU was looked after.
    before = plugin_pod(machine)
    machine.kubectl("delete", "pod", before, "-n", NAMESPACE, "--wait=true")
    wait_for("another pod of the plugin", lambda: plugin_pod(machine) not in ("", before))
    expect(machine, {GPU: 10})
    machine.kubectl("exec", "-n", NAMESPACE, plugin_pod(machine), "--", "nvidia-devplugin", "ack", "1")
    expect(machine, {GPU: 20})


def test_renamed_and_shared(machine: Handle) -> None:
    sharing = {"timeSlicing": {"renameByDefault": True, "resources": [{"name": "h100", "replicas": 4, "devices": [0]}]}}
    configure(machine, {"resources": {"gpus": [{"pattern": "*H100*", "name": "h100"}]}, "sharing": sharing})
    expect(machine, {"nvidia.com/h100": 1, "nvidia.com/h100.shared": 4})
    start_pod(machine, "shared", "nvidia.com/h100.shared")
    start_pod(machine, "alone", "nvidia.com/h100")
    assert visible(machine, "shared") != visible(machine, "alone")
    delete_pods(machine)


def put_config(machine: Handle, **files: dict[str, Any] | str) -> None:
    """As with kubectl edit. The kubelet looks at a pod's volumes once a minute, or when the pod changes."""
    data = {
        name: text if isinstance(text, str) else json.dumps({"version": "v1", **text}) for name, text in files.items()
    }
    merge = json.dumps({"data": data})
    machine.kubectl("patch", "configmap", "nvidia-device-plugin-config", "-n", NAMESPACE, "--type=merge", "-p", merge)
    pod = plugin_pod(machine)
    machine.kubectl("annotate", "pod", pod, "-n", NAMESPACE, "--overwrite", f"kubegpu.test/looked={time.time()}")


def log_of(machine: Handle, pod: str) -> str:
    return machine.kubectl("logs", pod, "-n", NAMESPACE, "-c", "nvidia-device-plugin")


def unchanged(machine: Handle, pod: str) -> bool:
    """The same pod as before, whose containers were never restarted."""
    statuses = machine.get("pod", pod, "-n", NAMESPACE)["status"]["containerStatuses"]
    return plugin_pod(machine) == pod and not any(status["restartCount"] for status in statuses)


def test_a_config_map_that_changes_applies_to_the_running_pod(machine: Handle) -> None:
    pod = plugin_pod(machine)
    started = time.monotonic()
    put_config(machine, **{"config.yaml": {"sharing": {"timeSlicing": {"resources": [{"name": GPU, "replicas": 5}]}}}})
    expect(machine, {GPU: 10})
    print(f"the node's status followed the ConfigMap after {time.monotonic() - started:.1f} s")
    assert amounts(machine, "capacity") == {GPU: 10}, "the renamed resources went to zero"
    put_config(machine, **{"config.yaml": "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 1}]}}"})
    wait_for("the refusal in the log", lambda: "resources[0].replicas: 1 is not >= 2" in log_of(machine, pod))
    assert amounts(machine, "capacity") == {GPU: 10}
    start_pod(machine, "slice", GPU)
    assert len(visible(machine, "slice")) == 1
    delete_pods(machine)
    assert unchanged(machine, pod)


CONFIG_LABEL = "nvidia.com/device-plugin.config"


def label(machine: Handle, value: str) -> None:
    """Choose a named config for the node; none if empty."""
    machine.kubectl(
        "label", "node", machine.node, "--overwrite", f"{CONFIG_LABEL}={value}" if value else f"{CONFIG_LABEL}-"
    )


def test_named_configs_are_chosen_by_the_nodes_label_while_the_pod_runs(machine: Handle) -> None:
    named: dict[str, Any] = {name: {"version": "v1"} for name in ("default", "shared")}
    named["shared"]["sharing"] = {"timeSlicing": {"resources": [{"name": GPU, "replicas": 3}]}}
    extra = json.dumps({"device_plugin_configs": named})
    run = machine.playbook("site.yml", "-e", extra, "--tags", "device_plugin")
    assert run.returncode == 0, run.output
    expect(machine, {GPU: 2})
    pod = plugin_pod(machine)
    started = time.monotonic()
    label(machine, "shared")
    expect(machine, {GPU: 6})
    print(f"the node's status followed the label after {time.monotonic() - started:.1f} s")
    put_config(machine, wrong="version: v2")
    label(machine, "wrong")
    wait_for("the refusal in the log", lambda: "config wrong: version: " in log_of(machine, pod))
    assert amounts(machine, "capacity") == {GPU: 6}
    put_config(machine, wrong={"resources": {"gpus": [{"pattern": "*", "name": "whole"}]}})
    expect(machine, {"nvidia.com/whole": 2})
    assert unchanged(machine, pod)
    # Another pod knows what was chosen before anybody tells it.
    machine.kubectl("delete", "pod", pod, "-n", NAMESPACE, "--wait=true")
    wait_for("another pod of the plugin", lambda: plugin_pod(machine) not in ("", pod))
    expect(machine, {"nvidia.com/whole": 2})
    assert "resource=nvidia.com/gpu" not in log_of(machine, plugin_pod(machine))
    label(machine, "")
    expect(machine, {GPU: 2})
