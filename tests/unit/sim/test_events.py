"""Event sets: who sees what, when, and at what cost."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.unit.sim.conftest import Machine

TIMEOUT, LOST, NOT_LOADED, NOT_SUPPORTED = 10, 15, 9, 3
WAITER = """
import ctypes
def address(handle):
    return ctypes.cast(handle, ctypes.c_void_p).value
events = n.nvmlEventSetCreate()
index_of = {}  # a GPU that is lost by the time of its event no longer tells its index
for i in range(n.nvmlDeviceGetCount()):
    handle = n.nvmlDeviceGetHandleByIndex(i)
    index_of[address(handle)] = i
    n.nvmlDeviceRegisterEvents(handle, n.nvmlEventTypeXidCriticalError, events)
print("ready", flush=True)
def wait(milliseconds):
    try:
        e = n.nvmlEventSetWait_v2(events, milliseconds)
    except n.NVMLError as error:
        return error.value
    return [index_of[address(e.device)], e.eventType, e.eventData, e.gpuInstanceId, e.computeInstanceId]
"""
NONE = 0xFFFFFFFF


def waiter(machine: Machine, code: str) -> subprocess.Popen[str]:
    """A process that waits already when this returns."""
    child = machine.start(WAITER + code)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def answer(child: subprocess.Popen[str]):
    out, err = child.communicate(timeout=20)
    assert child.returncode == 0, err
    return json.loads(out)


def test_every_waiting_process_sees_every_event_of_after_its_set(machine: Machine) -> None:
    machine.init("--count", 2)
    machine.sim("xid", 0, 31)  # before the sets: nobody sees it
    children = [waiter(machine, "print(json.dumps([wait(10000), wait(10000), wait(50)]))") for _ in range(2)]
    machine.sim("xid", 1, 79)
    machine.sim("xid", 0, 48)
    expected = [[1, 8, 79, NONE, NONE], [0, 8, 48, NONE, NONE], TIMEOUT]
    assert [answer(child) for child in children] == [expected, expected]


def test_timeout_is_kept_and_idle_waiting_costs_no_cpu(machine: Machine) -> None:
    machine.init()
    code = """
cpu, start = time.process_time(), time.monotonic()
status = wait(700)
print(json.dumps([status, time.monotonic() - start, time.process_time() - cpu, wait(0)]))
"""
    status, elapsed, cpu, at_once = answer(waiter(machine, code))
    assert (status, at_once) == (TIMEOUT, TIMEOUT)
    assert elapsed >= 0.69
    assert cpu < elapsed / 2  # a loop that polls without pause would take all of it


def test_mig_instance_of_an_xid(machine: Machine) -> None:
    machine.init("--mig", "3g.40gb")
    child = waiter(machine, "print(json.dumps(wait(10000)))")
    machine.sim("xid", 0, 43, 1, 0)
    assert answer(child) == [0, 8, 43, 1, 0]


def test_only_registered_types_and_gpus_are_delivered(machine: Machine) -> None:
    machine.init("--count", 2)
    assert machine.ask(
        """
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(1), n.nvmlEventTypeDoubleBitEccError, events)
with open(os.environ["NVML_SIM_STATE"].replace("state", "events"), "a") as file:
    file.write("xid 1 79\\nevent 0 0x2 0\\nbroken line\\nevent 1 0x2 7\\nxid 1")
e = n.nvmlEventSetWait_v2(events, 1000)
result = [n.nvmlDeviceGetIndex(e.device), e.eventType, e.eventData, code_of(n.nvmlEventSetWait_v2, events, 10)]
"""
    ) == [1, 2, 7, TIMEOUT]


def test_a_lost_gpu_gives_its_xid_first_and_then_an_error(machine: Machine) -> None:
    machine.init("--count", 2)
    child = waiter(machine, "print(json.dumps([wait(9000)[2], wait(9000)]))")
    machine.sim("lose", 1)
    assert answer(child) == [79, LOST]


def test_unload_wakes_a_waiter(machine: Machine) -> None:
    machine.init()
    child = waiter(machine, "print(json.dumps(wait(20000)))")
    machine.sim("unload")
    assert answer(child) == NOT_LOADED


@pytest.mark.parametrize(("model", "types"), [("H100", 0x1F), ("RTX-4090", 0x1C)])
def test_supported_types(machine: Machine, model: str, types: int) -> None:
    machine.init("--model", model)
    assert machine.ask(
        "h = n.nvmlDeviceGetHandleByIndex(0)\nevents = n.nvmlEventSetCreate()\n"
        "result = [n.nvmlDeviceGetSupportedEventTypes(h), code_of(n.nvmlDeviceRegisterEvents, h, 0x8000, events),"
        " code_of(n.nvmlEventSetFree, events)]"
    ) == [types, NOT_SUPPORTED, 0]


def test_first_version_of_wait_fills_the_shorter_structure(machine: Machine) -> None:
    machine.init()
    assert machine.ask(
        """
import ctypes
class Short(ctypes.Structure):
    _fields_ = [("device", ctypes.c_void_p), ("type", ctypes.c_ulonglong), ("data", ctypes.c_ulonglong),
                ("behind", ctypes.c_ulonglong)]
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(0), 8, events)
with open(os.environ["NVML_SIM_STATE"].replace("state", "events"), "a") as file:
    file.write("xid 0 79\\n")
short = Short(behind=12345)
status = ctypes.CDLL("libnvidia-ml.so.1").nvmlEventSetWait(events, ctypes.byref(short), 1000)
result = [status, short.type, short.data, short.behind]
"""
    ) == [0, 8, 79, 12345]
