"""Secrets of other people's objects, looked for in all that the playbooks print at -vvv with --diff: failed and not.

The tests build on each other in the order of this file; the cluster is set up once, and taken back by the last one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.e2e.users import kubeconfig
from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("leak", gpus=2)
NAMESPACE = "theirs"
SECRET = "quince-4711-marmalade"  # noqa: S105
FORMS = (SECRET, base64.b64encode(SECRET.encode()).decode())
LOOK = ("-vvv", "--diff")
REPLACE = ("-e", "device_plugin_replace_others=true")


def pod_spec(script: str, gpus: int) -> dict[str, Any]:
    spec: dict[str, Any] = pods.gpu_pod("theirs", script, gpus=gpus)["spec"]
    del spec["restartPolicy"]
    spec["containers"][0]["env"] = [{"name": "PASSWORD", "value": SECRET}]
    spec["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
    spec["volumes"] = [{"name": "folder", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}]
    return spec


def controller(kind: str, name: str, script: str, gpus: int = 0) -> dict[str, Any]:
    """Pods with a secret in their environment and in an annotation."""
    notes = {"annotations": {"example.com/password": SECRET}}
    template = {"metadata": {"labels": {"app": name}, **notes}, "spec": pod_spec(script, gpus)}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    metadata = {"name": name, "namespace": NAMESPACE, **notes}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def trainer(machine: Handle) -> dict[str, Any]:
    (pod,) = machine.get("pods", "-n", NAMESPACE, "-l", "app=trainer")["items"]
    return dict(pod)


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as handle:
        handle.kubectl("create", "namespace", NAMESPACE)
        for target in (("namespace", NAMESPACE), ("node", handle.node)):
            handle.kubectl("annotate", *target, f"example.com/password={SECRET}")
        metadata = {"name": "settings", "namespace": NAMESPACE}
        for kind, key in (("ConfigMap", "data"), ("Secret", "stringData")):
            handle.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, key: {"password": SECRET}})
        # another device plugin, by its name and folder; and one that says its password when it ends
        handle.apply(controller("DaemonSet", "nvidia-device-plugin-daemonset", "exec sleep 86400"))
        handle.apply(controller("Deployment", "crashing", f"echo {SECRET}; exit 1"))
        yield handle


def look(machine: Handle, name: str, *arguments: str, fails: str = "") -> str:
    """Run a playbook that succeeds, or fails with these words; what it printed, without any secret in it."""
    run = machine.playbook(name, *LOOK, *arguments)
    shown, task = [], ""
    for line in run.output.splitlines():
        task = line if line.startswith("TASK [") else task
        shown += [f"{task} {line[:200]}" for form in FORMS if form in line]
    assert shown == []
    assert (run.returncode != 0) == bool(fails), run.output[-4000:]
    assert fails in " ".join(run.output.split()), run.output[-4000:]
    return run.output


def unreachable(machine: Handle) -> tuple[str, str]:
    return "-e", f"kubegpu_kubeconfig={kubeconfig(machine, 'unreachable', server='https://127.0.0.1:1')}"


def test_site_is_stopped_by_what_others_run(machine: Handle) -> None:
    look(machine, "site.yml", "--skip-tags", "verify", fails="nvidia-device-plugin-daemonset")


def test_site_takes_its_place_and_verifies(machine: Handle) -> None:
    look(machine, "site.yml", "--tags", "device_plugin,verify", *REPLACE)


def test_a_plugin_that_does_not_come_up(machine: Handle) -> None:
    other = {"device_plugin_image_source": "registry", "device_plugin_image": "registry.invalid/plugin:1"}
    arguments = ("--tags", "device_plugin", *REPLACE, "-e", json.dumps({**other, "device_plugin_rollout_timeout": 6}))
    look(machine, "site.yml", *arguments, fails="The device plugin is not ready on the node")
    look(machine, "site.yml", "--tags", "device_plugin", *REPLACE)


def test_verify_on_a_node_that_does_not_have_what_is_expected(machine: Handle) -> None:
    machine.apply(controller("Deployment", "trainer", "exec sleep 86400", gpus=1))
    wait_for("the pod with a GPU", lambda: trainer(machine)["status"]["phase"] == "Running", 120)
    expected = ("-e", json.dumps({"verify_expected_gpus": 5, "verify_registration_timeout": 4}))
    output = look(machine, "verify.yml", *expected, fails="nvidia.com/gpu: capacity 2, allocatable 2, expected 5")
    assert "RETRYING" in output, "that is the task which once showed everything"


def test_verify_does_not_reach_the_cluster(machine: Handle) -> None:
    look(machine, "verify.yml", *unreachable(machine), fails="the API server cannot be reached")


def test_report_has_what_is_on_the_cluster_and_no_secrets(machine: Handle, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    look(machine, "report.yml", "-e", f"kubegpu_report_path={page}", "-e", "kubegpu_report_verify=true")
    data = page.with_suffix(".json").read_text()
    assert "theirs" in data
    assert not [form for form in FORMS if form in data + page.read_text()]
    look(machine, "report.yml", "-e", f"kubegpu_report_path={page}", *unreachable(machine))


def test_render(machine: Handle, tmp_path: Path) -> None:
    look(machine, "render.yml", "-e", f"device_plugin_render_dir={tmp_path}")


def test_remove_is_refused_fails_and_succeeds(machine: Handle) -> None:
    look(machine, "remove.yml", fails="Pods use GPUs on")
    look(machine, "remove.yml", *unreachable(machine), fails="Cannot read the pods of")
    look(machine, "remove.yml", "-e", "kubegpu_drain=true")
