"""Machines with simulated GPUs: the real pynvml and a stand-in nvidia-smi on the simulated libnvidia-ml.so.1."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.house import targets

REPOSITORY = Path(__file__).parents[5]
SIMULATION = REPOSITORY / "tests/sim/nvml"
MODULES = "ansible_collections.kubegpu.nvidia.plugins.modules"


@functools.lru_cache(maxsize=1)
def libraries() -> Path:
    """The directory with libnvidia-ml.so.1 and nvidia-smi, built once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="nvml-sim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = subprocess.run(
        ["make", "-s", "-C", str(SIMULATION), f"OUT={folder}"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class SimulatedMachine:
    """A machine with simulated GPUs; /proc and /sys of it lie below ``root``."""

    def __init__(self, folder: Path, *init: str):
        self.folder = folder
        self.root = folder / "root"
        self.state = folder / "state"
        self.environment = {
            **os.environ,
            "NVML_SIM_STATE": str(self.state),
            "LD_LIBRARY_PATH": str(libraries()),
            "PATH": f"{libraries()}:{os.environ['PATH']}",
            "PYTHONPATH": targets.chosen()[1],
            "LC_ALL": "C.UTF-8",
        }
        self.sim("init", "--device-nodes", "off", "--seed", "facts", *init)
        self.record()

    def sim(self, *arguments: str) -> str:
        """Runs the tool that changes the simulated GPUs."""
        command = [sys.executable, str(SIMULATION / "nvmlsim.py"), "--state", str(self.state), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def record(self) -> None:
        """Writes what /proc/driver/nvidia and /sys/bus/pci/devices hold, and the control node."""
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in ("proc/driver/nvidia", "sys/bus/pci/devices", "dev"):
            (self.root / folder).mkdir(parents=True)
        self.sim("proc", str(self.root / "proc/driver/nvidia"))
        self.sim("sysfs", str(self.root / "sys/bus/pci/devices"))
        (self.root / "dev/nvidiactl").touch()

    def module(self, name: str, _check: bool = False, _python: str | None = None, **arguments: object) -> dict:
        """Runs a module as Ansible does, in a process of its own; what it answered."""
        done = subprocess.run(
            [_python or targets.chosen()[0], "-W", "ignore", "-m", f"{MODULES}.{name}"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": _check}}),
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        assert done.stdout.strip(), done.stderr
        return json.loads(done.stdout)

    def facts(self, *sources: str) -> dict:
        """What nvidia_gpu_facts says about this machine."""
        answer = self.module("nvidia_gpu_facts", sources=list(sources), host_root=str(self.root))
        assert answer["changed"] is False
        return answer["ansible_facts"]["nvidia_gpu"]
