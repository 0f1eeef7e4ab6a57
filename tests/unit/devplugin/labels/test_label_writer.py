"""The labels in a file for NFD, and as printed by the command."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from nvidia_devplugin import __main__ as command_line
from nvidia_devplugin.config.settings import Config
from nvidia_devplugin.labels.feature_labels import Machine
from nvidia_devplugin.labels.label_writer import LabelFile, NodeLabels
from tests.unit.devplugin.kubelet_stub import TIMEOUT
from tests.unit.devplugin.strategies import gpu

MACHINE = Machine("DGX H100")


def node_labels(**settings: object) -> NodeLabels:
    return NodeLabels(Config(**settings), lambda _product, _buses: MACHINE, lambda: 1000.0)


def parsed(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if not line.startswith("#"))


async def becomes(path: Path, wanted) -> dict[str, str]:
    """The file's labels, once there are some that are `wanted`."""

    async def look() -> dict[str, str]:
        while not (path.exists() and wanted(parsed(path))):
            await asyncio.sleep(0.01)
        return parsed(path)

    return await asyncio.wait_for(look(), TIMEOUT)


async def test_there_are_no_labels_before_the_driver_answered():
    made = node_labels()
    assert made.current == {}
    made.update((gpu(0),), "550.54.15", (12, 4))
    assert made.current["nvidia.com/gpu.count"] == "1"
    assert made.current["nvidia.com/gfd.timestamp"] == "1000"
    assert "nvidia.com/gfd.timestamp" not in node_labels(labels_timestamp=False).current


async def test_labels_are_made_once_for_one_state_of_the_machine():
    reads = []
    made = NodeLabels(Config(), lambda *arguments: reads.append(arguments) or MACHINE)
    for _ in range(3):
        made.update((gpu(1), gpu(0)), "550.54.15", (12, 4))
        assert made.current is made.current
    assert len(reads) == 1
    assert reads[0][1] == [gpu(0).pci_bus_id, gpu(1).pci_bus_id]
    made.update((gpu(0),), "550.54.15", (12, 4))
    assert made.current["nvidia.com/gpu.count"] == "1"
    assert len(reads) == 2


async def test_the_file_follows_the_machine_and_expires_with_the_daemon(tmp_path):
    path = tmp_path / "gpus"
    made = node_labels(labels_file=path)
    work = asyncio.create_task(made.run(0))
    try:
        made.update((gpu(0),), "550.54.15", (12, 4))
        first = await becomes(path, lambda labels: labels["nvidia.com/gpu.count"] == "1")
        assert first == made.current
        made.update((gpu(0), gpu(1)), "550.54.15", (12, 4))
        await becomes(path, lambda labels: labels["nvidia.com/gpu.count"] == "2")
    finally:
        work.cancel()
    made.expire()
    assert path.read_text().startswith("# +expiry-time=")
    assert parsed(path) == made.current
    assert [entry.name for entry in tmp_path.iterdir()] == ["gpus"]


def test_a_file_is_written_only_when_it_changes(tmp_path):
    path = tmp_path / "gpus"
    file = LabelFile(path, lambda: 0.0)
    file.write({"nvidia.com/a": "1"})
    before = path.stat()
    assert before.st_mode & 0o777 == 0o644
    file.write({"nvidia.com/a": "1"})
    assert path.stat().st_ino == before.st_ino
    file.write({"nvidia.com/a": "2"})
    assert path.read_text() == "nvidia.com/a=2\n"
    file.expire()
    file.expire()
    assert path.read_text() == "# +expiry-time=1970-01-01T00:10:00Z\nnvidia.com/a=2\n"
    file.write({"nvidia.com/a": "2"})
    assert path.read_text() == "nvidia.com/a=2\n", "the next daemon takes it over"


def test_a_file_that_cannot_be_written_is_no_matter(tmp_path, caplog):
    file = LabelFile(tmp_path / "missing" / "gpus")
    file.write({"nvidia.com/a": "1"})
    file.expire()
    assert "labels_not_written" in caplog.text
    assert not (tmp_path / "missing").exists()


async def test_another_file_is_taken_and_the_former_expires(tmp_path):
    made = node_labels(labels_file=tmp_path / "old")
    made.update((gpu(0),), "550.54.15", (12, 4))
    work = asyncio.create_task(made.run(0))
    try:
        await becomes(tmp_path / "old", bool)
        made.reconfigure(Config(labels_file=tmp_path / "new", labels_timestamp=False))
        await becomes(tmp_path / "new", bool)
    finally:
        work.cancel()
    assert (tmp_path / "old").read_text().startswith("# +expiry-time=")
    assert "nvidia.com/gfd.timestamp" not in parsed(tmp_path / "new")


async def test_the_daemon_writes_them_and_lets_them_expire(kubelet, start, driver, tmp_path):
    path = tmp_path / "features.d" / "gpus"
    path.parent.mkdir()
    await kubelet.start()
    daemon = await start("--labels-file", str(path), "--mig-strategy", "mixed", "--no-timestamp")
    labels = await becomes(path, bool)
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert labels["nvidia.com/gpu.count"] == "2"
    assert labels["nvidia.com/gpu.family"] == "hopper"
    assert labels["nvidia.com/mig.capable"] == "true"
    assert labels["nvidia.com/cuda.runtime-version.major"].isdigit()
    assert "nvidia.com/gfd.timestamp" not in labels
    driver("mig", "1:3g.40gb,1g.10gb")
    labels = await becomes(path, lambda labels: "nvidia.com/mig-3g.40gb.count" in labels)
    assert labels["nvidia.com/mig-3g.40gb.multiprocessors"] == "60"
    assert labels["nvidia.com/mig-1g.10gb.memory"] == "9984"
    assert labels["nvidia.com/gpu.replicas"] == "1"
    driver("unload")
    await daemon.logged("driver_unavailable")
    assert await daemon.terminate() == 0
    assert path.read_text().startswith("# +expiry-time=")
    assert parsed(path) == labels, "a driver that is unloaded takes no label away"


@pytest.fixture
def here(driver, nvml_library, monkeypatch):
    """The command line in a process that sees the simulated driver."""

    async def run(*arguments: str) -> tuple[int, str, str]:
        import sys

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nvidia_devplugin", *arguments,
            env={**os.environ, "NVML_SIM_STATE": str(driver.state), "LD_LIBRARY_PATH": str(nvml_library),
                 "PYTHONPATH": str(Path(command_line.__file__).parents[1])},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
        return process.returncode, out.decode(), err.decode()

    return run


async def test_the_command_prints_them(here, driver, tmp_path):
    driver("set", 0, "fabric", "state=completed clique=1 cluster=7b968a6dc8aa45e19e07e1e51be99c31")
    config = tmp_path / "config.yaml"
    config.write_text("sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}\n")
    status, text, _ = await here("labels", "--config-file", str(config))
    assert status == 0
    assert "nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3-SHARED\n" in text
    assert "nvidia.com/gpu.replicas=10\n" in text
    assert "nvidia.com/gpu.clique=7b968a6d-c8aa-45e1-9e07-e1e51be99c31.1\n" in text
    status, text, _ = await here("labels", "--no-timestamp", "--output", "json")
    assert status == 0
    assert json.loads(text)["nvidia.com/gpu.count"] == "2"


async def test_without_a_driver_the_command_says_what_to_do(here, driver):
    driver("unload")
    status, text, error = await here("labels")
    assert (status, text) == (1, "")
    assert "kernel module is not loaded" in error
