"""NVML that returns garbage: the daemon has an inventory or a reason, and what it advertises is valid."""

from __future__ import annotations

import ctypes
import math
from types import SimpleNamespace

import pynvml
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from nvidia_devplugin.config.resource_rules import Rules
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.health.state import HealthState, update
from nvidia_devplugin.kubelet.plugin import response
from nvidia_devplugin.labels.feature_labels import Node, labels
from nvidia_devplugin.model import EccEvent, Inventory, XidEvent
from nvidia_devplugin.nvml.errors import NvmlUnavailableError
from nvidia_devplugin.nvml.events import Events
from nvidia_devplugin.nvml.gpu_reader import GpuReader
from nvidia_devplugin.nvml.session import NvmlSession

ERRORS = st.integers(1, 40).map(pynvml.NVMLError) | st.just(pynvml.NVMLError(999))
NOT_TEXT = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")  # what pynvml raises for it
INTEGERS = st.integers(-(2**31), 2**31 - 1)
UNSIGNED = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=120)


def record(**fields: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(SimpleNamespace, **fields)


ATTRIBUTES = record(**dict.fromkeys(
    ("multiprocessorCount", "sharedCopyEngineCount", "sharedDecoderCount", "sharedEncoderCount", "sharedJpegCount",
     "sharedOfaCount", "gpuInstanceSliceCount", "computeInstanceSliceCount", "memorySizeMB"), UNSIGNED,
))  # fmt: skip
ANSWERS = {
    "nvmlSystemGetDriverVersion": TEXT,
    "nvmlSystemGetCudaDriverVersion_v2": INTEGERS,
    "nvmlDeviceGetCount": st.sampled_from([*range(1, 9), 2**32 - 1]),
    "nvmlDeviceGetHandleByIndex": st.integers(0, 2**48).map(ctypes.c_void_p),
    "nvmlDeviceGetHandleByUUID": st.integers(0, 2**48).map(ctypes.c_void_p),
    "nvmlDeviceGetUUID": st.sampled_from([*(f"GPU-{n}" for n in range(30)), "", "GPU 1", "GPU-é", "G" * 64]),
    "nvmlDeviceGetName": TEXT,
    "nvmlDeviceGetMinorNumber": UNSIGNED,
    "nvmlDeviceGetPciInfo": record(busId=TEXT | st.binary(max_size=32)),
    "nvmlDeviceGetMemoryInfo": record(total=UNSIGNED),
    "nvmlDeviceGetMigMode": st.lists(UNSIGNED, min_size=2, max_size=2) | st.just([1, 1]),
    "nvmlDeviceGetMaxMigDeviceCount": st.integers(0, 7) | UNSIGNED,
    "nvmlDeviceGetMigDeviceHandleByIndex": st.integers(0, 2**48).map(ctypes.c_void_p),
    "nvmlDeviceGetGpuInstanceId": UNSIGNED,
    "nvmlDeviceGetComputeInstanceId": UNSIGNED,
    "nvmlDeviceGetAttributes_v2": ATTRIBUTES,
    "nvmlDeviceGetCudaComputeCapability": st.tuples(INTEGERS, INTEGERS),
    "nvmlDeviceGetGpuFabricInfoV": st.just(0),
    "nvmlDeviceGetTemperatureThreshold": UNSIGNED,
    "nvmlDeviceGetTemperature": UNSIGNED,
    "nvmlDeviceGetTotalEccErrors": UNSIGNED,
    "nvmlDeviceGetSupportedEventTypes": UNSIGNED,
    "nvmlDeviceGetTopologyCommonAncestor": INTEGERS,
    "nvmlDeviceGetNvLinkState": INTEGERS,
    "nvmlDeviceGetNvLinkRemoteDeviceType": INTEGERS,
    "nvmlDeviceGetNvLinkRemotePciInfo": record(busId=TEXT | st.binary(max_size=32)),
    "nvmlEventSetWait_v2": record(
        device=st.integers(0, 2**48).map(ctypes.c_void_p), eventType=st.sampled_from([1, 2, 8, 2**63]),
        eventData=UNSIGNED, gpuInstanceId=UNSIGNED, computeInstanceId=UNSIGNED,
    ),
}  # fmt: skip
WORDS = ("nvmlSystemGetDriverVersion", "nvmlDeviceGetUUID", "nvmlDeviceGetName")
SILENT = ("nvmlInit", "nvmlShutdown", "nvmlEventSetCreate", "nvmlEventSetFree", "nvmlDeviceRegisterEvents")


@pytest.fixture(scope="module")
def garbage():
    """Puts generated answers in the place of NVML's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynvml, "nvmlDeviceGetFieldValues", lambda _handle, ids: [
            SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=2**32 - 1)) for _ in ids
        ])  # fmt: skip
        for name in SILENT:
            patch.setattr(pynvml, name, lambda *_: None)

        def use(data: st.DataObject) -> None:
            for name, good in ANSWERS.items():

                def said(*_, answers=good, name=name):
                    wrong = st.just(NOT_TEXT) if name in WORDS else ERRORS
                    drawn = data.draw(data.draw(st.sampled_from([*[answers] * 20, ERRORS, wrong])), label=name)
                    if isinstance(drawn, Exception):
                        raise drawn
                    return drawn

                patch.setattr(pynvml, name, said)

        yield use


@given(data=st.data())
def test_an_inventory_of_garbage_is_valid_or_says_why_not(garbage, data):
    garbage(data)
    policy, state = Policy.from_text(), HealthState()
    try:
        with NvmlSession(GpuReader()) as session:
            inventory = session.inventory()
            session.topology(inventory)
    except NvmlUnavailableError as error:
        assert error.gone.fault.code
        assert error.gone.hint
        return
    event(f"{len(inventory.gpus)} GPUs, MIG devices: {any(gpu.mig for gpu in inventory.gpus)}")
    state = update(state, policy, inventory, 0.0)
    for strategy in ("none", "single", "mixed"):
        rules = Rules(mig_strategy=strategy)
        for resource in layout(inventory.gpus, rules).resources:
            ids = [device.id for device in resource.devices]
            assert len(set(ids)) == len(ids)
            assert all(id_.isascii() and id_.isprintable() and 0 < len(id_) <= 63 for id_ in ids)
            assert len(response(resource.devices, state.faults()).SerializeToString()) < 2**20
        made = labels(Node(inventory.gpus, inventory.driver_version, inventory.cuda_version), rules)
        assert all(len(value) <= 63 for value in made.values())


@given(data=st.data())
def test_an_event_of_garbage_is_an_event_or_nothing(garbage, data):
    garbage(data)
    events = Events()
    events._set, events._watched = 1, {"GPU-0"}
    news = events.wait(0.001)
    assert news is None or isinstance(news, (XidEvent, EccEvent))
    if news is not None:
        state = update(HealthState(), Policy.from_text(), Inventory("550", ()), 0.0)
        state = update(state, Policy.from_text(), news, 1.0)
        assert all(math.isfinite(len(fault.message)) for fault in state.faults().values())
