"""The module as Ansible runs it, on a recorded machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.kubegpu.nvidia.plugins.modules import kubelet_runtime_facts
from tests.house import targets
from tests.unit.plugins.module_utils.kubelet.machines import Machine

REPOSITORY = Path(__file__).parents[4]
EXPECTED = {
    "kubelet_running": True,
    "kubelet_pid": 4242,
    "endpoint": "unix:///run/containerd/containerd.sock",
    "runtime": "containerd",
    "source": "config file",
    "flavor": "kubeadm",
    "installed": {
        "containerd": {
            "socket": "/run/containerd/containerd.sock",
            "program": "/usr/bin/containerd",
            "version": "1.7.22",
        },
        "docker": {"socket": "/run/docker.sock", "program": None, "version": None},
    },
    "to_set_up": ["docker", "containerd"],
}


@pytest.fixture
def machine(tmp_path):
    return (
        Machine(tmp_path / "root")
        .process(
            4242,
            "/usr/bin/kubelet",
            "--kubeconfig=/etc/kubernetes/kubelet.conf",
            "--config=/var/lib/kubelet/config.yaml",
        )
        .file("/var/lib/kubelet/config.yaml", f"containerRuntimeEndpoint: {EXPECTED['endpoint']}\n")
        .file(
            "/usr/bin/containerd",
            "#!/bin/sh\necho containerd github.com/containerd/containerd v1.7.22 7f7fdf5\n",
            0o755,
        )
        .socket("/run/containerd/containerd.sock")
        .socket("/run/docker.sock")
    )


def run(check=False, **arguments):
    python, path = targets.chosen()
    done = subprocess.run(
        [python, "-m", kubelet_runtime_facts.__name__],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
def test_as_a_process(machine, check):
    answer = run(check, host_root=machine.root)
    assert (answer["changed"], answer["ansible_facts"]) == (False, {"kubelet_runtime": EXPECTED})


def test_the_runtime_to_set_up_can_be_named(machine):
    answer = run(host_root=machine.root, runtime="crio")
    assert answer["ansible_facts"]["kubelet_runtime"] == {**EXPECTED, "to_set_up": ["docker", "crio"]}
    assert "must be one of: auto, docker, containerd, crio" in run(host_root=machine.root, runtime="containerD")["msg"]


def test_without_versions_no_runtime_is_started(machine, tmp_path):
    machine.file("/usr/bin/containerd", f"#!/bin/sh\ntouch {tmp_path}/started\n", 0o755)
    answer = run(host_root=machine.root, versions=False)
    installed = {name: {**runtime, "version": None} for name, runtime in EXPECTED["installed"].items()}
    assert answer["ansible_facts"]["kubelet_runtime"] == {**EXPECTED, "installed": installed}
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("check", [[], ["--check"]], ids=["run", "check"])
def test_through_ansible(machine, check):
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache/collections"),
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    command = [
        str(Path(sys.executable).with_name("ansible")),
        "localhost",
        "-e",
        f"ansible_python_interpreter={sys.executable}",
        "-m",
        "kubegpu.nvidia.kubelet_runtime_facts",
        "-a",
        json.dumps({"host_root": machine.root}),
        *check,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=machine.root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]["localhost"]
    assert (answer["changed"], answer["ansible_facts"]["kubelet_runtime"]) == (False, EXPECTED)


def test_this_very_machine_can_be_asked():
    answer = run()
    assert answer["changed"] is False
    assert set(answer["ansible_facts"]["kubelet_runtime"]) == set(EXPECTED)


def test_bad_arguments_are_named():
    answer = run(root="/")
    assert answer["failed"] is True
    assert "Unsupported parameters for" in answer["msg"]


def test_every_fact_is_documented():
    documented = yaml.safe_load(kubelet_runtime_facts.RETURN)["ansible_facts"]["contains"]["kubelet_runtime"][
        "contains"
    ]
    assert set(documented) == set(EXPECTED)
    runtime = documented["installed"]["contains"]["docker"]["contains"]
    assert set(runtime) == set(EXPECTED["installed"]["docker"])
