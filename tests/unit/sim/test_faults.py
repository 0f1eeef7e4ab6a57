"""Any function can be told to answer any error, while a process has the library loaded."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

from tests.sim.nvml import nvmlsim
from tests.unit.sim.conftest import Machine

LOST, TIMEOUT, UNKNOWN = 15, 10, 999
SIM = f"""
import subprocess
def sim(*words):
    subprocess.run([sys.executable, {nvmlsim.__file__!r}, *words], check=True)
"""
HANDLES = SIM + "h = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]\n"


def uuid(machine: Machine, gpu: int) -> str:
    return nvmlsim.load(machine.state).gpu(gpu).get("uuid") or ""


@pytest.mark.parametrize("by_uuid", [False, True])
def test_one_gpu_of_a_running_process_until_it_is_taken_back(machine: Machine, by_uuid: bool) -> None:
    machine.init("--count", 3)
    name = uuid(machine, 1) if by_uuid else "1"
    assert machine.ask(
        HANDLES
        + f"""
def asked():
    return [code_of(n.nvmlDeviceGetMemoryInfo, x) for x in h] + [code_of(n.nvmlDeviceGetUUID, h[1])]
before = asked()
sim("fail", "nvmlDeviceGetMemoryInfo", "--code", "15", "--gpu", {name!r})
during = asked()
sim("fail", "--clear")
result = [before, during, asked()]
"""
    ) == [[0] * 4, [0, LOST, 0, 0], [0] * 4]


def test_a_number_of_calls(machine: Machine) -> None:
    machine.init()
    assert machine.ask(
        HANDLES
        + """
sim("fail", "nvmlDeviceGetName", "--code", "999", "--calls", "2")
first = code_of(n.nvmlDeviceGetName, h[0])
sim("set", "0", "temperature", "50")  # whatever else changes, calls that were made stay counted
second = [code_of(n.nvmlDeviceGetName, h[0]) for i in range(3)]
sim("fail", "nvmlDeviceGetName", "--code", "999", "--calls", "1")
result = [first, *second, code_of(n.nvmlDeviceGetName, h[0]), code_of(n.nvmlDeviceGetName, h[0])]
"""
    ) == [999, 999, 0, 0, 999, 0]


def test_several_are_taken_back_one_by_one(machine: Machine) -> None:
    machine.init()
    for words in (
        ["nvmlDeviceGetName", "--code", 6],
        ["nvmlDeviceGetUUID", "--code", 9],
        ["--clear", "nvmlDeviceGetName"],
    ):
        machine.sim("fail", *words)
    asked = "result = [code_of(n.nvmlDeviceGetName, h[0]), code_of(n.nvmlDeviceGetUUID, h[0])]"
    assert machine.ask(HANDLES + asked) == [0, 9]


def exported(machine: Machine) -> list[str]:
    library = machine.library / "libnvidia-ml.so.1"
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return re.findall(r" T (nvml\w+)$", listed, re.MULTILINE)


def test_every_function_can_be_told(machine: Machine) -> None:
    """Called with nothing but zeros, which without the fault would be an invalid argument or worse."""
    machine.init()
    names = exported(machine)
    assert len(names) > 180
    machine.sim("fail", "nvml*", "--code", UNKNOWN)
    result = machine.ask(
        f"""
import ctypes
library = ctypes.CDLL("libnvidia-ml.so.1")
library.nvmlErrorString.restype = ctypes.c_char_p
zeros = [ctypes.c_void_p()] * 6
result = {{name: getattr(library, name)(*zeros) for name in {names!r} if name != "nvmlErrorString"}}
result["nvmlErrorString"] = library.nvmlErrorString(0).decode()
""",
        initialise=False,
    )
    assert result.pop("nvmlErrorString") == "Unknown Error"
    assert {name: code for name, code in result.items() if code != UNKNOWN} == {}
    assert len(result) == len(names) - 1


WAYS = """
ways = [lambda: n.nvmlDeviceGetHandleByIndex(1), lambda: n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h[1])),
        lambda: n.nvmlDeviceGetHandleByPciBusId(n.nvmlDeviceGetPciInfo(h[1]).busId),
        lambda: n.nvmlDeviceGetHandleBySerial(n.nvmlDeviceGetSerial(h[1]))]
result = [code_of(way) for way in ways] + [code_of(n.nvmlDeviceGetHandleByIndex, i) for i in (0, 2)]
"""


def test_a_gpu_can_be_without_a_handle(machine: Machine) -> None:
    machine.init("--count", 3)
    lost = 'sim("fail", "nvmlDeviceGetHandleBy*", "--code", "15", "--gpu", "1")\n'
    assert machine.ask(HANDLES + lost + WAYS) == [LOST] * 4 + [0, 0]


def test_mig_devices(machine: Machine) -> None:
    machine.init("--mig", "3g.40gb,1g.10gb", "--count", 2)
    migs = HANDLES + "m = [n.nvmlDeviceGetMigDeviceHandleByIndex(h[0], i) for i in range(2)]\n"
    asked = "result = [code_of(n.nvmlDeviceGetName, x) for x in (m[0], m[1], h[0], h[1])]"
    first = nvmlsim.fields_of(nvmlsim.load(machine.state).gpu(0).values("mig")[0])["uuid"]
    machine.sim("fail", "nvmlDeviceGetName", "--code", UNKNOWN, "--gpu", first)
    assert machine.ask(migs + asked) == [UNKNOWN, 0, 0, 0]
    machine.sim("fail", "--clear")
    machine.sim("fail", "nvmlDeviceGetName", "--code", UNKNOWN, "--gpu", 0)
    assert machine.ask(migs + asked) == [UNKNOWN, UNKNOWN, UNKNOWN, 0]
    machine.sim("fail", "--clear")
    machine.sim("fail", "nvmlGpuInstanceGetInfo", "--code", UNKNOWN, "--gpu", 0)
    instances = "i = [n.nvmlDeviceGetGpuInstanceById(x, 1) for x in h]\n"
    assert machine.ask(HANDLES + instances + "result = [code_of(n.nvmlGpuInstanceGetInfo, x) for x in i]") == [
        UNKNOWN,
        0,
    ]


def test_init_shutdown_and_event_sets(machine: Machine) -> None:
    machine.init()
    machine.sim("fail", "nvmlInitWithFlags", "--code", 17, "--calls", 1)
    machine.sim("fail", "nvmlShutdown", "--code", 18, "--calls", 1)
    machine.sim("fail", "nvmlEventSetCreate", "--code", 25, "--calls", 1)
    assert machine.ask(
        """
result = [code_of(n.nvmlInit), code_of(n.nvmlInit), code_of(n.nvmlEventSetCreate), code_of(n.nvmlEventSetCreate),
          code_of(n.nvmlShutdown), code_of(n.nvmlShutdown), code_of(n.nvmlShutdown)]
""",
        initialise=False,
    ) == [17, 0, 25, 0, 18, 0, 1]


def test_who_waits_for_events_is_told_at_once(machine: Machine) -> None:
    machine.init()
    child = machine.start(
        """
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(0), 8, events)
print("waiting", flush=True)
began = time.monotonic()
code = code_of(n.nvmlEventSetWait_v2, events, 20000)
print(json.dumps([code, time.monotonic() - began]))
"""
    )
    assert child.stdout
    assert child.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    machine.sim("fail", "nvmlEventSetWait_v2", "--code", UNKNOWN, "--calls", 1)
    code, seconds = json.loads(child.communicate(timeout=30)[0])
    assert code == UNKNOWN
    assert seconds < 15


def test_a_function_that_uses_another_is_not_concerned(machine: Machine) -> None:
    machine.init("--model", "RTX-4090")
    machine.sim("fail", "nvmlDeviceGetNumFans", "--code", UNKNOWN)
    asked = "result = [code_of(n.nvmlDeviceGetNumFans, h[0]), code_of(n.nvmlDeviceGetFanSpeed_v2, h[0], 1)]"
    assert machine.ask(HANDLES + asked) == [UNKNOWN, 0]


def test_nvidia_smi_prints_the_error_in_place_of_the_value(machine: Machine) -> None:
    machine.init("--count", 2)
    machine.sim("fail", "nvmlDeviceGetTemperature", "--code", 16, "--gpu", 1)
    done = machine.smi("--query-gpu=temperature.gpu", "--format=csv,noheader")
    assert done.stdout.splitlines() == ["31 C", "[GPU requires restart]"]


def test_calls_are_recorded(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.init()
    calls = machine.directory / "calls"
    monkeypatch.setenv("NVML_SIM_CALLS", str(calls))
    machine.ask("result = [n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByIndex(0)) for i in range(3)]")
    assert calls.read_text().split() == ["nvmlInitWithFlags", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetName"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param([], "None is no function of NVML", id="no-function"),
        pytest.param(["a b", "--code", "3"], "'a b' is no function of NVML", id="two-words"),
        pytest.param(["nvmlInit_v2"], "--code: want an error of NVML", id="no-code"),
        pytest.param(["nvmlInit_v2", "--code", "0"], "--code: want an error of NVML", id="success"),
        pytest.param(["nvmlInit_v2", "--code", "3", "--calls", "0"], "--calls 0: want 1 or more", id="calls"),
        pytest.param(["nvmlInit_v2", "--code", "3", "--gpu", "7"], "no GPU and no MIG device '7'", id="gpu"),
    ],
)
def test_messages(machine: Machine, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    machine.init()
    assert nvmlsim.main(["--state", str(machine.state), "fail", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_change_by_hand_is_seen_without_being_counted(machine: Machine) -> None:
    machine.init()
    assert machine.ask(
        """
h = n.nvmlDeviceGetHandleByIndex(0)
before = n.nvmlDeviceGetTemperature(h, 0)
path = os.environ["NVML_SIM_STATE"]
text = open(path).read()
open(path, "w").write(text.replace("\\ntemperature = 31\\n", "\\ntemperature = 32\\n"))
time.sleep(0.01)
after = n.nvmlDeviceGetTemperature(h, 0)
os.remove(os.path.join(os.path.dirname(path), "generation"))
open(path, "w").write(text)
result = [before, after]
while n.nvmlDeviceGetTemperature(h, 0) != 31:
    time.sleep(0.01)
"""
    ) == [31, 32]
