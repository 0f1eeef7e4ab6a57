"""A driver that is not there, a library that does not fit, a GPU that is gone."""

from __future__ import annotations

import subprocess
import sys

from tests.sim.nvml import nvmlsim
from tests.unit.sim.conftest import Machine

NOT_LOADED, LOST, MISMATCH, UNINITIALIZED, INVALID, NOT_FOUND = 9, 15, 18, 1, 2, 6
SIM = f"""
import subprocess
def sim(*words):
    subprocess.run([sys.executable, {nvmlsim.__file__!r}, *words], check=True)
"""


def test_no_state_file_is_no_driver(machine: Machine) -> None:
    assert machine.ask("result = code_of(n.nvmlInit)", initialise=False) == NOT_LOADED


def test_calls_before_init_and_after_shutdown(machine: Machine) -> None:
    machine.init()
    assert machine.ask("n.nvmlShutdown()\nresult = code_of(n.nvmlDeviceGetCount)") == UNINITIALIZED


def test_a_state_file_that_is_no_state_file_is_named_with_its_line(machine: Machine) -> None:
    machine.state.write_text("[system]\nloaded = yes\nnonsense\n")
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env=machine.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"nvml-sim: {machine.state}:3: want [section], key = value or # comment" in done.stderr
    assert done.returncode != 0


def test_unload_reaches_running_processes_and_load_asks_for_a_new_init(machine: Machine) -> None:
    machine.init()
    assert machine.ask(
        SIM
        + """
h = n.nvmlDeviceGetHandleByIndex(0)
sim("unload")
unloaded = [code_of(n.nvmlDeviceGetName, h), code_of(n.nvmlInit)]
sim("load")
stale = code_of(n.nvmlDeviceGetName, h)
n.nvmlShutdown()
n.nvmlInit()
result = [unloaded, stale, code_of(n.nvmlDeviceGetName, n.nvmlDeviceGetHandleByIndex(0))]
"""
    ) == [[NOT_LOADED, NOT_LOADED], NOT_LOADED, 0]


def test_library_mismatch_stops_new_processes_only(machine: Machine) -> None:
    machine.init("--driver", "550.54.15")
    assert machine.ask(SIM + "sim('library-mismatch')\nresult = code_of(n.nvmlDeviceGetCount)") == 0
    assert machine.ask("result = code_of(n.nvmlInit)", initialise=False) == MISMATCH
    machine.sim("load")  # the module that belongs to the library
    assert machine.ask("result = n.nvmlSystemGetDriverVersion()") == "550.55.15"


def test_a_lost_gpu_is_counted_but_answers_nothing(machine: Machine) -> None:
    machine.init("--count", 2)
    assert machine.ask(
        SIM
        + """
h = [n.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
sim("lose", "1")
lost = [n.nvmlDeviceGetCount(), code_of(n.nvmlDeviceGetHandleByIndex, 1), code_of(n.nvmlDeviceGetUUID, h[1]),
        code_of(n.nvmlDeviceGetUUID, h[0])]
sim("restore", "1")
result = [lost, code_of(n.nvmlDeviceGetUUID, h[1])]
"""
    ) == [[2, LOST, LOST, 0], 0]


def test_bad_arguments(machine: Machine) -> None:
    machine.init("--count", 1)
    assert machine.ask(
        """
result = [code_of(n.nvmlDeviceGetHandleByIndex, 1), code_of(n.nvmlDeviceGetHandleByUUID, "GPU-nope"),
          code_of(n.nvmlDeviceGetHandleByPciBusId, "0000:99:00.0"), code_of(n.nvmlDeviceGetHandleByPciBusId, "?"),
          code_of(n.nvmlDeviceGetName, n.c_nvmlDevice_t())]
"""
    ) == [INVALID, NOT_FOUND, NOT_FOUND, INVALID, INVALID]
