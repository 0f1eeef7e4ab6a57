"""The module as Ansible runs it, on machines with simulated GPUs and on one without."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.kubegpu.nvidia.plugins.modules import nvidia_gpu_facts
from tests.unit.plugins.module_utils.gpu.simulated import REPOSITORY, SimulatedMachine


@pytest.fixture
def machine(tmp_path):
    return SimulatedMachine(tmp_path, "--model", "H100", "--count", "2", "--mig", "1:1g.10gb")


def ansible(machine, *arguments, expect=0):
    """What ``ansible localhost -m`` prints for this machine."""
    environment = {
        **machine.environment,
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache/collections"),
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_LOCAL_TEMP": str(machine.folder / "tmp"),
    }
    del environment["PYTHONPATH"]
    command = [
        str(Path(sys.executable).with_name("ansible")),
        "localhost",
        "-e",
        f"ansible_python_interpreter={sys.executable}",
        "-m",
        "kubegpu.nvidia.nvidia_gpu_facts",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=machine.folder, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]["localhost"]


@pytest.mark.parametrize("check", [[], ["--check"]], ids=["run", "check"])
def test_through_ansible(machine, check):
    answer = ansible(machine, "-a", json.dumps({"host_root": str(machine.root)}), *check)
    assert answer["changed"] is False
    assert answer["ansible_facts"]["nvidia_gpu"] == machine.facts("nvml")


def test_check_mode_gives_the_same_facts(machine):
    arguments = {"host_root": str(machine.root)}
    assert machine.module("nvidia_gpu_facts", _check=True, **arguments) == machine.module(
        "nvidia_gpu_facts", **arguments
    )


def test_a_machine_without_gpu_is_no_failure(tmp_path, machine):
    empty = tmp_path / "empty"
    empty.mkdir()
    machine.environment["LD_LIBRARY_PATH"] = str(empty)
    machine.environment["PATH"] = os.environ["PATH"]
    answer = machine.module("nvidia_gpu_facts", host_root=str(empty))
    facts = answer["ansible_facts"]["nvidia_gpu"]
    assert (answer["changed"], facts["present"], facts["driver_loaded"], facts["gpus"]) == (False, False, False, [])
    assert facts["problem"]["code"] == "no_device"


def test_a_driver_that_hangs_costs_the_time_that_was_given(machine):
    (machine.folder / "pynvml.py").write_text(
        "import time\nclass NVMLError(Exception): pass\ndef nvmlInit(): time.sleep(60)\n"
    )
    machine.environment["PYTHONPATH"] = f"{machine.folder}:{machine.environment['PYTHONPATH']}"
    answer = machine.module("nvidia_gpu_facts", host_root=str(machine.root), gather_timeout=0.5)
    assert answer["ansible_facts"]["nvidia_gpu"]["problem"]["code"] == "timeout"


def in_front_of_nvidia_smi(machine, script):
    """A program of the same name that does something first."""
    program = machine.folder / "bin/nvidia-smi"
    program.parent.mkdir()
    real = shutil.which("nvidia-smi", path=machine.environment["PATH"])
    program.write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
    program.chmod(0o755)
    machine.environment["PATH"] = f"{program.parent}:{machine.environment['PATH']}"


def test_the_time_is_for_all_calls_of_nvidia_smi_together(machine):
    everything = machine.facts("nvidia-smi")
    hangs = machine.folder / "hangs"
    in_front_of_nvidia_smi(machine, f'test "$1" = -q || {{ echo "$*" >>{hangs}; exec sleep 60; }}')
    answer = machine.module("nvidia_gpu_facts", sources=["nvidia-smi"], host_root=str(machine.root), gather_timeout=5)
    # The first of the four calls that hang takes all that is left; no other is begun.
    assert len(hangs.read_text().splitlines()) == 1
    facts = answer["ansible_facts"]["nvidia_gpu"]
    assert (facts["source"], facts["count"], facts["problem"]) == ("nvidia-smi", 2, None)
    assert "nvidia-smi nvlink: " in json.dumps(answer["warnings"])
    for told, whole in zip(facts["gpus"], everything["gpus"], strict=True):
        assert (told["uuid"], told["power"]) == (whole["uuid"], whole["power"])
        assert (told["compute_capability"], told["nvlink"]["links_total"]) == (None, None)


@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_a_user_who_may_not_talk_to_the_driver(machine, source):
    # The simulated driver lets everybody in: both answer as the real ones do where /dev/nvidiactl cannot be opened.
    (machine.folder / "pynvml.py").write_text(
        "class NVMLError(Exception):\n    value = 4\ndef nvmlInit(): raise NVMLError('Insufficient Permissions')\n"
    )
    machine.environment["PYTHONPATH"] = f"{machine.folder}:{machine.environment['PYTHONPATH']}"
    in_front_of_nvidia_smi(machine, "echo 'Failed to initialize NVML: Insufficient Permissions'; exit 4")
    facts = machine.facts(source)
    assert (facts["source"], facts["driver_loaded"], facts["reboot_required"]) == ("sysfs", True, False)
    assert facts["problem"]["code"] == "no_permission"
    assert "Insufficient Permissions" in facts["problem"]["message"]
    assert "become: true" in facts["problem"]["hint"]
    # What everybody may read is there all the same.
    assert [gpu["name"] for gpu in facts["gpus"]] == ["NVIDIA H100 80GB HBM3"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gather_timeout": 0}, "gather_timeout: 0 is not a number of seconds above 0"),
        ({"gather_timeout": "soon"}, "gather_timeout"),
        ({"sources": ["lspci"]}, "value of sources must be one or more of: nvml, nvidia-smi. Got no match for: lspci"),
        ({"host": "/"}, "Unsupported parameters for"),
    ],
)
def test_bad_arguments_are_named(machine, arguments, message):
    answer = machine.module("nvidia_gpu_facts", **arguments)
    assert answer["failed"] is True
    assert message in answer["msg"]


def paths(documented, prefix=""):
    """Every documented key, as ``gpus.pci.bus_id``."""
    found = set()
    for name, entry in documented.items():
        found.add(prefix + name)
        found |= paths(entry.get("contains", {}), f"{prefix}{name}.")
    return found


def keys(value, prefix=""):
    """Every key of facts, in the same spelling."""
    if isinstance(value, list):
        return {path for item in value for path in keys(item, prefix)}
    if not isinstance(value, dict):
        return set()
    return {path for name, inner in value.items() for path in {prefix + name} | keys(inner, f"{prefix}{name}.")}


def test_every_fact_is_documented(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "H100", "--count", "2", "--mig", "1:1g.10gb", "--nvswitches", "4")
    with machine.state.open("a") as state:
        state.write("process = pid=1 type=C memory_mib=512 gi=1 ci=0\n")  # of the last GPU
    documented = yaml.safe_load(nvidia_gpu_facts.RETURN)["ansible_facts"]["contains"]["nvidia_gpu"]["contains"]
    facts = machine.facts("nvml")
    # These are described in a sentence and a sample of the whole.
    flat = ("devices_on_pci", "toolkit", "library", "kernel")
    for name in flat:
        sample = documented[name]["sample"]
        assert keys(sample) == keys(facts[name]), name
    # A problem and a GPU that is not healthy are in the tests of those.
    expected = {path for path in keys(facts) if path.partition(".")[0] not in flat or "." not in path}
    assert expected <= paths(documented)
    assert paths(documented) - expected == {"problem.code", "problem.message", "problem.hint"}
    assert keys(documented["gpus"]["sample"]) == keys(facts["gpus"])


@pytest.mark.parametrize(
    ("subset", "asked", "gpus"),
    [
        (["all"], True, 2),
        (["!all"], True, 0),
        (["!all", "!min", "host"], False, 0),
        (["!all", "power"], True, 2),
        (["!gpus"], True, 0),
    ],
)
@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_subsets_leave_the_shape_as_it_is(machine, subset, asked, gpus, source):
    everything = machine.facts(source)
    answer = machine.module("nvidia_gpu_facts", gather_subset=subset, sources=[source], host_root=str(machine.root))
    facts = answer["ansible_facts"]["nvidia_gpu"]
    assert (facts["source"] == source) is asked
    assert len(facts["gpus"]) == gpus
    assert facts["count"] == everything["count"]
    assert facts["driver_version"] == everything["driver_version"]
    assert facts["problem"] is None or not asked
    assert facts.keys() == everything.keys()
    assert not gpus or keys(facts["gpus"][0]) - {"health"} <= keys(everything["gpus"][0])
    if subset == ["!all", "power"]:
        assert facts["gpus"][0]["power"] == everything["gpus"][0]["power"]
        assert facts["gpus"][0]["ecc"]["mode"] is None
        assert (facts["topology"], facts["kernel"]["release"], facts["persistenced"]["running"]) == (None, None, None)


def test_a_subset_that_does_not_exist_is_named(machine):
    answer = machine.module("nvidia_gpu_facts", gather_subset=["gpu"], host_root=str(machine.root))
    assert answer["failed"] is True
    assert answer["msg"].startswith("gather_subset: 'gpu' is not one of all, min, clocks, driver, ecc, gpus, host")


def test_pynvml_of_a_virtual_environment_goes_before_the_own_one(machine, tmp_path):
    packages = tmp_path / "venv/lib/python3.9/site-packages"
    packages.mkdir(parents=True)
    (packages / "pynvml.py").write_text(
        "class NVMLError(Exception):\n    value = 18\ndef nvmlInit(): raise NVMLError('from the environment')\n"
    )
    answer = machine.module("nvidia_gpu_facts", virtualenv=str(tmp_path / "venv"), host_root=str(machine.root))
    problem = answer["ansible_facts"]["nvidia_gpu"]["problem"]
    assert (problem["code"], "NVML: from the environment" in problem["message"]) == ("version_mismatch", True)


def test_a_virtual_environment_without_pynvml_is_no_failure(machine, tmp_path):
    answer = machine.module("nvidia_gpu_facts", virtualenv=str(tmp_path / "none"), host_root=str(machine.root))
    assert answer["ansible_facts"]["nvidia_gpu"] == machine.facts("nvml")


def test_options_are_those_that_are_documented(machine):
    documented = yaml.safe_load(nvidia_gpu_facts.DOCUMENTATION)["options"]
    answer = machine.module("nvidia_gpu_facts", no_such_option=1)
    assert answer["msg"].endswith("Supported parameters include: " + ", ".join(sorted(documented)) + ".")
