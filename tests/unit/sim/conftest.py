"""A simulated machine for each test: its own state, the real pynvml in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sim.nvml import nvmlsim
from tests.unit import nvml_build

NVML_SOURCES = Path(nvmlsim.__file__).parent
PRELUDE = """
import json, os, sys, time
import pynvml as n
def code_of(call, *arguments):
    try:
        call(*arguments)
    except n.NVMLError as error:
        return error.value
    return 0
def give_up_capabilities():
    import ctypes
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, nothing) == 0
"""


@dataclass
class Machine:
    """One state file and what looks at it."""

    directory: Path
    library: Path

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "NVML_SIM_STATE": str(self.state), "LD_LIBRARY_PATH": str(self.library),
            "NVML_SIM_EVENTS": "",
        }  # fmt: skip

    def sim(self, *arguments: object) -> None:
        """Run the command line in this process; a failure fails the test."""
        assert nvmlsim.main(["--state", str(self.state), *map(str, arguments)]) == 0

    def init(self, *arguments: object, device_nodes: str = "off") -> None:
        self.sim("init", "--seed", "test", "--device-nodes", device_nodes, *arguments)

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start Python with pynvml, initialised; what it prints is for the test to read."""
        return subprocess.Popen(
            [sys.executable, "-c", PRELUDE + "n.nvmlInit()\n" + textwrap.dedent(code)],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, code: str, *, initialise: bool = True):
        """Run code that sets `result` and return that; what it raises fails the test."""
        start = "n.nvmlInit()\n" if initialise else ""
        script = PRELUDE + start + textwrap.dedent(code) + "\nprint(json.dumps(result))"
        done = subprocess.run(
            [sys.executable, "-c", script], env=self.environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def smi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.library / "nvidia-smi"), *arguments],
            env=self.environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip


@pytest.fixture(scope="session")
def nvml_library() -> Path:
    """The directory with libnvidia-ml.so.1 and nvidia-smi."""
    try:
        return nvml_build.library()
    except nvml_build.MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture
def machine(tmp_path: Path, nvml_library: Path) -> Machine:
    return Machine(tmp_path, nvml_library)
