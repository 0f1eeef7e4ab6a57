"""What is kept of GPUs and MIG devices that cannot be read, on functions of pynvml that are replaced."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from nvidia_devplugin.config.resource_rules import Rules
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.health.state import HealthState, update
from nvidia_devplugin.model import XidEvent
from nvidia_devplugin.nvml.errors import NvmlUnavailableError
from nvidia_devplugin.nvml.events import Events
from nvidia_devplugin.nvml.gpu_reader import GpuReader

UNKNOWN, NO_PERMISSION, LOST = pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_GPU_IS_LOST
GIB = 2**30


class Driver:
    """A driver of two GPUs; the second has two MIG devices. Handles are GPU-0, GPU-1, MIG-a and MIG-b."""

    def __init__(self):
        self.gpus = ["GPU-0", "GPU-1"]
        self.mig = {"GPU-1": ["MIG-a", "MIG-b"]}
        self.errors: dict[tuple[str, str], int] = {}  # (function, handle); an empty handle stands for all

    def answer(self, function, *arguments):
        handle = arguments[0] if arguments else ""
        if function == "nvmlDeviceGetHandleByIndex":
            handle = self.gpus[handle]
        if function == "nvmlDeviceGetMigDeviceHandleByIndex" and arguments[1] >= len(self.mig[handle]):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        code = self.errors.get((function, handle)) or self.errors.get((function, ""))
        if code:
            raise pynvml.NVMLError(code)
        instance = str(handle).startswith("MIG")
        number = ord(handle[-1]) if instance else 0
        return {
            "nvmlDeviceGetCount": lambda: len(self.gpus),
            "nvmlDeviceGetHandleByIndex": lambda: handle,
            "nvmlDeviceGetUUID": lambda: handle,
            "nvmlDeviceGetName": lambda: "NVIDIA H100 MIG 1g.10gb" if instance else "NVIDIA H100",
            "nvmlDeviceGetPciInfo": lambda: SimpleNamespace(busId=f"00000000:0{handle[-1]}:00.0"),
            "nvmlDeviceGetMinorNumber": lambda: self.gpus.index(handle),
            "nvmlDeviceGetCudaComputeCapability": lambda: (9, 0),
            "nvmlDeviceGetMemoryInfo": lambda: SimpleNamespace(total=(10 if instance else 80) * GIB),
            "nvmlDeviceGetMigMode": lambda: [int(handle in self.mig)] * 2,
            "nvmlDeviceGetMaxMigDeviceCount": lambda: 7,
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda: self.mig[handle][arguments[1]],
            "nvmlDeviceGetGpuInstanceId": lambda: number,
            "nvmlDeviceGetComputeInstanceId": lambda: 0,
            "nvmlDeviceGetAttributes_v2": lambda: SimpleNamespace(
                memorySizeMB=10240, multiprocessorCount=16, gpuInstanceSliceCount=1, computeInstanceSliceCount=1,
                sharedCopyEngineCount=1, sharedDecoderCount=1, sharedEncoderCount=0, sharedJpegCount=1,
                sharedOfaCount=0,
            ),
            "nvmlSystemGetDriverVersion": lambda: "570.86",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 12080,
        }[function]()  # fmt: skip


@pytest.fixture
def nvml(monkeypatch):
    driver = Driver()
    absent = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    for name in dir(pynvml):
        if name.startswith(("nvmlDeviceGet", "nvmlSystemGet")):

            def query(*arguments, _name=name, **_versions):
                try:
                    return driver.answer(_name, *arguments)
                except KeyError:
                    raise absent from None

            query.__name__ = name
            monkeypatch.setattr(pynvml, name, query)
    return driver


def offered(inventory, strategy="mixed"):
    return {
        device.id
        for resource in layout(inventory.gpus, Rules(mig_strategy=strategy)).resources
        for device in resource.devices
    }


ALL = {"GPU-0", "MIG-a", "MIG-b"}


@pytest.mark.parametrize(
    ("function", "handle", "hit"),
    [
        ("nvmlDeviceGetHandleByIndex", "GPU-0", "GPU-0"),
        ("nvmlDeviceGetUUID", "GPU-1", "GPU-1"),
        ("nvmlDeviceGetMemoryInfo", "GPU-0", "GPU-0"),
        ("nvmlDeviceGetMigMode", "GPU-1", "GPU-1"),
        ("nvmlDeviceGetMaxMigDeviceCount", "GPU-1", "GPU-1"),
        ("nvmlDeviceGetMigDeviceHandleByIndex", "GPU-1", "MIG-a"),
        ("nvmlDeviceGetAttributes_v2", "MIG-b", "MIG-b"),
        ("nvmlDeviceGetUUID", "MIG-b", "MIG-b"),
    ],
)
def test_an_unreadable_device_is_kept_and_unhealthy_after_some_failures_in_a_row(nvml, function, handle, hit):
    reader = GpuReader(failed_reads=3)
    healthy = reader.inventory()
    assert offered(healthy) == ALL
    for _round in range(2):
        nvml.errors[function, handle] = UNKNOWN
        for _failure in range(2):
            assert reader.inventory() == healthy
        failed = reader.inventory()
        assert offered(failed) == ALL
        assert hit in dict(failed.faults)
        assert dict(failed.faults)[hit].code == "nvml_error_999"
        assert function in dict(failed.faults)[hit].message
        assert "GPU-0" not in dict(failed.faults) or hit == "GPU-0"
        nvml.errors.clear()
        assert reader.inventory() == healthy, "one success starts the count over"


def test_a_lost_gpu_is_a_fault_at_once(nvml):
    reader = GpuReader()
    reader.inventory()
    nvml.errors["nvmlDeviceGetHandleByIndex", "GPU-0"] = LOST
    found = reader.inventory()
    assert {uuid: fault.code for uuid, fault in found.faults} == {"GPU-0": "gpu_lost"}
    assert offered(found) == ALL


def test_a_mig_device_is_withdrawn_when_the_driver_enumerates_without_it(nvml):
    reader = GpuReader()
    reader.inventory()
    nvml.mig["GPU-1"] = ["MIG-b"]
    assert offered(reader.inventory()) == {"GPU-0", "MIG-b"}
    nvml.mig.clear()
    assert offered(reader.inventory()) == {"GPU-0", "GPU-1"}


@pytest.mark.parametrize("function", ["nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount"])
def test_a_gpu_whose_mig_mode_was_never_read_is_not_offered_as_a_whole(nvml, function):
    nvml.errors[function, ""] = UNKNOWN
    reader = GpuReader()
    first = reader.inventory()
    assert "GPU-1" not in offered(first)
    assert "GPU-1" in offered(first, "none"), "without MIG devices it is offered as a whole whatever its mode"
    assert any("MIG mode cannot be read" in text for text in layout(first.gpus, Rules(mig_strategy="mixed")).problems)
    nvml.errors.clear()
    assert offered(reader.inventory()) == ALL


def test_a_fatal_fault_of_a_mig_device_survives_readings_that_fail(nvml):
    reader, policy = GpuReader(), Policy.from_text()
    first = reader.inventory()
    state = update(HealthState(), policy, first)
    (hit,) = (device for gpu in first.gpus for device in gpu.mig if device.uuid == "MIG-a")
    state = update(state, policy, XidEvent("GPU-1", 48, hit.gi, hit.ci))
    for function in ("nvmlDeviceGetMigMode", "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetAttributes_v2"):
        nvml.errors[function, ""] = UNKNOWN
        state = update(state, policy, reader.inventory())
        nvml.errors.clear()
        state = update(state, policy, reader.inventory())
    assert {uuid: fault.code for uuid, fault in state.faults().items()} == {"MIG-a": "xid_48"}


def test_without_the_right_to_monitor_mig_a_gpu_in_mig_mode_is_served_with_unknown_memory(nvml):
    nvml.errors["nvmlDeviceGetMemoryInfo", "GPU-1"] = NO_PERMISSION
    reader = GpuReader(failed_reads=1)
    for _reading in range(3):
        found = reader.inventory()
        assert found.faults == ()
        assert offered(found, "none") == {"GPU-0", "GPU-1"}
        assert [gpu.memory_bytes for gpu in found.gpus] == [80 * GIB, 0]


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo"])
def test_one_gpu_that_refuses_access_leaves_the_others(nvml, function):
    nvml.errors[function, "GPU-0"] = NO_PERMISSION
    assert {"MIG-a", "MIG-b"} <= offered(GpuReader().inventory())


def test_all_gpus_that_refuse_access_are_the_drivers_refusal(nvml):
    nvml.errors["nvmlDeviceGetHandleByIndex", ""] = NO_PERMISSION
    with pytest.raises(NvmlUnavailableError) as refused:
        GpuReader().inventory()
    assert refused.value.gone.fault.code == "no_permission"


def test_what_was_unknown_at_start_is_read_later(nvml):
    unknown = ("nvmlDeviceGetCudaComputeCapability", "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetDriverVersion")
    nvml.errors.update({(function, ""): UNKNOWN for function in unknown})
    reader = GpuReader()
    first = reader.inventory()
    assert (first.driver_version, first.cuda_version, first.gpus[0].compute) == ("", None, None)
    nvml.errors.clear()
    later = reader.inventory()
    assert (later.driver_version, later.cuda_version, later.gpus[0].compute) == ("570.86", (12, 8), (9, 0))


def test_a_gpu_without_a_minor_number_is_served(nvml):
    """As in WSL2."""
    nvml.errors["nvmlDeviceGetMinorNumber", ""] = pynvml.NVML_ERROR_NOT_SUPPORTED
    found = GpuReader().inventory()
    assert [gpu.minor for gpu in found.gpus] == [None, None]
    assert offered(found) == ALL


class TestEvents:
    @pytest.fixture
    def calls(self, monkeypatch):
        """NVML's functions of events; `calls.errors` by function."""
        made = SimpleNamespace(errors={}, names=[])

        def replace(name, value):
            def function(*_arguments):
                made.names.append(name)
                if name in made.errors:
                    raise pynvml.NVMLError(made.errors[name])
                return value

            function.__name__ = name
            monkeypatch.setattr(pynvml, name, function)

        event = SimpleNamespace(device=7, gpuInstanceId=0xFFFFFFFF, computeInstanceId=0xFFFFFFFF,
                                eventType=pynvml.nvmlEventTypeXidCriticalError, eventData=79)  # fmt: skip
        for name, value in {
            "nvmlEventSetCreate": 1, "nvmlEventSetFree": None, "nvmlDeviceRegisterEvents": None,
            "nvmlDeviceGetSupportedEventTypes": pynvml.nvmlEventTypeXidCriticalError, "nvmlEventSetWait_v2": event,
        }.items():  # fmt: skip
            replace(name, value)
        return made

    def test_an_event_names_its_gpu(self, calls):
        events = Events()
        assert events.watch({"GPU-0": 7}) == {}
        assert events.wait(0.01) == XidEvent("GPU-0", 79)

    def test_without_a_set_of_events_gpus_have_no_fault_and_it_is_tried_again(self, calls):
        events = Events()
        calls.errors["nvmlEventSetCreate"] = UNKNOWN
        assert events.watch({"GPU-0": 7}) == {}
        assert events.wait(0.001) is None
        calls.errors.clear()
        events.watch({"GPU-0": 7})
        assert events.wait(0.01) == XidEvent("GPU-0", 79)

    def test_a_driver_that_cannot_wait_is_no_reason_to_open_it_again(self, calls):
        events = Events()
        calls.errors["nvmlEventSetWait_v2"] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
        for _reading in range(3):
            assert events.watch({"GPU-0": 7}) == {}
            assert events.wait(0.001) is None
        calls.errors.clear()
        events.watch({"GPU-0": 7})
        assert events.wait(0.01) == XidEvent("GPU-0", 79)
        assert calls.names.count("nvmlEventSetFree") == 3

    def test_a_gpu_that_cannot_be_registered_has_a_fault_until_it_can(self, calls):
        events = Events()
        calls.errors["nvmlDeviceRegisterEvents"] = UNKNOWN
        assert events.watch({"GPU-0": 7})["GPU-0"].code == "events_unavailable"
        assert events.watch({"GPU-0": 7})["GPU-0"].code == "events_unavailable"
        calls.errors.clear()
        assert events.watch({"GPU-0": 7}) == {}

    def test_a_gpu_that_left_is_registered_again_when_it_is_back(self, calls):
        events = Events()
        for handles in ({"GPU-0": 7}, {}, {"GPU-0": 7}, {"GPU-0": 7}):
            events.watch(handles)
        assert calls.names.count("nvmlDeviceRegisterEvents") == 2
