"""The facts while any NVML function that the module calls answers any error.

Nothing crashes, no other GPU suffers, and what cannot be read is not told as something else: it is null, not 0, not
disabled, not an empty list.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import open_faults
from tests.unit import nvml_build, nvml_sweep

SOURCES = sorted((nvml_sweep.ROOT / "plugins/module_utils/gpu").glob("*.py"))

# Kinds of faults that the facts have
UNREADABLE_MIG_IS_NO_MIG = [
    *(("nvmlDeviceGetMigMode", target) for target in ("whole", "split", "every")),
    *(("nvmlDeviceGetMaxMigDeviceCount", target) for target in ("split", "every")),
    *(("nvmlDeviceGetMigDeviceHandleByIndex", target) for target in ("split", "every")),
]
UNREADABLE_LINKS_ARE_NONE = [
    (function, target)
    for function in ("nvmlDeviceGetNvLinkState", "nvmlDeviceGetNvLinkRemotePciInfo_v2")
    for target in ("whole", "split", "every")
]
MEMORY_OF_THE_DRIVER_COUNTED_AS_USED = [
    ("nvmlDeviceGetMemoryInfo_v2", target) for target in ("whole", "split", "every")
]
KNOWN = dict.fromkeys(
    [*UNREADABLE_MIG_IS_NO_MIG, *UNREADABLE_LINKS_ARE_NONE, *MEMORY_OF_THE_DRIVER_COUNTED_AS_USED], open_faults.HEALTH
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nvml_sweep.Worker]:
    folder = tmp_path_factory.mktemp("sweep")
    made = nvml_sweep.Worker("tests.unit.plugins.module_utils.gpu.sweep_worker", folder, nvml_build.library())
    yield made
    made.close()


@pytest.mark.parametrize(("function", "target", "codes"), nvml_sweep.cases(SOURCES, KNOWN))
def test_sweep(worker: nvml_sweep.Worker, function: str, target: str, codes: tuple[int, ...]) -> None:
    worker.check(function, target, codes)


def test_what_is_called_is_among_the_cases(worker: nvml_sweep.Worker) -> None:
    worker.check_calls(nvml_sweep.functions(SOURCES), more_than=40)
