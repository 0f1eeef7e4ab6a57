"""Reading NVML through a binding whose functions fail in every way that drivers know."""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import nvml
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, DRIVER_NOT_LOADED = 3, 4, 6, 9
LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, LOST, MISMATCH, UNKNOWN = 12, 13, 15, 18, 999


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(f"code {value}")
        self.value = value


class NVMLLibraryMismatchError(Exception):
    """pynvml's, which is no NVMLError."""


def memory(total, used):
    return SimpleNamespace(total=total, used=used, free=total - used)


ANSWERS = {
    "nvmlSystemGetDriverVersion": "550.54.15",
    "nvmlSystemGetCudaDriverVersion": 12040,
    "nvmlSystemGetNVMLVersion": "12.550.54.15",
    "nvmlDeviceGetMinorNumber": 3,
    "nvmlDeviceGetUUID": "GPU-a",
    "nvmlDeviceGetName": "NVIDIA A100-SXM4-40GB",
    "nvmlDeviceGetBrand": 14,
    "nvmlDeviceGetArchitecture": 7,
    "nvmlDeviceGetCudaComputeCapability": (8, 0),
    "nvmlDeviceGetSerial": "132",
    "nvmlDeviceGetVbiosVersion": "92.00",
    "nvmlDeviceGetPciInfo": SimpleNamespace(
        busId="00000000:07:00.0", pciDeviceId=0x20B010DE, pciSubSystemId=0x144F10DE
    ),
    "nvmlDeviceGetCurrPcieLinkGeneration": 4,
    "nvmlDeviceGetMaxPcieLinkGeneration": 4,
    "nvmlDeviceGetCurrPcieLinkWidth": 16,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetMigMode": [0, 1],
    "nvmlDeviceGetMemoryInfo": memory(42949672960, 5),
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetTotalEccErrors": 2,
    "nvmlDeviceGetRetiredPages": [0x1000, 0x2000],
    "nvmlDeviceGetRetiredPagesPendingStatus": 1,
    "nvmlDeviceGetRemappedRows": (1, 2, 1, 0),
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetComputeMode": 3,
    "nvmlDeviceGetPerformanceState": 2,
    "nvmlDeviceGetVirtualizationMode": 1,
    "nvmlDeviceGetPowerUsage": 51234,
    "nvmlDeviceGetPowerManagementDefaultLimit": 400000,
    "nvmlDeviceGetPowerManagementLimitConstraints": [100000, 400000],
    "nvmlDeviceGetMaxClockInfo": 1410,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x48,
    "nvmlDeviceGetEnforcedPowerLimit": 400000,
    "nvmlDeviceGetClockInfo": 210,
    "nvmlDeviceGetTemperature": 29,
    "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=1, usedGpuMemory=5), SimpleNamespace(pid=2)],
    "nvmlDeviceGetGraphicsRunningProcesses": [SimpleNamespace(pid=2)],
}


class FakeBinding:
    """The functions that facts ask for: an answer that is an exception is raised."""

    def __init__(self, count=1, init=None, handle=None, **changes):
        self.NVMLError = NVMLError
        self.NVMLLibraryMismatchError = NVMLLibraryMismatchError
        self.sessions = []
        answers = {**ANSWERS, "nvmlDeviceGetCount": count, "nvmlDeviceGetHandleByIndex": handle or "handle", **changes}
        for name, answer in answers.items():
            setattr(self, name, self.function(answer))
        self.nvmlInit = self.function(init, "open")
        self.nvmlShutdown = self.function(None, "close")

    def function(self, answer, record=None):
        def call(*arguments):
            if isinstance(answer, Exception):
                raise answer
            if record:
                self.sessions.append(record)
            return answer(*arguments) if callable(answer) else answer

        return call


def gpu_of(**changes):
    return nvml.read(FakeBinding(**changes))["gpus"][0]


def test_everything_in_one_session():
    binding = FakeBinding()
    result = nvml.read(binding)
    assert binding.sessions == ["open", "close"]
    assert {key: result[key] for key in ("driver_version", "cuda_version", "nvml_version")} == {
        "driver_version": "550.54.15",
        "cuda_version": "12.4",
        "nvml_version": "12.550.54.15",
    }
    (gpu,) = result["gpus"]
    assert gpu["compute_capability"] == "8.0"
    assert gpu["pci"]["bus_id"] == "0000:07:00.0"
    assert gpu["mig"] == {"capable": True, "mode": "disabled", "pending_mode": "enabled", "instances": []}
    assert gpu["ecc"]["aggregate"] == {"corrected": 2, "uncorrected": 2}
    assert gpu["retired_pages"] == {"single_bit": 2, "double_bit": 2, "pending": True}
    assert {key: gpu["remapped_rows"][key] for key in ("correctable", "uncorrectable", "pending", "failed")} == {
        "correctable": 1,
        "uncorrectable": 2,
        "pending": True,
        "failed": False,
    }
    assert gpu["power"] == {
        "draw_watts": 51.23,
        "limit_watts": 400.0,
        "limit_default_watts": 400.0,
        "limit_min_watts": 100.0,
        "limit_max_watts": 400.0,
    }
    assert (gpu["clocks"]["sm_mhz"], gpu["clocks"]["sm_max_mhz"]) == (210, 1410)
    assert gpu["clocks"]["event_reasons"] == ["hw_slowdown", "hw_thermal_slowdown"]
    assert (gpu["performance_state"], gpu["virtualization_mode"]) == ("P2", "pass_through")
    assert (gpu["compute_mode"], gpu["persistence_mode"]) == ("exclusive_process", "enabled")
    assert gpu["process_count"] == 2
    assert [(process["pid"], process["type"], process["memory_used_bytes"]) for process in gpu["processes"]] == [
        (1, "C", 5),
        (2, "C+G", None),
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (DRIVER_NOT_LOADED, "driver_not_loaded"),
        (LIBRARY_NOT_FOUND, "library_missing"),
        (MISMATCH, "version_mismatch"),
        (NO_PERMISSION, "no_permission"),
        (LOST, "gpu_lost"),
        (UNKNOWN, "unknown"),
    ],
)
def test_a_session_that_cannot_be_opened(value, kind):
    with pytest.raises(SourceError, match=f"^NVML: code {value}$") as caught:
        nvml.read(FakeBinding(init=NVMLError(value)))
    assert caught.value.kind == kind


def test_a_session_is_closed_when_counting_fails():
    binding = FakeBinding(count=NVMLError(UNKNOWN))
    with pytest.raises(SourceError):
        nvml.read(binding)
    assert binding.sessions == ["open", "close"]


@pytest.mark.parametrize("value", [LOST, UNKNOWN])
def test_a_gpu_without_handle_is_lost_and_the_others_are_not(value):
    def handle(index):
        if index == 1:
            raise NVMLError(value)
        return index

    gpus = nvml.read(FakeBinding(count=3, handle=handle))["gpus"]
    assert [(gpu["index"], gpu["lost"], gpu["name"] is None) for gpu in gpus] == [
        (0, False, False),
        (1, True, True),
        (2, False, False),
    ]
    assert gpus[1]["error"] == f"NVML: code {value}"


def test_a_gpu_that_is_not_ours_is_not_lost():
    gpu = gpu_of(handle=NVMLError(NO_PERMISSION))
    assert (gpu["lost"], gpu["error"]) == (False, "NVML: code 4")


def test_a_gpu_that_gets_lost_while_it_is_asked():
    gpu = gpu_of(nvmlDeviceGetTemperature=NVMLError(LOST))
    assert (gpu["lost"], gpu["error"], gpu["temperature"]["gpu_celsius"], gpu["name"]) == (
        True,
        "NVML: code 15",
        None,
        "NVIDIA A100-SXM4-40GB",
    )


def test_without_ecc_there_are_no_counters():
    gpu = gpu_of(nvmlDeviceGetEccMode=[0, 0])
    assert gpu["ecc"] == {
        "mode": "disabled",
        "pending_mode": "disabled",
        "volatile": {"corrected": None, "uncorrected": None},
        "aggregate": {"corrected": None, "uncorrected": None},
    }


def test_memory_version_2_where_binding_and_driver_have_it():
    binding = FakeBinding(
        nvmlDeviceGetMemoryInfo=lambda handle, version=1: memory(100, 7 if version == 2 else 50),
    )
    binding.nvmlMemory_v2 = 2
    assert nvml.read(binding)["gpus"][0]["memory_used_bytes"] == 7


def test_memory_version_1_where_the_driver_has_no_other():
    def old(handle, version=1):
        if version == 2:
            raise NVMLError(FUNCTION_NOT_FOUND)
        return memory(100, 50)

    binding = FakeBinding(nvmlDeviceGetMemoryInfo=old)
    binding.nvmlMemory_v2 = 2
    assert nvml.read(binding)["gpus"][0]["memory_used_bytes"] == 50


def test_processes_through_the_version_that_the_driver_has():
    gpu = gpu_of(
        nvmlDeviceGetComputeRunningProcesses=NVMLLibraryMismatchError("too old"),
        nvmlDeviceGetComputeRunningProcesses_v3=NVMLError(FUNCTION_NOT_FOUND),
        nvmlDeviceGetComputeRunningProcesses_v2=[SimpleNamespace(pid=8)],
        nvmlDeviceGetGraphicsRunningProcesses=NVMLError(NOT_SUPPORTED),
    )
    assert gpu["process_count"] == 1


def test_mig_instances_may_have_gaps():
    def instance(handle, index):
        if index == 1:
            raise NVMLError(NOT_FOUND)
        return f"mig{index}"

    gpu = gpu_of(
        nvmlDeviceGetMigMode=[1, 1],
        nvmlDeviceGetMaxMigDeviceCount=3,
        nvmlDeviceGetMigDeviceHandleByIndex=instance,
        nvmlDeviceGetName=lambda handle: "NVIDIA A100-SXM4-40GB" + (" MIG 1g.5gb+me" if "mig" in handle else ""),
        nvmlDeviceGetGpuInstanceId=lambda handle: int(handle[3:]) + 7,
        nvmlDeviceGetComputeInstanceId=0,
    )
    assert [(each["index"], each["gpu_instance_id"], each["profile"]) for each in gpu["mig"]["instances"]] == [
        (0, 7, "1g.5gb+me"),
        (2, 9, "1g.5gb+me"),
    ]


def test_older_bindings_answer_in_bytes():
    gpu = gpu_of(
        nvmlDeviceGetName=b"Tesla T4",
        nvmlDeviceGetPciInfo=SimpleNamespace(busId=b"00000000:00:1E.0", pciDeviceId=0x1EB810DE, pciSubSystemId=0),
    )
    assert (gpu["name"], gpu["pci"]["bus_id"], gpu["pci"]["subsystem_device_id"]) == ("Tesla T4", "0000:00:1e.0", None)


ERRORS = st.sampled_from(
    [NVMLError(value) for value in (NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, FUNCTION_NOT_FOUND, LOST, UNKNOWN)]
    + [NVMLLibraryMismatchError("too old"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")]
)


@given(st.dictionaries(st.sampled_from(sorted(ANSWERS)), ERRORS))
def test_no_query_can_make_the_others_fail(failing):
    whole = nvml.read(FakeBinding())
    broken = nvml.read(FakeBinding(**failing))
    if "nvmlDeviceGetUUID" not in failing:
        assert broken["gpus"][0]["uuid"] == "GPU-a"
    assert broken["gpus"][0].keys() == whole["gpus"][0].keys()
    lost = any(isinstance(error, NVMLError) and error.value == LOST for error in failing.values())
    asked = set(failing) - {name for name in failing if name.startswith("nvmlSystem")}
    if not (lost and asked):
        assert broken["gpus"][0]["lost"] is False


def linked(links):
    """A binding whose GPU 0 has these links: None is down, else the other end's address and kind."""

    def state(handle, link):
        if handle != 0 or link >= len(links):
            raise NVMLError(NOT_SUPPORTED if handle else 2)
        return int(links[link] is not None)

    return FakeBinding(
        count=2,
        handle=lambda index: index,
        nvmlDeviceGetPciInfo=lambda handle: SimpleNamespace(
            busId=f"00000000:{0x10 + handle}:00.0", pciDeviceId=0x233010DE, pciSubSystemId=0
        ),
        nvmlDeviceGetNvLinkState=state,
        nvmlDeviceGetNvLinkRemotePciInfo=lambda handle, link: SimpleNamespace(busId=links[link][0].encode()),
        nvmlDeviceGetNvLinkRemoteDeviceType=lambda handle, link: links[link][1],
        nvmlDeviceGetTopologyCommonAncestor=20,
    )


@pytest.mark.parametrize(
    ("links", "peers", "connection"),
    [
        pytest.param(
            [("00000000:17:00.0", 0), None, ("00000000:17:00.0", 0)],
            [{"bus_id": "0000:17:00.0", "kind": "gpu", "links": 2}],
            "NV2",
            id="straight",
        ),
        pytest.param(
            [("00000000:05:00.0", 2)], [{"bus_id": "0000:05:00.0", "kind": "switch", "links": 1}], "PXB", id="a-switch"
        ),
        pytest.param([None, None], [], "PXB", id="all-down"),
    ],
)
def test_nvlinks_and_topology(links, peers, connection):
    result = nvml.read(linked(links))
    assert result["gpus"][0]["nvlink"]["links_total"] == len(links)
    assert result["gpus"][0]["nvlink"]["links_up"] == sum(link is not None for link in links)
    assert result["gpus"][0]["nvlink"]["peers"] == peers
    assert result["gpus"][1]["nvlink"]["links_total"] is None
    # The second GPU has no link to the switch, so the switch connects nothing.
    assert [(pair["gpus"], pair["connection"]) for pair in result["topology"]] == [([0, 1], connection)]


def test_a_function_that_this_binding_has_with_other_arguments():
    def other(handle, version):
        raise AssertionError("nobody calls it like this")

    gpu = gpu_of(nvmlDeviceGetGspFirmwareVersion=other)
    assert (gpu["gsp_firmware_version"], gpu["name"]) == (None, "NVIDIA A100-SXM4-40GB")


def test_only_what_was_chosen_is_asked():
    forbidden = NVMLError(UNKNOWN)

    def never(*arguments):
        raise AssertionError("this must not be asked")

    binding = FakeBinding(nvmlDeviceGetPowerUsage=never, nvmlDeviceGetMigMode=never, nvmlDeviceGetEccMode=forbidden)
    result = nvml.read(binding, frozenset(("driver", "gpus", "temperature")))
    assert (result["gpus"][0]["temperature"]["gpu_celsius"], result["topology"]) == (29, None)
    assert nvml.read(FakeBinding(nvmlDeviceGetHandleByIndex=never), frozenset(("driver",)))["count"] == 1


def test_the_binding_of_a_virtual_environment(tmp_path, monkeypatch):
    packages = tmp_path / "lib64/python3.6/site-packages"
    packages.mkdir(parents=True)
    (packages / "pynvml.py").write_text("where = 'environment'\n")
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    before = list(sys.path)
    assert nvml.load_binding(str(tmp_path)).where == "environment"
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "pynvml")
    assert nvml.load_binding(str(tmp_path / "none")).__file__ != str(packages / "pynvml.py")


def test_no_binding_anywhere(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(SourceError, match="and this Python have no module pynvml") as caught:
        nvml.load_binding(str(tmp_path))
    assert caught.value.kind == "unavailable"
