"""Nothing of other people's objects is shown by a task that reads a cluster: failed, retried, or told at -vvv.

The tasks run for real against a stub of the API; tests/e2e/test_leak.py does it with the playbooks and a cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house.repository import ROOT
from tests.unit.kubernetes_stub import Api, serving

SECRET = "quince-4711-marmalade"  # noqa: S105
NODE = "gpu-1"
ENV = [{"name": "PASSWORD", "value": SECRET}]
ANNOTATIONS = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"env": ENV})}
ENDED = {"terminated": {"exitCode": 1, "reason": "Error", "message": f"cannot log in as root:{SECRET}"}}
CONTAINER = {
    "name": "main",
    "image": "example.com/nvidia-device-plugin",
    "env": ENV,
    "args": [f"--token={SECRET}"],
    "resources": {"limits": {"nvidia.com/gpu": "1"}},
}


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "annotations": ANNOTATIONS}, **more}


def inside(name: str, **more: Any) -> dict[str, Any]:
    made = thing(name, **more)
    return {**made, "metadata": {**made["metadata"], "namespace": "theirs"}}


def cluster() -> Api:
    condition = [{"type": "Ready", "status": "True"}]
    node = {"capacity": {"nvidia.com/gpu": "3"}, "allocatable": {"nvidia.com/gpu": "3"}, "conditions": condition}
    folder = {"name": "f", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}
    template = {"metadata": {"annotations": ANNOTATIONS}, "spec": {"containers": [CONTAINER], "volumes": [folder]}}
    status = {
        "name": "main",
        "image": "",
        "imageID": "",
        "ready": False,
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": ENDED,
    }
    rollout = {"observedGeneration": 1, "currentNumberScheduled": 1, "numberMisscheduled": 0}
    theirs = inside("theirs", spec={"selector": {}, "template": template}, status=rollout)
    event = {"involvedObject": {"kind": "Node", "name": NODE}, "type": "Warning", "reason": "XID", "message": "gpu"}
    pod = {"nodeName": NODE, "containers": [CONTAINER], "initContainers": [CONTAINER]}
    api = Api(
        {
            "nodes": [thing(NODE, spec={}, status=node)],
            "namespaces": [thing("nvidia-device-plugin"), thing("theirs")],
            "pods": [inside("trainer", spec=pod, status={"phase": "Running", "containerStatuses": [status]})],
            "events": [inside("event", **event)],
            "configmaps": [inside("settings", data={"password": SECRET})],
            "daemonsets": [theirs],
        }
    )
    theirs["metadata"]["generation"] = 1
    return api


def role(name: str, tasks: str = "main.yml", **variables: Any) -> dict[str, Any]:
    return {"ansible.builtin.include_role": {"name": f"kubegpu.nvidia.{name}", "tasks_from": tasks}, "vars": variables}


def attempt(*tasks: dict[str, Any], rescue: dict[str, Any] | None = None) -> dict[str, Any]:
    """Goes on whatever fails."""
    done = {"ansible.builtin.debug": {"msg": "it failed"}}
    inner = [{"block": list(tasks), "rescue": [rescue]}] if rescue else list(tasks)
    return {"block": inner, "rescue": [done]}


def steps(folder: Path) -> list[dict[str, Any]]:
    playbooks = ROOT / "playbooks" / "tasks"
    theirs = {"namespace": "theirs", "name": "theirs"}
    elsewhere = str(folder / "unreachable")
    runtime = {"runtime": "containerd", "installed": {}}
    traces = {"annotations": {"kubegpu.nvidia/ack": "all"}}
    return [
        {"ansible.builtin.set_fact": {"cacheable": True, "kubelet_runtime": runtime}},
        # the node offers three GPUs and two are expected, so that what is asked for never comes true
        attempt(role("verify", verify_image="example.com/image", verify_runtime="none")),
        attempt(role("verify", verify_image="example.com/image", verify_runtime="none", verify_kubeconfig=elsewhere)),
        attempt(role("report", report_path=str(folder / "report.html"))),
        attempt(role("device_plugin", "gpu_users.yml")),
        attempt(role("device_plugin", "gpu_users.yml", device_plugin_kubeconfig=elsewhere)),
        attempt(role("device_plugin")),
        attempt(
            role("device_plugin", "replace.yml", device_plugin_plan={"replaced": [theirs]}),
            rescue=role("device_plugin", "refused.yml"),
        ),
        attempt(role("device_plugin", "traces.yml", device_plugin_plan={"traces": traces})),
        attempt(role("device_plugin", "diagnose.yml")),
        attempt({"ansible.builtin.include_tasks": str(playbooks / "drain.yml")}),
        attempt({"ansible.builtin.include_tasks": str(playbooks / "uncordon.yml")}),
        attempt(
            {"ansible.builtin.include_tasks": str(playbooks / "uncordon.yml"), "vars": {"kubegpu_node_name": "nobody"}}
        ),
    ]


def kubeconfig(path: Path, address: str) -> str:
    """One without secrets of its own."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "one",
                "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
                "clusters": [{"name": "one", "cluster": {"server": address}}],
                "users": [{"name": "one", "user": {"token": "one"}}],
            }
        )
    )
    return str(path)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("leak")
    kubeconfig(folder / "unreachable", "http://127.0.0.1:1")
    with serving(cluster()) as api:
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "kubegpu_kubeconfig": kubeconfig(folder / "kubeconfig", api.address),
            "verify_expected_gpus": 2,
            "verify_registration_timeout": 4,
            "device_plugin_image_source": "registry",
            "device_plugin_image": "example.com/plugin:1",
            "device_plugin_rollout_timeout": 4,
            "kubegpu_drain_options": {"wait_timeout": 10},
        }
        defaults = {"group/kubegpu.nvidia.k8s": {"kubeconfig": variables["kubegpu_kubeconfig"]}}
        play = {"hosts": NODE, "gather_facts": False, "module_defaults": defaults, "tasks": steps(folder)}
        (folder / "play.json").write_text(json.dumps([play]))
        (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": {NODE: variables}}}))
        command = [Path(sys.executable).with_name("ansible-playbook"), "-vvv", "--diff", "-i", "inventory.json"]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [*command, "play.json"],
            env={**environment, "TMPDIR": str(folder)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_nothing_of_other_peoples_objects_is_shown(output: str) -> None:
    task = ""
    shown = []
    for line in output.splitlines():
        task = line if line.startswith("TASK [") else task
        if SECRET in line:
            shown.append(f"{task}: {line[:200]}")
    assert shown == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("nvidia.com/gpu: capacity 3, allocatable 3, expected 2", id="not as expected"),
        pytest.param("FAILED   node                the API server cannot be reached", id="verify cannot read"),
        pytest.param("Pods use GPUs on gpu-1: theirs/trainer (1 x nvidia.com/gpu)", id="users"),
        pytest.param("Cannot read the pods of gpu-1: the API server cannot be reached", id="users cannot be read"),
        pytest.param("The DaemonSet theirs/theirs (image example.com/nvidia-device-plugin", id="another plugin"),
        pytest.param("Wait until its pods have left: this has not happened in 4 s", id="never true"),
        pytest.param("the DaemonSet made no pod for it", id="no pod of ours"),
        pytest.param("gpu-1 was not emptied", id="drain"),
        pytest.param(
            "nobody may still be cordoned: the cluster has no node of this name. To do: set kubegpu_node", id="uncordon"
        ),
    ],
)
def test_the_cause_of_a_failure_is_shown(output: str, words: str) -> None:
    assert words in output
