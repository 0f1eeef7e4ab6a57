"""libcuda.so.1 of the simulated driver: whether CUDA could start in a container that has these device nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sim.conftest import Machine

SCRIPT = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
count, version = ctypes.c_int(-1), ctypes.c_int(-1)
print(json.dumps([cuda.cuInit(0), cuda.cuDeviceGetCount(ctypes.byref(count)), count.value,
                  cuda.cuDriverGetVersion(ctypes.byref(version)), version.value]))
"""
EVERY = ["nvidiactl", "nvidia-uvm", "nvidia0"]


def ask(machine: Machine, dev: Path) -> list[int]:
    environment = {**machine.environment, "NVML_SIM_DEV": str(dev)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("nodes", "happens", "answer"),
    [
        pytest.param(["nvidiactl", "nvidia-uvm", "nvidia1"], ["show"], [0, 0, 1, 0, 12040], id="one-gpu"),
        pytest.param(["nvidiactl", "nvidia0", "nvidia1"], ["show"], [999, 3, -1, 0, 12040], id="no-uvm"),
        pytest.param(["nvidiactl", "nvidia-uvm"], ["show"], [100, 3, -1, 0, 12040], id="no-gpu"),
        pytest.param(["nvidia-uvm", "nvidia0"], ["show"], [100, 3, -1, 0, 12040], id="no-control-node"),
        pytest.param(EVERY, ["unload"], [100, 3, -1, 0, 12040], id="unloaded"),
        pytest.param(EVERY, ["library-mismatch"], [803, 3, -1, 0, 12040], id="mismatch"),
    ],
)
def test_what_cuda_needs(
    machine: Machine, tmp_path: Path, nodes: list[str], happens: list[object], answer: list[int]
) -> None:
    machine.init("--count", 2, device_nodes="on")
    machine.sim(*happens)
    dev = tmp_path / "dev"
    dev.mkdir()
    for name in nodes:
        (dev / name).touch()
    assert ask(machine, dev) == answer
