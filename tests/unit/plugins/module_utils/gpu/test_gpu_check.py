"""The script for machines with real GPUs, on simulated ones: it agrees where it should, and sees what is wrong."""

import shutil
import subprocess
import sys

import pytest

from tests.unit.plugins.module_utils.gpu.simulated import REPOSITORY, SimulatedMachine


def check(machine, *arguments):
    environment = {key: value for key, value in machine.environment.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", "tests.gpu.check", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=REPOSITORY,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "init",
    [
        pytest.param(["--model", "T4", "--driver", "470.223.02"], id="t4"),
        pytest.param(["--model", "A100-80", "--mig", "1g.10gb,2g.20gb"], id="a100-mig"),
        pytest.param(["--model", "RTX-4090", "--count", "2"], id="geforce"),
    ],
)
def test_facts_and_nvidia_smi_agree(tmp_path, init):
    done = check(SimulatedMachine(tmp_path, *init), "--no-daemon")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| ok |" in done.stdout
    assert "DIFFERS |" not in done.stdout


def test_the_device_plugin_runs_on_these_gpus_and_nothing_secret_is_printed(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "H100", "--count", "2")
    done = check(machine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| offers the GPUs of the facts | 2 | 2 | ok |" in done.stdout
    assert "| ends on SIGTERM with status | 0 | 0 | ok |" in done.stdout
    for gpu in machine.facts("nvml")["gpus"]:
        assert gpu["uuid"] not in done.stdout
        assert gpu["serial"] not in done.stdout


def tampered(machine, old, new):
    """An nvidia-smi that changes the real one's words."""
    folder = machine.folder / "bin"
    folder.mkdir()
    program = shutil.which("nvidia-smi", path=machine.environment["PATH"])
    (folder / "nvidia-smi").write_text(f'#!/bin/sh\n{program} "$@" | sed "s|{old}|{new}|"\n')
    (folder / "nvidia-smi").chmod(0o755)
    machine.environment["PATH"] = f"{folder}:{machine.environment['PATH']}"


@pytest.mark.parametrize(
    ("old", "new", "row"),
    [
        pytest.param(
            "700.00 W", "650.00 W", "| 0: power.limit_watts | 700.0 | 650.0 | 650.0 | DIFFERS |", id="a-value"
        ),
        pytest.param(">16x<", ">N/A<", "| 0: pci.link_width_max | 16 | 16 | - | DIFFERS |", id="a-value-is-missing"),
        pytest.param(
            "<gpu_temp>31 C",
            "<gpu_temp>33 C",
            "| 0: temperature.gpu_celsius | 31 | 31 | 33 | moves |",
            id="what-moves-may-move",
        ),
    ],
)
def test_differences_are_seen(tmp_path, old, new, row):
    machine = SimulatedMachine(tmp_path, "--model", "H100")
    tampered(machine, old, new)
    done = check(machine, "--no-daemon", "--brief")
    assert row in done.stdout
    assert done.returncode == ("DIFFERS" in row)


def test_a_machine_without_a_driver_is_told_so(tmp_path):
    machine = SimulatedMachine(tmp_path)
    machine.sim("unload")
    done = check(machine)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
