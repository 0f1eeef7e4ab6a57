"""What the library refuses: as the real one, by CAP_SYS_ADMIN and by NVIDIA's capability files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.sim.nvml import nvmlsim
from tests.unit.sim.conftest import Machine
from tests.unit.sim.test_nvmlsim import can_make_nodes

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 3, 4, 6
WHOLE = """
h = n.nvmlDeviceGetHandleByIndex(0)
asked = [(n.nvmlDeviceGetMemoryInfo, h), (n.nvmlDeviceGetMemoryInfo, h, n.nvmlMemory_v2),
         (n.nvmlDeviceGetBAR1MemoryInfo, h), (n.nvmlDeviceGetComputeRunningProcesses, h),
         (n.nvmlDeviceGetGraphicsRunningProcesses, h), (n.nvmlDeviceGetMPSComputeRunningProcesses, h)]
result = sorted({code_of(*call) for call in asked})
"""
SEEN = """
h = n.nvmlDeviceGetHandleByIndex(0)
result = []
for i in range(n.nvmlDeviceGetMaxMigDeviceCount(h)):
    try:
        mig = n.nvmlDeviceGetMigDeviceHandleByIndex(h, i)
    except n.NVMLError_NotFound:
        continue
    again = n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(mig))
    result.append([n.nvmlDeviceGetGpuInstanceId(again), n.nvmlDeviceGetMemoryInfo(again).total > 0])
"""


@pytest.fixture
def split(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A GPU with two MIG devices, seen from a container that was given the GPU and no capability file."""
    machine.init("--model", "H100", "--count", 2, "--mig", "0:3g.40gb,1g.10gb", device_nodes="on")
    dev = machine.directory / "dev"
    (dev / "nvidia-caps").mkdir(parents=True)
    for name in ("nvidiactl", "nvidia0", "nvidia1"):
        (dev / name).touch()
    monkeypatch.setenv("NVML_SIM_DEV", str(dev))
    return machine


def grant(machine: Machine, *names: str) -> list[Path]:
    """Put capability files, named as in mig-minors, where the library looks for them."""
    minors = nvmlsim.capability_minors(nvmlsim.load(machine.state))
    paths = [machine.directory / f"dev/nvidia-caps/nvidia-cap{minors[name]}" for name in names]
    for path in paths:
        path.touch()
    return paths


def test_all_of_a_split_gpu_needs_the_monitor_file(split: Machine) -> None:
    assert split.ask(WHOLE) == [NO_PERMISSION]  # CAP_SYS_ADMIN does not help: nvidia-container-toolkit#1740
    (path,) = grant(split, "monitor")
    assert split.ask("give_up_capabilities()\n" + WHOLE) == [0]
    path.chmod(0)
    assert split.ask("give_up_capabilities()\n" + WHOLE) == [NO_PERMISSION]


def test_a_gpu_that_is_not_split_needs_nothing(split: Machine) -> None:
    assert split.ask("give_up_capabilities()\n" + WHOLE.replace("ByIndex(0)", "ByIndex(1)")) == [0]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["monitor"], [], id="monitor"),
        pytest.param(["gpu0/gi1/access"], [], id="gpu-instance-alone"),
        pytest.param(["gpu0/gi11/access", "gpu0/gi11/ci0/access"], [[11, True]], id="one"),
        pytest.param(["gpu1/gi11/access", "gpu1/gi11/ci0/access"], [], id="another-gpus"),
        pytest.param(
            ["gpu0/gi1/access", "gpu0/gi1/ci0/access", "gpu0/gi11/access", "gpu0/gi11/ci0/access"],
            [[1, True], [11, True]],
            id="both",
        ),
    ],
)
def test_mig_devices_are_seen_with_their_files_only(split: Machine, given: list[str], seen: list[object]) -> None:
    grant(split, *given)
    assert split.ask(SEEN) == seen
    uuid = nvmlsim.fields_of(nvmlsim.load(split.state).gpu(0).values("mig")[0])["uuid"]
    found = 0 if [1, True] in seen else NOT_FOUND
    assert split.ask(f"result = code_of(n.nvmlDeviceGetHandleByUUID, {uuid!r})") == found


def test_gpu_instances_are_for_who_may_configure(split: Machine) -> None:
    calls = """
give_up_capabilities()
h = n.nvmlDeviceGetHandleByIndex(0)
result = [code_of(n.nvmlDeviceGetGpuInstanceById, h, 1), code_of(n.nvmlDeviceGetGpuInstanceProfileInfo, h, 0),
          code_of(n.nvmlDeviceGetGpuInstanceRemainingCapacity, h, 9), code_of(n.nvmlDeviceCreateGpuInstance, h, 9)]
"""
    assert split.ask(calls) == [NO_PERMISSION] * 4
    grant(split, "config")
    assert split.ask(calls) == [0, 0, 0, NOT_SUPPORTED]


CHANGES = """
h = n.nvmlDeviceGetHandleByIndex(1)
result = sorted({code_of(n.nvmlDeviceSetPersistenceMode, h, 1), code_of(n.nvmlDeviceSetEccMode, h, 1),
                 code_of(n.nvmlDeviceSetPowerManagementLimit, h, 100000), code_of(n.nvmlDeviceSetMigMode, h, 1)})
"""


def test_what_changes_a_gpu_is_for_the_administrator(split: Machine) -> None:
    grant(split, "config", "monitor")
    assert split.ask("give_up_capabilities()\n" + CHANGES) == [NO_PERMISSION]
    effective = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16)
    if effective >> 21 & 1:  # CAP_SYS_ADMIN
        assert split.ask(CHANGES) == [NOT_SUPPORTED]


def test_events_of_an_instance_are_for_who_may_see_the_whole(split: Machine) -> None:
    code = """
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(0), 8, events)
with open(os.environ["NVML_SIM_STATE"].replace("state", "events"), "a") as file:
    file.write("xid 0 43 1 0\\nxid 0 79\\n")
result = n.nvmlEventSetWait_v2(events, 1000).eventData
"""
    assert split.ask(code) == 79
    grant(split, "monitor")
    assert split.ask(code) == 43


def test_device_nodes_that_may_not_be_opened(split: Machine) -> None:
    (split.directory / "dev/nvidia0").chmod(0)
    handles = "result = [n.nvmlDeviceGetCount(), *(code_of(n.nvmlDeviceGetHandleByIndex, i) for i in range(2))]"
    assert split.ask("give_up_capabilities()\n" + handles) == [2, NO_PERMISSION, 0]
    (split.directory / "dev/nvidiactl").chmod(0)
    refused = "give_up_capabilities()\nresult = code_of(n.nvmlInit)"
    assert split.ask(refused, initialise=False) == NO_PERMISSION


def test_nvidia_smi_says_what_it_may_not_see(split: Machine) -> None:
    done = split.smi("--query-gpu=index,memory.total,memory.used,temperature.gpu", "--format=csv,noheader")
    permitted, refused = done.stdout.splitlines()[::-1]
    assert refused == "0, [Insufficient Permissions], [Insufficient Permissions], 31 C"
    assert permitted == "1, 81559 MiB, 0 MiB, 31 C"
    assert "<total>Insufficient Permissions</total>" in split.smi("-q", "-x").stdout


def test_files_of_a_node(tmp_path: Path) -> None:
    if not can_make_nodes(tmp_path):
        pytest.skip("making device nodes needs root with CAP_MKNOD")
    state = nvmlsim.make_state("A100", 2, seed="test")
    nvmlsim.apply_mig(state, "1:7g.40gb")
    nvmlsim.make_nodes(state, tmp_path)
    nodes = {path.name: path.stat() for path in (tmp_path / "nvidia-caps").iterdir()}
    assert {name: stat.S_IMODE(node.st_mode) for name, node in nodes.items()} == {
        "nvidia-cap1": 0o400, "nvidia-cap2": 0o444, "nvidia-cap138": 0o444, "nvidia-cap139": 0o444,
    }  # fmt: skip
    assert os.minor(nodes["nvidia-cap138"].st_rdev) == 138
    nvmlsim.clear_mig(state.gpu(1))
    nvmlsim.make_nodes(state, tmp_path)
    assert sorted(path.name for path in (tmp_path / "nvidia-caps").iterdir()) == ["nvidia-cap1", "nvidia-cap2"]


def test_proc_names_the_files(tmp_path: Path) -> None:
    state = nvmlsim.make_state("A100", 2, seed="test")
    nvmlsim.apply_mig(state, "1:7g.40gb")
    nvmlsim.write_proc(state, tmp_path / "nvidia")
    capabilities = tmp_path / "nvidia/capabilities"
    assert (capabilities / "mig/monitor").read_text() == (
        "DeviceFileMinor: 2\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
    )
    assert (capabilities / "gpu1/mig/gi0/ci0/access").read_text().startswith("DeviceFileMinor: 139\n")
    lines = (tmp_path / "nvidia-caps/mig-minors").read_text().splitlines()
    assert lines[:5] == ["config 1", "monitor 2", "gpu0/gi0/access 3", "gpu0/gi0/ci0/access 4", "gpu0/gi0/ci1/access 5"]
    assert {"gpu0/gi11/access 102", "gpu1/gi0/access 138", "gpu1/gi14/ci7/access 272"} <= set(lines)
