"""MIG as pynvml sees it: modes, devices, their memory and attributes, GPU and compute instances."""

from __future__ import annotations

import pytest

from tests.sim.nvml import nvmlsim
from tests.unit.sim.conftest import Machine

INVALID, NOT_SUPPORTED, NOT_FOUND = 2, 3, 6
H = "h = n.nvmlDeviceGetHandleByIndex(0)\n"
MIGS = H + "migs = [n.nvmlDeviceGetMigDeviceHandleByIndex(h, i) for i in range(2)]\n"


def test_off(machine: Machine) -> None:
    machine.init("--model", "A100")  # a real GPU counts none while MIG is off
    assert machine.ask(
        H + "result = [n.nvmlDeviceGetMigMode(h), n.nvmlDeviceGetMaxMigDeviceCount(h),"
        " code_of(n.nvmlDeviceGetMigDeviceHandleByIndex, h, 0), code_of(n.nvmlDeviceGetGpuInstanceById, h, 1)]"
    ) == [[0, 0], 0, NOT_FOUND, NOT_SUPPORTED]


def test_devices(machine: Machine) -> None:
    machine.init("--model", "H100", "--mig", "3g.40gb,1g.10gb")
    first, second, beyond = machine.ask(
        MIGS
        + """
def about(m):
    a = n.nvmlDeviceGetAttributes(m)
    return [n.nvmlDeviceGetName(m), n.nvmlDeviceGetMemoryInfo(m).total >> 20, n.nvmlDeviceGetGpuInstanceId(m),
            n.nvmlDeviceGetComputeInstanceId(m), a.multiprocessorCount, a.gpuInstanceSliceCount, a.memorySizeMB,
            n.nvmlDeviceIsMigDeviceHandle(m).value, n.nvmlDeviceGetUUID(m).startswith("MIG-"),
            n.nvmlDeviceGetUUID(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m)) == n.nvmlDeviceGetUUID(h),
            n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(m))) == n.nvmlDeviceGetUUID(m)]
result = [about(migs[0]), about(migs[1]), code_of(n.nvmlDeviceGetMigDeviceHandleByIndex, h, 2)]
"""
    )
    assert first == ["NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40448, 1, 0, 60, 3, 40448, 1, True, True, True]
    assert second == ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9984, 11, 0, 16, 1, 9984, 1, True, True, True]
    assert beyond == NOT_FOUND


def test_instances(machine: Machine) -> None:
    machine.init("--model", "A100", "--mig", "3g.20gb,3g.20gb")
    placements, instance, compute, room = machine.ask(
        H
        + """
profile = n.nvmlDeviceGetGpuInstanceProfileInfo(h, n.NVML_GPU_INSTANCE_PROFILE_3_SLICE)
gi = n.nvmlDeviceGetGpuInstanceById(h, 2)
info = n.nvmlGpuInstanceGetInfo(gi)
ci = n.nvmlComputeInstanceGetInfo(n.nvmlGpuInstanceGetComputeInstanceById(gi, 0))
import ctypes
count = ctypes.c_uint(8)
places = (n.c_nvmlGpuInstancePlacement_t * 8)()
fn = ctypes.CDLL("libnvidia-ml.so.1").nvmlDeviceGetGpuInstancePossiblePlacements_v2
assert fn(h, profile.id, places, ctypes.byref(count)) == 0
result = [[[p.start, p.size] for p in places[:count.value]],
          [info.id, info.profileId == profile.id, info.placement.start, info.placement.size],
          [ci.id, ci.profileId, ci.placement.size], n.nvmlDeviceGetGpuInstanceRemainingCapacity(h, profile.id)]
"""
    )
    assert placements == [[0, 4], [4, 4]]
    assert instance == [2, True, 4, 4]
    assert compute == [0, 2, 3]
    assert room == 0


def test_a_gpu_instance_shared_by_compute_instances(machine: Machine) -> None:
    machine.init("--model", "A100")
    machine.sim("mig", "on")
    with machine.state.open("a") as state:
        for ci in range(2):
            state.write(f"mig = gi=1 ci={ci} start=0 ci_slices=1 ci_start={ci} profile=3g.20gb uuid=MIG-{ci}\n")
    assert machine.ask(
        MIGS
        + """
gi = n.nvmlDeviceGetGpuInstanceById(h, 1)
result = [[n.nvmlDeviceGetName(m) for m in migs], n.nvmlDeviceGetAttributes(migs[0]).multiprocessorCount,
          n.nvmlDeviceGetGpuInstanceRemainingCapacity(h, 9)]
"""
    ) == [["NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb"] * 2, 14, 1]


def test_what_a_mig_device_does_not_do(machine: Machine) -> None:
    machine.init("--mig", "1g.10gb,1g.10gb")
    assert machine.ask(
        MIGS
        + """
m = migs[0]
events = n.nvmlEventSetCreate()
result = [code_of(n.nvmlDeviceGetMigMode, m), code_of(n.nvmlDeviceGetUtilizationRates, m),
          code_of(n.nvmlDeviceRegisterEvents, m, 8, events), code_of(n.nvmlDeviceGetAttributes, h),
          code_of(n.nvmlDeviceGetUtilizationRates, h)]
"""
    ) == [INVALID, NOT_SUPPORTED, NOT_SUPPORTED, INVALID, NOT_SUPPORTED]


def test_a_handle_of_an_instance_that_went_away_says_so(machine: Machine) -> None:
    machine.init("--mig", "1g.10gb,1g.10gb")
    assert machine.ask(
        MIGS
        + f"""
import subprocess
subprocess.run([sys.executable, {nvmlsim.__file__!r}, "mig", "1g.10gb"], check=True)
result = [code_of(n.nvmlDeviceGetName, m) for m in migs]
"""
    ) == [0, NOT_FOUND]


@pytest.mark.parametrize("key", [key for key, model in nvmlsim.MODELS.items() if model.mig])
def test_as_many_of_each_profile_fit_as_the_profile_says(key: str) -> None:
    model = nvmlsim.MODELS[key]
    for profile in model.mig:
        state = nvmlsim.make_state(key, seed="test")
        nvmlsim.apply_mig(state, ",".join([profile.name] * profile.instances))
        ids = [nvmlsim.fields_of(line)["gi"] for line in state.gpu(0).values("mig")]
        assert len(set(ids)) == profile.instances


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        pytest.param("9g.1gb", "has no MIG profile '9g.1gb'", id="unknown-profile"),
        pytest.param("7g.80gb,1g.10gb", "no room for 1g.10gb after ['7g.80gb']", id="no-room"),
        pytest.param("1:1g.10gb", "the state has no [gpu 1]", id="no-such-gpu"),
    ],
)
def test_layouts_that_cannot_be(layout: str, message: str) -> None:
    state = nvmlsim.make_state("H100", seed="test")
    with pytest.raises(nvmlsim.SimError) as caught:
        nvmlsim.apply_mig(state, layout)
    assert message in str(caught.value)


def test_mig_on_a_board_without_it() -> None:
    with pytest.raises(nvmlsim.SimError, match="Tesla T4 has no MIG"):
        nvmlsim.apply_mig(nvmlsim.make_state("T4", seed="test"), "on")
