"""What the real pynvml reads from the simulated library about whole GPUs."""

from __future__ import annotations

import pytest

from tests.sim.nvml import nvmlsim
from tests.unit.sim.conftest import Machine

NOT_SUPPORTED = 3
EACH = "handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]\n"


def test_system(machine: Machine) -> None:
    machine.init("--model", "H100", "--count", 2, "--driver", "550.54.15")
    assert machine.ask(
        "result = [n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetNVMLVersion(),"
        " n.nvmlSystemGetCudaDriverVersion(), n.nvmlDeviceGetCount()]"
    ) == ["550.54.15", "12.550.54.15", 12040, 2]


@pytest.mark.parametrize("key", nvmlsim.MODELS)
def test_model(machine: Machine, key: str) -> None:
    model = nvmlsim.MODELS[key]
    machine.init("--model", key)
    got = machine.ask(
        EACH
        + """
h = handles[0]
pci = n.nvmlDeviceGetPciInfo(h)
result = {
    "name": n.nvmlDeviceGetName(h), "memory": n.nvmlDeviceGetMemoryInfo(h).total >> 20,
    "capability": "%d.%d" % tuple(n.nvmlDeviceGetCudaComputeCapability(h)), "device": pci.pciDeviceId,
    "subsystem": pci.pciSubSystemId, "mig": code_of(n.nvmlDeviceGetMigMode, h) == 0,
    "power": n.nvmlDeviceGetPowerManagementDefaultLimit(h) // 1000, "cores": n.nvmlDeviceGetNumGpuCores(h),
    "architecture": n.nvmlDeviceGetArchitecture(h),
}
"""
    )
    architectures = {"Volta": 5, "Turing": 6, "Ampere": 7, "Ada": 8, "Hopper": 9, "Blackwell": 10}
    assert got == {
        "name": model.name, "memory": model.memory_mib, "capability": model.capability, "device": model.device_id,
        "subsystem": model.subsystem_id, "mig": bool(model.mig), "power": model.power[0], "cores": model.cores,
        "architecture": architectures[model.architecture],
    }  # fmt: skip


def test_sixteen_gpus_have_distinct_identities_and_are_found_by_them(machine: Machine) -> None:
    machine.init("--model", "A100", "--count", 16)
    uuids, buses, minors, found = machine.ask(
        EACH
        + """
uuids = [n.nvmlDeviceGetUUID(h) for h in handles]
buses = [n.nvmlDeviceGetPciInfo(h).busId for h in handles]
minors = [n.nvmlDeviceGetMinorNumber(h) for h in handles]
index = n.nvmlDeviceGetIndex
found = [[index(n.nvmlDeviceGetHandleByUUID(u)), index(n.nvmlDeviceGetHandleByPciBusId(b))]
         for u, b in zip(uuids, buses)]
result = [uuids, buses, minors, found]
"""
    )
    assert len(set(uuids)) == len(set(buses)) == 16
    assert minors == list(range(16))
    assert found == [[i, i] for i in range(16)]


def test_memory_v1_counts_the_reserve_as_used_and_v2_does_not(machine: Machine) -> None:
    machine.init("--model", "T4")
    machine.sim("set", 0, "memory_used_mib", 1000)
    one, two = machine.ask(
        EACH
        + """
a, b = n.nvmlDeviceGetMemoryInfo(handles[0]), n.nvmlDeviceGetMemoryInfo(handles[0], version=n.nvmlMemory_v2)
result = [[a.total >> 20, a.used >> 20, a.free >> 20],
          [b.total >> 20, b.reserved >> 20, b.used >> 20, b.free >> 20]]
"""
    )
    assert one == [15360, 1442, 13918]
    assert two == [15360, 442, 1000, 13918]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param("n.nvmlDeviceGetPowerUsage(h)", 70000, id="power-mW"),
        pytest.param("n.nvmlDeviceGetPowerManagementLimitConstraints(h)", [200000, 700000], id="power-range"),
        pytest.param("n.nvmlDeviceGetTemperature(h, 0)", 31, id="temperature"),
        pytest.param("n.nvmlDeviceGetTemperatureV(h, 0)", 31, id="temperature-v"),
        pytest.param("n.nvmlDeviceGetTemperatureThreshold(h, 1)", 89, id="slowdown"),
        pytest.param("n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM)", 1980, id="sm-clock"),
        pytest.param("n.nvmlDeviceGetUtilizationRates(h).gpu", 0, id="utilisation"),
        pytest.param("n.nvmlDeviceGetEccMode(h)", [1, 1], id="ecc"),
        pytest.param("n.nvmlDeviceGetTotalEccErrors(h, 1, 0)", 0, id="ecc-uncorrected"),
        pytest.param("n.nvmlDeviceGetRemappedRows(h)", [0, 0, 0, 0], id="remapped-rows"),
        pytest.param("n.nvmlDeviceGetRowRemapperHistogram(h).max", 2560, id="row-remapper"),
        pytest.param("n.nvmlDeviceGetCurrPcieLinkGeneration(h)", 5, id="pcie"),
        pytest.param("n.nvmlDeviceGetComputeRunningProcesses(h)", [], id="no-processes"),
        pytest.param("n.nvmlDeviceGetFieldValues(h, [n.NVML_FI_DEV_NVLINK_LINK_COUNT])[0].value.uiVal", 18, id="field"),
        pytest.param("n.nvmlDeviceGetBrand(h)", 14, id="brand"),
    ],
)
def test_idle_h100(machine: Machine, call: str, expected: object) -> None:
    machine.init("--model", "H100")
    assert machine.ask(f"{EACH}h = handles[0]\nresult = {call}") == expected


@pytest.mark.parametrize(
    ("model", "call"),
    [
        pytest.param("T4", "n.nvmlDeviceGetMigMode, h", id="no-mig"),
        pytest.param("T4", "n.nvmlDeviceGetNvLinkState, h, 0", id="no-nvlink"),
        pytest.param("T4", "n.nvmlDeviceGetRemappedRows, h", id="no-row-remapping"),
        pytest.param("H100", "n.nvmlDeviceGetFanSpeed, h", id="no-fan"),
        pytest.param("H100", "n.nvmlDeviceGetRetiredPagesPendingStatus, h", id="no-page-retirement"),
        pytest.param("H100", "n.nvmlDeviceGetNumaNodeId, h", id="memory-not-coherent"),
        pytest.param("RTX-4090", "n.nvmlDeviceGetSerial, h", id="consumer-board"),
        pytest.param("RTX-4090", "n.nvmlDeviceGetTotalEccErrors, h, 0, 0", id="ecc-off"),
        pytest.param("H100", "n.nvmlDeviceSetPersistenceMode, h, 1", id="setter"),
    ],
)
def test_what_a_board_lacks_is_not_supported(machine: Machine, model: str, call: str) -> None:
    machine.init("--model", model)
    assert machine.ask(f"{EACH}h = handles[0]\nresult = code_of({call})") == NOT_SUPPORTED


def test_processes(machine: Machine) -> None:
    machine.init("--model", "T4")
    with machine.state.open("a") as state:
        state.write("process = pid=1 type=C memory_mib=512\nprocess = pid=2 type=G memory_mib=64\n")
    assert machine.ask(
        EACH + "h = handles[0]\nresult = [[(p.pid, p.usedGpuMemory >> 20) for p in call(h)] for call in "
        "(n.nvmlDeviceGetComputeRunningProcesses, n.nvmlDeviceGetGraphicsRunningProcesses)]"
    ) == [[[1, 512]], [[2, 64]]]


def test_retired_pages(machine: Machine) -> None:
    machine.init("--model", "T4")
    with machine.state.open("a") as state:
        state.write("retired_page = cause=dbe address=0x1000 timestamp=5\n")
    assert machine.ask(
        f"{EACH}h = handles[0]\nresult = [n.nvmlDeviceGetRetiredPages(h, cause) for cause in (0, 1)]"
    ) == [[], [4096]]


def test_a_change_shows_in_a_running_process(machine: Machine) -> None:
    machine.init("--model", "T4")
    first, second = machine.ask(
        f"""
h = n.nvmlDeviceGetHandleByIndex(0)
first = n.nvmlDeviceGetTemperature(h, 0)
import subprocess
subprocess.run([sys.executable, {nvmlsim.__file__!r}, "set", "0", "temperature", "77"], check=True)
result = [first, n.nvmlDeviceGetTemperature(h, 0)]
"""
    )
    assert (first, second) == (31, 77)


def test_only_gpus_with_a_device_node_are_seen(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.init("--model", "H100", "--count", 4, device_nodes="on")
    dev = machine.directory / "dev"
    dev.mkdir()
    monkeypatch.setenv("NVML_SIM_DEV", str(dev))
    refused = "result = code_of(n.nvmlInit)"
    assert machine.ask(refused, initialise=False) == 9  # no nvidiactl: driver not loaded
    for name in ("nvidiactl", "nvidia1", "nvidia3"):
        (dev / name).touch()
    numbers = "result = [[n.nvmlDeviceGetIndex(h), n.nvmlDeviceGetMinorNumber(h)] for h in handles]"
    assert machine.ask(EACH + numbers) == [[0, 1], [1, 3]]
