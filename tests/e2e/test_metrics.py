"""The device plugin's metrics as Prometheus gets them: from the pod's address, with a real kubelet's PodResources.

The tests build on each other in the order of this file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("metrics", gpus=2)
GPU = "nvidia.com/gpu"
NAMESPACE = "nvidia-device-plugin"
P = "nvidia_devplugin_"


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    """A node with the device plugin on it, telemetry included."""
    with fresh_cluster(SPEC) as made:
        environment = '{"device_plugin_env": {"DP_GPU_TELEMETRY": "true"}}'
        run = made.playbook("site.yml", "-e", environment)
        assert run.returncode == 0, run.output
        yield made


def scrape(machine: Handle) -> list[tuple[str, dict[str, str], float]]:
    """All samples, by way of what the pod's own annotations say."""
    found = machine.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=nvidia-device-plugin")["items"]
    (pod,) = [each for each in found if "deletionTimestamp" not in each["metadata"]]
    notes = pod["metadata"]["annotations"]
    assert notes["prometheus.io/scrape"] == "true"
    address = f"http://{pod['status']['podIP']}:{notes['prometheus.io/port']}{notes['prometheus.io/path']}"
    program = f"import urllib.request as u; print(u.urlopen({address!r}, timeout=10).read().decode(), end='')"
    page = machine.execute("python3", "-c", program)
    return [
        (sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(page + "\n")
        for sample in family.samples
    ]


def labelled(machine: Handle, name: str) -> list[dict[str, str]]:
    return [labels for found, labels, _ in scrape(machine) if found == name]


def value(machine: Handle, name: str, **labels: str) -> float:
    (found,) = [number for each, theirs, number in scrape(machine) if each == P + name and theirs == labels]
    return found


def test_scraped_from_the_pods_address(machine: Handle) -> None:
    samples = scrape(machine)
    assert value(machine, "devices", resource=GPU, health="Healthy", reason="") == 2
    assert value(machine, "registered", resource=GPU) == 1
    assert value(machine, "pod_resources_up") == 1, "the real kubelet answers through the read-only mount"
    assert sum(name == "nvidia_gpu_temperature_celsius" for name, _, _ in samples) == 2


def test_a_pod_that_holds_a_gpu_appears_and_disappears(machine: Handle) -> None:
    assert labelled(machine, P + "pod_device") == []
    machine.apply(pods.gpu_pod("holder", pods.SHOW_GPUS))
    wait_for("the pod holder", lambda: pods.gpus_shown(machine.kubectl("logs", "holder")))
    (held,) = labelled(machine, P + "pod_device")
    assert (held["namespace"], held["pod"], held["resource"]) == ("default", "holder", GPU)
    assert [held["gpu"]] == [held["device"]] == pods.gpus_shown(machine.kubectl("logs", "holder"))
    assert value(machine, "allocations_total", resource=GPU, outcome="granted") >= 1
    machine.kubectl("delete", "pod", "holder", "--wait=true")
    wait_for("nobody to hold a GPU", lambda: labelled(machine, P + "pod_device") == [], seconds=90)


def test_an_xid_and_a_restarted_kubelet_are_counted(machine: Handle) -> None:
    machine.execute("nvml-sim", "xid", "1", "79")
    wait_for("the XID", lambda: [one["xid"] for one in labelled(machine, P + "xids_total")] == ["79"])
    assert value(machine, "devices", resource=GPU, health="Unhealthy", reason="xid_79") == 1
    (unhealthy,) = labelled(machine, P + "unhealthy")
    assert unhealthy["index"] == "1"
    before = value(machine, "kubelet_restarts_total")
    machine.execute("systemctl", "restart", "kubelet")
    wait_for("another registration", lambda: value(machine, "kubelet_restarts_total") == before + 1, seconds=90)
    wait_for("the new kubelet to tell of its pods", lambda: value(machine, "pod_resources_up") == 1, seconds=90)
    assert value(machine, "devices", resource=GPU, health="Unhealthy", reason="xid_79") == 1, "health survives"
