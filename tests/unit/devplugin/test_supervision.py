"""Supervision and what the driver's updates do to what is advertised."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import nvidia_devplugin
from nvidia_devplugin.config.resource_rules import Rules
from nvidia_devplugin.config.settings import Config
from nvidia_devplugin.daemon import supervise
from nvidia_devplugin.gpu_tracker import MISMATCH_SECONDS, FatalError, GpuTracker, NewContainerNeededError
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.model import DriverGone, Fault, Inventory, XidEvent
from tests.unit.devplugin.strategies import gpu

GONE = DriverGone(Fault("driver_not_loaded", "the module is not loaded"), "modprobe nvidia")
TWO = Inventory("550", (gpu(0), gpu(1)))


class Published:
    """Stands where the plugins are; keeps what it is given."""

    def __init__(self):
        self.states = []

    def publish(self, resources, faults, topology):
        (resource,) = resources
        self.states.append({device.id: faults.get(device.gpu.uuid) for device in resource.devices})


def devices(**settings):
    plugin = Published()
    return GpuTracker(Config(**settings), plugin, Policy.from_text()), plugin


async def test_only_changes_are_published():
    state, plugin = devices()
    for news in (TWO, TWO, XidEvent(gpu(0).uuid, 13), XidEvent(gpu(0).uuid, 79), XidEvent(gpu(0).uuid, 48), TWO):
        state.apply(news)
    assert [[fault is None for fault in seen.values()] for seen in plugin.states] == [[True, True], [False, True]]
    assert state.problem is None


async def test_a_gpu_that_vanished_stays_advertised():
    state, plugin = devices()
    state.apply(TWO)
    state.apply(Inventory("550", (gpu(1),)))
    assert plugin.states[-1][gpu(0).uuid].code == "gpu_lost"
    state.apply(Inventory("550", (gpu(1), gpu(2))))
    assert set(plugin.states[-1]) == {gpu(0).uuid, gpu(1).uuid, gpu(2).uuid}


async def test_no_driver_at_start_is_fatal_with_the_cure():
    state, _ = devices()
    with pytest.raises(FatalError, match=r"^NVML cannot be used: the module is not loaded\. .*: modprobe nvidia$"):
        state.apply(GONE)


async def test_mig_devices_that_were_made_later_and_are_hidden_end_the_process():
    mixed = Config(rules=Rules(mig_strategy="mixed"))
    old, made = ("GPU-0", 1, 0), ("GPU-0", 2, 0)
    state = GpuTracker(mixed, Published(), Policy.from_text())
    for hidden in ([old], [old], [old, made], [old], [old, made]):  # what is hidden once may be in the making
        state.apply(replace(TWO, hidden=frozenset(hidden)))
    with pytest.raises(NewContainerNeededError, match=r"2/0 of GPU-0"):
        state.apply(replace(TWO, hidden=frozenset([old, made])))


async def test_hidden_mig_devices_do_not_matter_where_none_are_offered():
    state, _ = devices()
    for hidden in ((), (("GPU-0", 1, 0),), (("GPU-0", 1, 0),)):
        state.apply(replace(TWO, hidden=frozenset(hidden)))


MISMATCH = DriverGone(Fault("version_mismatch", "the versions differ"), "recreate the pod")


async def test_a_driver_that_was_replaced_ends_the_process_with_a_status_of_its_own():
    now = [0.0]
    state = GpuTracker(Config(), Published(), Policy.from_text(), clock=lambda: now[0])
    state.apply(TWO)
    state.apply(MISMATCH)
    now[0] = MISMATCH_SECONDS - 1
    state.apply(MISMATCH)
    state.apply(TWO)  # it was over: the driver was being installed
    now[0] += MISMATCH_SECONDS
    state.apply(MISMATCH)
    now[0] += MISMATCH_SECONDS
    with pytest.raises(NewContainerNeededError, match="a new container is needed"):
        state.apply(MISMATCH)


async def test_a_driver_that_never_fitted_is_waited_for_where_that_is_wanted():
    now = [0.0]
    state = GpuTracker(Config(fail_on_init_error=False), Published(), Policy.from_text(), clock=lambda: now[0])
    for _reading in range(3):
        state.apply(MISMATCH)
        now[0] += MISMATCH_SECONDS
    state.apply(TWO)
    assert state.problem is None


async def test_the_daemon_is_not_ready_while_all_devices_are_unhealthy():
    state, _ = devices()
    state.apply(TWO)
    state.apply(XidEvent(gpu(0).uuid, 79))
    assert state.problem is None, "a pod can get the other one"
    state.apply(XidEvent(gpu(1).uuid, 79))
    assert state.problem.startswith("all 2 devices are unhealthy: XID 79")


async def test_a_fatal_error_says_the_exit_status():
    async def end():
        raise NewContainerNeededError("recreate me")

    assert await supervise({"driver": end()}, asyncio.get_running_loop().create_future()) == 3


@pytest.mark.parametrize("first", [TWO, Inventory("550", ())], ids=["gpus", "no-gpus"])
async def test_no_driver_later_is_not(first):
    state, _ = devices()
    state.apply(first)
    state.apply(GONE)


async def test_no_driver_is_waited_for():
    state, plugin = devices(fail_on_init_error=False)
    state.apply(GONE)
    state.apply(GONE)
    assert plugin.states == []
    assert state.problem == "the module is not loaded"
    state.apply(Inventory("550", ()))
    assert state.problem == "no GPU found"
    state.apply(TWO)
    assert state.problem is None
    assert len(plugin.states) == 1


async def forever():
    await asyncio.Event().wait()


async def fail():
    raise FatalError("broken")


async def end():
    return None


@pytest.mark.parametrize("last", [fail, end])
async def test_any_task_that_ends_ends_all_with_a_failure(last):
    stopped = asyncio.Event()

    async def witness():
        try:
            await forever()
        finally:
            stopped.set()

    stopping = asyncio.get_running_loop().create_future()
    assert await supervise({"witness": witness(), "last": last()}, stopping) == 1
    assert stopped.is_set()


async def test_a_signal_is_a_good_reason():
    stopping = asyncio.get_running_loop().create_future()
    stopping.set_result("SIGTERM")
    assert await supervise({"one": forever(), "two": forever()}, stopping) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(second):
    program = f"""
import asyncio, os
from nvidia_devplugin.daemon import _stop_on_signals
async def main():
    stopping = _stop_on_signals(asyncio.get_running_loop())
    os.kill(os.getpid(), {signal.SIGTERM:d})
    print(await stopping, flush=True)
    os.kill(os.getpid(), {second:d})
    await asyncio.Event().wait()
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(nvidia_devplugin.__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (128 + second, "SIGTERM\n"), ended.stderr
