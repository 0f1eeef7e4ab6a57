"""The thread that follows the driver, on scripted sessions, and what errors are called."""

from __future__ import annotations

import queue
from pathlib import Path

import pynvml
import pytest

from nvidia_devplugin.model import DriverGone, Inventory, Link, Topology, XidEvent
from nvidia_devplugin.nvml.errors import NvmlUnavailableError
from nvidia_devplugin.nvml.gpu_reader import numa_node
from nvidia_devplugin.nvml.watch import DriverWatch
from tests.unit.devplugin.kubelet_stub import TIMEOUT
from tests.unit.devplugin.strategies import gpu

ONE = Inventory("550", (gpu(0),))
BOTH = Inventory("550", (gpu(0), gpu(1)))
EVENT = XidEvent(gpu(0).uuid, 79)
LINKS = Topology(((gpu(0).uuid, gpu(1).uuid, Link(50, 18)),))
NOT_LOADED = pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)


class Script:
    """Plays a list of steps: values are returned, exceptions raised. At its end it blocks, as NVML does."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.opened = 0
        self.links = []
        self.closed = 0
        self.end = queue.SimpleQueue()

    def _next(self):
        if not self.steps:
            self.end.get()
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def __enter__(self):
        self._next()
        self.opened += 1
        return self

    def __exit__(self, *_):
        self.closed += 1

    def inventory(self):
        return self._next()

    def topology(self, seen):
        return self.links.pop(0) if self.links else LINKS

    def wait(self, seconds):
        return self._next()


def follow(script, count, poll_seconds=3600.0):
    """The first `count` updates of a watch on `script`."""
    got = queue.SimpleQueue()
    watch = DriverWatch(got.put, lambda: script, poll_seconds)
    watch.start()
    try:
        return [got.get(timeout=TIMEOUT) for _ in range(count)]
    finally:
        watch.stop()


def test_inventory_then_events():
    assert follow(Script(None, ONE, EVENT, None, EVENT), 3) == [ONE, EVENT, EVENT]


def test_every_reading_is_reported():
    script = Script(None, ONE, ONE, BOTH, EVENT)
    assert follow(script, 4, poll_seconds=0.0) == [ONE, ONE, BOTH, LINKS]


def test_an_incomplete_topology_is_read_again_at_the_next_reading():
    script = Script(None, BOTH, BOTH, BOTH)
    part = Topology((), complete=False)
    script.links = [part, LINKS]
    assert follow(script, 5, poll_seconds=0.0) == [BOTH, part, BOTH, LINKS, BOTH]


def test_a_driver_that_cannot_be_used_is_tried_again():
    script = Script(NvmlUnavailableError(NOT_LOADED), NvmlUnavailableError(NOT_LOADED), None, ONE)
    first, second, third = follow(script, 3)
    assert isinstance(first, DriverGone)
    assert first == second
    assert first.fault.code == "driver_not_loaded"
    assert third == ONE


def test_a_driver_that_vanishes_is_told_and_the_session_closed():
    script = Script(None, ONE, NvmlUnavailableError(NOT_LOADED), None, BOTH)
    *_, gone, back, links = follow(script, 4, poll_seconds=0.0)
    assert gone.fault.code == "driver_not_loaded"
    assert (back, links) == (BOTH, LINKS)
    assert script.closed == 1


def test_an_unforeseen_error_is_no_silence():
    gone, back = follow(Script(ZeroDivisionError("oops"), None, ONE), 2)
    assert gone.fault.code == "internal_error"
    assert "oops" in gone.fault.message
    assert back == ONE


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "library_missing"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "driver_not_loaded"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "version_mismatch"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no_permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "nvml_error_999"),
    ],
)
def test_errors_have_a_code_and_say_what_to_do(code, expected):
    gone = NvmlUnavailableError(pynvml.NVMLError(code)).gone
    assert gone.fault.code == expected
    assert gone.fault.message
    assert gone.hint


@pytest.mark.parametrize(
    ("content", "bus_id", "expected"),
    [
        pytest.param("1\n", "00000000:1B:00.0", 1, id="node"),
        pytest.param("-1\n", "00000000:1B:00.0", None, id="unknown"),
        pytest.param("1\n", "00000001:1B:00.0", None, id="another-domain"),
        pytest.param("garbage", "00000000:1B:00.0", None, id="garbage"),
    ],
)
def test_numa_node_from_sysfs(tmp_path: Path, content, bus_id, expected):
    device = tmp_path / "0000:1b:00.0"
    device.mkdir()
    (device / "numa_node").write_text(content)
    assert numa_node(tmp_path, bus_id) == expected
