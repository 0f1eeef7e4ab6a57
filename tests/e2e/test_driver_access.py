"""How the device plugin and pods get the driver where NVIDIA's toolkit does not accept NVIDIA_VISIBLE_DEVICES.

The tests build on each other in the order of this file.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle, PlaybookRun, wait_for

SPEC = cluster.Spec("access", gpus=2)
NAMESPACE = "nvidia-device-plugin"
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
HARDENED = {"accept_envvar_when_unprivileged": False, "accept_as_volume_mounts": True}
LOOK = "ls /dev | grep nvidia; nvidia-smi -L; echo looked; exec sleep 600"
NO_DRIVER = "gives the device plugin no driver"
NO_GPU = "gives pods no GPU with the deviceListStrategy envvar"


@pytest.fixture(scope="module")
def node() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as handle:
        yield handle


def site(node: Handle, toolkit: dict[str, Any], *arguments: str, **plugin: Any) -> PlaybookRun:
    """site.yml with settings of the toolkit and flags.plugin; without verify, whose containers ask by the variable."""
    config = {"version": "v1", "flags": {"plugin": plugin}}
    variables = json.dumps({"container_toolkit_config": toolkit, "device_plugin_config": config})
    return node.playbook("site.yml", "--skip-tags", "verify", "-e", variables, *arguments)


def words(run: PlaybookRun) -> str:
    return " ".join(run.output.split())


def plugin_pod(node: Handle) -> str:
    """The name of the plugin's pod that is ready, or nothing."""
    ready = "jsonpath={.items[?(@.status.containerStatuses[0].ready==true)].metadata.name}"
    return node.kubectl("get", "pods", "-n", NAMESPACE, "-o", ready).strip()


def look(node: Handle, pod: dict[str, Any]) -> str:
    """What a pod with the script LOOK sees of the driver; the pod is deleted then."""
    name = pod["metadata"]["name"]
    node.apply(pod)
    wait_for(f"the pod {name}", lambda: "looked" in node.kubectl("logs", name))
    seen = node.kubectl("logs", name)
    node.kubectl("delete", "pod", name, "--wait=true")
    return seen


def test_a_toolkit_that_accepts_neither_is_refused_before_anything_is_deployed(node: Handle) -> None:
    run = site(node, {**HARDENED, "accept_as_volume_mounts": False})
    assert run.returncode != 0, run.output
    assert NO_DRIVER in words(run)
    assert NO_GPU in words(run)
    assert node.get("daemonsets", "-A")["items"] == []


def test_a_strategy_that_gives_pods_nothing_is_refused(node: Handle) -> None:
    run = site(node, HARDENED)
    assert run.returncode != 0, run.output
    assert NO_DRIVER not in words(run)
    assert NO_GPU in words(run)
    assert node.get("daemonsets", "-A")["items"] == []


def test_by_a_mount_the_plugin_has_the_driver_and_no_capability(node: Handle) -> None:
    run = site(node, HARDENED, deviceListStrategy="volume-mounts")
    assert run.returncode == 0, run.output
    wait_for("all GPUs", lambda: node.gpus() == 2)
    spec = node.get("pod", plugin_pod(node), "-n", NAMESPACE)["spec"]
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    again = site(node, HARDENED, deviceListStrategy="volume-mounts")
    assert again.changed == 0, again.output


@pytest.mark.parametrize("mode", ["legacy", "cdi", "auto"])
def test_in_each_mode_of_the_toolkit(node: Handle, mode: str) -> None:
    node.execute("sed", "-i", f's/^mode = .*/mode = "{mode}"/', TOOLKIT_CONFIG)
    assert f'mode = "{mode}"' in node.execute("cat", TOOLKIT_CONFIG)
    before = plugin_pod(node)
    node.kubectl("delete", "pod", before, "-n", NAMESPACE, "--wait=true")
    wait_for("another pod of the plugin", lambda: plugin_pod(node) not in ("", before))
    wait_for("all GPUs", lambda: node.gpus() == 2)
    assert len(pods.gpus_shown(look(node, pods.gpu_pod(f"one-{mode}", LOOK)))) == 1
    # who was given no GPU gets none by the variable
    pod = pods.gpu_pod(f"all-{mode}", LOOK, gpus=0)
    pod["spec"]["runtimeClassName"] = "nvidia"
    pod["spec"]["containers"][0]["env"] = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    assert "nvidia0" not in look(node, pod)


def test_device_nodes_that_are_passed_on_include_uvm(node: Handle) -> None:
    """In mode legacy, where a container with the driver capability utility alone has no /dev/nvidia-uvm."""
    run = site(node, {**HARDENED, "mode": "legacy"}, deviceListStrategy="volume-mounts", passDeviceSpecs=True)
    assert run.returncode == 0, run.output
    wait_for("all GPUs", lambda: node.gpus() == 2)
    node.apply(pods.gpu_pod("nodes", LOOK))
    wait_for("the pod nodes", lambda: "looked" in node.kubectl("logs", "nodes"))
    uid = node.get("pod", "nodes")["metadata"]["uid"]
    checkpoint = json.loads(node.execute("cat", "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"))
    (entry,) = [entry for entry in checkpoint["Data"]["PodDeviceEntries"] if entry["PodUID"] == uid]
    answer = base64.b64decode(entry["AllocResp"])  # the plugin's answer to Allocate
    assert {b"/dev/nvidiactl", b"/dev/nvidia-uvm"} <= set(re.findall(rb"/dev/nvidia[\w-]*", answer))
    node.kubectl("delete", "pod", "nodes", "--wait=true")
