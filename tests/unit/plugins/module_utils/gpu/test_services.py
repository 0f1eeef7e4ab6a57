"""The driver's daemons, found among real and recorded processes."""

import os
import shutil
import subprocess
import time

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import services
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu


def process(root, number, name):
    (root / "proc" / str(number)).mkdir(parents=True)
    (root / "proc" / str(number) / "comm").write_text(name[:15] + "\n")


def test_both_run(tmp_path):
    process(tmp_path, 1, "systemd")
    process(tmp_path, 70, "nvidia-persistenced")
    process(tmp_path, 71, "nv-fabricmanager")
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/nvidia-persistenced").touch()
    assert services.read(str(tmp_path)) == {
        "persistenced": {"installed": True, "running": True},
        "fabric_manager": {"installed": False, "running": True},
    }


def test_neither_is_there(tmp_path):
    process(tmp_path, 1, "nvidia-smi")
    (tmp_path / "proc/driver").mkdir()
    expected = {"installed": False, "running": False}
    assert services.read(str(tmp_path)) == {"persistenced": expected, "fabric_manager": expected}


def test_a_process_of_this_machine(tmp_path):
    # a name that nobody else's process has, longer than the kernel keeps (15 bytes, proc(5))
    program = tmp_path / f"fm{os.getpid():08d}-fabricmanager"
    shutil.copy(shutil.which("sleep"), program)
    kept = program.name[:15]
    assert kept not in services.process_names()
    with subprocess.Popen([str(program), "60"]) as running:
        try:
            # exec closes the pipe that Popen waits for a moment before it sets the name
            deadline = time.monotonic() + 30
            while kept not in services.process_names() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert kept in services.process_names()
        finally:
            os.kill(running.pid, 15)


def gpu(state):
    made = empty_gpu()
    made["fabric"]["state"] = state
    return made


@pytest.mark.parametrize(
    ("kinds", "states", "needed", "fabric_state"),
    [
        pytest.param(["gpu"], [None], False, None, id="one-card"),
        pytest.param(["gpu", "nvswitch"], [None], True, None, id="switches-whose-driver-says-nothing"),
        pytest.param(["gpu"], ["completed", "completed"], True, "completed", id="registered"),
        pytest.param(["gpu"], ["completed", "in_progress"], True, "in_progress", id="the-slowest-counts"),
    ],
)
def test_who_needs_a_fabric_manager(kinds, states, needed, fabric_state):
    devices = [{"kind": kind} for kind in kinds]
    daemon = {"installed": True, "running": False}
    found = services.fabric_manager(daemon, devices, [gpu(state) for state in states])
    assert found == {**daemon, "needed": needed, "fabric_state": fabric_state}
