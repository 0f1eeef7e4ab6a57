"""The daemon while any NVML function that it calls answers any error.

It never ends, never loses another GPU, and never takes what cannot be read for what is not: no device is withdrawn, and
none is offered as something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit import nvml_sweep

SOURCES = sorted((nvml_sweep.ROOT / "files/devplugin/src/nvidia_devplugin").rglob("*.py"))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, nvml_library: Path) -> Iterator[nvml_sweep.Worker]:
    made = nvml_sweep.Worker("tests.unit.devplugin.nvml.sweep_worker", tmp_path_factory.mktemp("sweep"), nvml_library)
    yield made
    made.close()


@pytest.mark.parametrize(("function", "target", "codes"), nvml_sweep.cases(SOURCES, {}))
def test_sweep(worker: nvml_sweep.Worker, function: str, target: str, codes: tuple[int, ...]) -> None:
    worker.check(function, target, codes)


def test_what_is_called_is_among_the_cases(worker: nvml_sweep.Worker) -> None:
    worker.check_calls(nvml_sweep.functions(SOURCES), more_than=20)
