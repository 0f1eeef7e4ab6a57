"""The daemon while any NVML function that it calls answers any error.

It never ends, never loses another GPU, and never takes what cannot be read for what is not: no device is withdrawn, and
none is offered as something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import open_faults
from tests.unit import nvml_sweep

SOURCES = sorted((nvml_sweep.ROOT / "files/devplugin/src/nvidia_devplugin").rglob("*.py"))

# Kinds of faults that the daemon has
ONE_GPU_TAKEN_FOR_THE_DRIVER = [
    (function, target)
    for function in ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo")
    for target in ("whole", "split")
]
UNREADABLE_MIG_DEVICES_WITHDRAWN = [
    ("nvmlDeviceGetUUID", "instance"),
    *((function, target)
      for function in ("nvmlDeviceGetAttributes_v2", "nvmlDeviceGetComputeInstanceId", "nvmlDeviceGetGpuInstanceId",
                       "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName")
      for target in ("split", "instance", "every")),
]  # fmt: skip
SPLIT_GPU_OFFERED_WHOLE = [
    (function, target)
    for function in ("nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex")
    for target in ("split", "every")
]
EVENTS_NEVER_TRIED_AGAIN = [
    (function, target)
    for function in ("nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents")
    for target in ("whole", "split", "every")
]
UNKNOWN_AT_START_AND_EVER_AFTER = [
    ("nvmlDeviceGetCudaComputeCapability", "every"),
    ("nvmlSystemGetCudaDriverVersion_v2", "every"),
]
KNOWN = dict.fromkeys(
    [
        *ONE_GPU_TAKEN_FOR_THE_DRIVER,
        *UNREADABLE_MIG_DEVICES_WITHDRAWN,
        *SPLIT_GPU_OFFERED_WHOLE,
        *EVENTS_NEVER_TRIED_AGAIN,
        *UNKNOWN_AT_START_AND_EVER_AFTER,
    ],
    open_faults.DAEMON,
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, nvml_library: Path) -> Iterator[nvml_sweep.Worker]:
    made = nvml_sweep.Worker("tests.unit.devplugin.nvml.sweep_worker", tmp_path_factory.mktemp("sweep"), nvml_library)
    yield made
    made.close()


@pytest.mark.parametrize(("function", "target", "codes"), nvml_sweep.cases(SOURCES, KNOWN))
def test_sweep(worker: nvml_sweep.Worker, function: str, target: str, codes: tuple[int, ...]) -> None:
    worker.check(function, target, codes)


def test_what_is_called_is_among_the_cases(worker: nvml_sweep.Worker) -> None:
    worker.check_calls(nvml_sweep.functions(SOURCES), more_than=20)
