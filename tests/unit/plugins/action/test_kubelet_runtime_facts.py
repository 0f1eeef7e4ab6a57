"""The action as Ansible runs it, on a recorded machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.kubegpu.nvidia.plugins.action import kubelet_runtime_facts as action
from ansible_collections.kubegpu.nvidia.plugins.modules import kubelet_runtime_facts
from tests.unit.plugins.plugin_utils.kubelet.machines import Machine

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
        .program("/usr/bin/containerd", "containerd github.com/containerd/containerd v1.7.22 7f7fdf5")
        .socket("/run/containerd/containerd.sock")
        .socket("/run/docker.sock")
    )


def run(*options, **arguments):
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
        # a target needs none
        *("-e", "ansible_python_interpreter=/does/not/exist"),
        *("-m", "kubegpu.nvidia.kubelet_runtime_facts", "-a", json.dumps(arguments) if arguments else ""),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=False)
    assert "{" in done.stdout, done.stdout + done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"][0]["hosts"]["localhost"]


@pytest.mark.parametrize("check", [[], ["--check"]], ids=["run", "check"])
def test_through_ansible(machine, check):
    answer = run(*check, host_root=machine.root)
    assert (answer["changed"], answer["ansible_facts"]) == (False, {"kubelet_runtime": EXPECTED})


def test_the_runtime_to_set_up_can_be_named_and_versions_be_left_out(machine, tmp_path):
    machine.file("/usr/bin/containerd", f"#!/bin/sh\ntouch {tmp_path}/started\n", 0o755)
    answer = run(host_root=machine.root, runtime="crio", versions=False)
    installed = {name: {**runtime, "version": None} for name, runtime in EXPECTED["installed"].items()}
    expected = {**EXPECTED, "to_set_up": ["docker", "crio"], "installed": installed}
    assert answer["ansible_facts"]["kubelet_runtime"] == expected
    assert not (tmp_path / "started").exists()


def test_this_very_machine_can_be_asked():
    answer = run()
    assert answer["changed"] is False
    assert set(answer["ansible_facts"]["kubelet_runtime"]) == set(EXPECTED)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"root": "/"}, "Unsupported parameters.*root"),
        ({"runtime": "containerD"}, "must be one of: auto, docker, containerd, crio"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    answer = run(**arguments)
    assert answer["failed"] is True
    assert re.search(said, answer["msg"]), answer


def test_a_shell_that_cannot_be_started_is_named():
    answer = run("-e", "ansible_shell_executable=/does/not/exist")
    assert answer["failed"] is True
    assert "The machine's shell could not look at its kubelet" in answer["msg"]
    assert "/does/not/exist" in answer["msg"]


def test_the_arguments_are_as_documented():
    """Of a module, ansible-test says so."""
    options = yaml.safe_load(kubelet_runtime_facts.DOCUMENTATION)["options"]
    told = {
        name: {key: option[key] for key in ("type", "choices", "default") if key in option}
        for name, option in options.items()
    }
    assert told == action.ARGUMENTS


def test_every_fact_is_documented():
    documented = yaml.safe_load(kubelet_runtime_facts.RETURN)["ansible_facts"]["contains"]["kubelet_runtime"][
        "contains"
    ]
    assert set(documented) == set(EXPECTED)
    runtime = documented["installed"]["contains"]["docker"]["contains"]
    assert set(runtime) == set(EXPECTED["installed"]["docker"])
