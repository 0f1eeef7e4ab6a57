"""Each cause of "no devices found" gets its own code, and a hint that says what to do."""

import copy

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import problems
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu

BARE = {
    "devices_on_pci": [],
    "kernel_module": {"version": None, "flavor": None},
    "module_loaded": False,
    "nouveau_loaded": False,
    "secure_boot": False,
    "library": {"path": None, "version": None},
    "control_node": False,
}
LIBRARY = {"path": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "version": "550.54.15"}
LOADED = {
    "module_loaded": True,
    "kernel_module": {"version": "550.54.15", "flavor": "open"},
    "library": LIBRARY,
    "control_node": True,
}
UNAVAILABLE = SourceError("unavailable", "nvidia-smi is not installed")


def pci(driver=None, kind="gpu"):
    return {"bus_id": "0000:19:00.0", "kind": kind, "driver": driver}


def machine(*devices, **changes):
    return {**copy.deepcopy(BARE), "devices_on_pci": list(devices), **changes}


def gpu(index, **changes):
    return {**empty_gpu(), "index": index, **changes}


def decide(host, *errors, source=None, gpus=()):
    return problems.decide(host, source, list(gpus), list(errors))


@pytest.mark.parametrize(
    ("host", "errors", "code", "in_message", "in_hint"),
    [
        pytest.param(machine(), [UNAVAILABLE], "no_device", "no NVIDIA GPU", "Nothing to do", id="no-gpu"),
        pytest.param(
            machine(pci(kind="nvswitch")), [UNAVAILABLE], "no_device", "no NVIDIA GPU", "slot", id="only-an-nvswitch"
        ),
        pytest.param(
            machine(library=LIBRARY),
            [SourceError("driver_not_loaded", "NVML: Driver Not Loaded")],
            "no_device",
            "no NVIDIA GPU",
            "slot",
            id="driver-installed-without-gpu",
        ),
        pytest.param(
            machine(pci()), [UNAVAILABLE], "driver_not_loaded", "1 NVIDIA GPU(s)", "modprobe nvidia", id="no-driver"
        ),
        pytest.param(
            machine(pci("nouveau"), nouveau_loaded=True),
            [UNAVAILABLE],
            "driver_not_loaded",
            "not loaded",
            "blacklist it",
            id="nouveau",
        ),
        pytest.param(
            machine(pci("vfio-pci")), [UNAVAILABLE], "driver_not_loaded", "not loaded", "vfio-pci holds", id="vfio"
        ),
        pytest.param(
            machine(pci(), secure_boot=True),
            [SourceError("driver_not_loaded", "NVML: Driver Not Loaded")],
            "driver_not_loaded",
            "not loaded",
            "must be signed",
            id="secure-boot",
        ),
        pytest.param(
            machine(pci("nvidia"), **LOADED),
            [SourceError("driver_not_loaded", "NVML: Driver Not Loaded")],
            "driver_not_loaded",
            "does not answer (NVML: Driver Not Loaded)",
            "dmesg",
            id="loaded-but-dead",
        ),
        pytest.param(
            machine(pci("nvidia"), **{**LOADED, "control_node": False}),
            [SourceError("driver_not_loaded", "NVML: Driver Not Loaded")],
            "device_nodes_missing",
            "/dev/nvidiactl is not there",
            "nvidia-modprobe",
            id="no-device-nodes",
        ),
        pytest.param(
            machine(pci("nvidia"), **{**LOADED, "library": {"path": None, "version": None}}),
            [SourceError("library_missing", "NVML: NVML Shared Library Not Found"), UNAVAILABLE],
            "library_missing",
            "libnvidia-ml.so.1 was not found (NVML: NVML Shared Library Not Found)",
            "Install",
            id="library-missing",
        ),
        pytest.param(
            machine(pci("nvidia"), **{**LOADED, "library": {"path": "/x", "version": "550.90.07"}}),
            [SourceError("version_mismatch", "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch")],
            "version_mismatch",
            "module is 550.54.15, the library 550.90.07 (nvidia-smi: Failed",
            "reboot",
            id="mismatch-that-the-driver-tells",
        ),
        pytest.param(
            machine(pci("nvidia"), **{**LOADED, "library": {"path": "/x", "version": "550.90.07"}}),
            [UNAVAILABLE],
            "version_mismatch",
            "module is 550.54.15, the library 550.90.07.",
            "reboot",
            id="mismatch-on-disk-alone",
        ),
        pytest.param(
            machine(),
            [SourceError("version_mismatch", "NVML: mismatch")],
            "version_mismatch",
            "of unknown version (NVML: mismatch)",
            "reboot",
            id="mismatch-in-a-container",
        ),
        pytest.param(
            machine(pci("nvidia"), **LOADED),
            [SourceError("no_permission", "NVML: Insufficient Permissions")],
            "no_permission",
            "(NVML: Insufficient Permissions)",
            "become: true",
            id="no-permission",
        ),
        pytest.param(
            machine(pci("nvidia"), **LOADED),
            [SourceError("gpu_lost", "NVML: GPU is lost")],
            "gpu_lost",
            "lost its GPU",
            "XID",
            id="all-lost",
        ),
        pytest.param(
            machine(pci("nvidia"), **LOADED),
            [SourceError("timeout", "NVML did not answer within 30 s")],
            "timeout",
            "NVML did not answer within 30 s",
            "gather_timeout",
            id="timeout",
        ),
        pytest.param(
            machine(pci("nvidia"), **LOADED),
            [SourceError("unknown", "NVML: Unknown Error"), UNAVAILABLE],
            "unknown",
            "NVML: Unknown Error; nvidia-smi is not installed",
            "nvidia-smi",
            id="unknown",
        ),
    ],
)
def test_no_source_answered(host, errors, code, in_message, in_hint):
    problem = decide(host, *errors)
    assert problem["code"] == code
    assert problem["code"] in problems.CODES
    assert in_message in problem["message"]
    assert in_hint in problem["hint"]


def test_nobody_to_ask_is_no_problem_of_the_machine():
    assert decide(machine(pci("nvidia"), **LOADED), UNAVAILABLE) is None


def test_gpus_that_answer():
    assert decide(machine(pci("nvidia"), **LOADED), source="nvml", gpus=[gpu(0)]) is None


def test_gpus_that_answer_in_spite_of_a_broken_first_source():
    broken = SourceError("library_missing", "NVML: NVML Shared Library Not Found")
    assert decide(machine(pci("nvidia"), **LOADED), broken, source="nvidia-smi", gpus=[gpu(0)]) is None


def test_a_lost_gpu_is_named():
    lost = gpu(1, lost=True, error="NVML: GPU is lost")
    lost["pci"]["bus_id"] = "0000:3b:00.0"
    problem = decide(machine(pci("nvidia"), **LOADED), source="nvml", gpus=[gpu(0), lost])
    assert problem["code"] == "gpu_lost"
    assert problem["message"] == ("1 of 2 GPUs no longer answer: GPU 1 at 0000:3b:00.0 (NVML: GPU is lost).")


@pytest.mark.parametrize(
    ("devices", "in_message"),
    [
        ([pci("vfio-pci")], "1 NVIDIA GPU(s) are on the PCI bus, held by vfio-pci"),
        ([pci()], "1 NVIDIA GPU(s) are on the PCI bus."),
        ([], "no NVIDIA GPU on the PCI bus"),
    ],
)
def test_the_driver_answers_without_gpus(devices, in_message):
    problem = decide(machine(*devices, **LOADED), source="nvml")
    assert problem["code"] == "no_device"
    assert in_message in problem["message"]
