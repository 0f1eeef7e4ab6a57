"""Faults that are injected, each with what must hold: a driver that hangs, signals in every phase, two daemons."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from nvidia_devplugin.health.fault_store import FaultStore
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.health.state import HealthState, update
from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from nvidia_devplugin.model import Inventory, XidEvent
from tests.unit.devplugin.strategies import gpu
from tests.unit.devplugin.test_daemon import healthy

RESOURCE = "nvidia.com/gpu"
IMPATIENT = (
    "-c",
    "import functools, nvidia_devplugin.daemon as app, nvidia_devplugin.__main__ as main;"
    "app._HANG_SECONDS = 0.4;"  # what is a minute in earnest
    "app.DriverWatch = functools.partial(app.DriverWatch, poll_seconds=0.1);"
    "main.entry()",
)


def hang(driver) -> None:
    driver("set", "system", "hang", "yes")


def answer(driver) -> None:
    driver("set", "system", "hang", "-")


async def test_a_driver_that_hangs_makes_its_gpus_unhealthy_until_it_answers(kubelet, start, driver):
    await kubelet.start()
    daemon = await start(program=IMPATIENT)
    devices = await kubelet.devices(RESOURCE, healthy(2))
    for times in (1, 2):
        hang(driver)
        await kubelet.devices(RESOURCE, healthy(0))
        line = await daemon.logged("driver_unavailable", **({"count": 2} if times == 2 else {}))
        assert line["reason"] == "driver_hangs"
        # the kubelet is answered all the while
        with pytest.raises(grpc.aio.AioRpcError, match="the driver does not answer") as refused:
            await kubelet.allocate(RESOURCE, next(iter(devices)))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        request = pb.PreferredAllocationRequest()
        request.container_requests.add(available_deviceIDs=list(devices), allocation_size=1)
        preferred = await kubelet.endpoints[RESOURCE].stub.GetPreferredAllocation(request)
        assert len(preferred.container_responses[0].deviceIDs) == 1
        assert await daemon.get("/healthz") == (200, "ok")
        answer(driver)
        assert await kubelet.devices(RESOURCE, healthy(2)) == devices
    await kubelet.allocate(RESOURCE, next(iter(devices)))
    assert len(kubelet.registrations) == 1
    driver("xid", 0, 79)  # and events are followed as before
    await kubelet.devices(RESOURCE, healthy(1))


async def test_a_driver_that_hangs_from_the_start_is_waited_for(kubelet, start, driver):
    """Also with fail-on-init-error: without persistence mode the first answer may take a minute."""
    hang(driver)
    await kubelet.start()
    daemon = await start("--fail-on-init-error=true", program=IMPATIENT)
    assert (await daemon.logged("driver_unavailable"))["reason"] == "driver_hangs"
    status, why = await daemon.get("/readyz")
    assert status == 503
    assert why.startswith("the driver does not answer")
    assert kubelet.registrations == []
    answer(driver)
    await kubelet.devices(RESOURCE, healthy(2))
    assert await daemon.get("/readyz") == (200, "ok")


@pytest.mark.parametrize("serving", [False, True], ids=["starting", "serving"])
async def test_sigterm_while_the_driver_hangs(kubelet, start, driver, serving):
    await kubelet.start()
    if not serving:
        hang(driver)
    daemon = await start(program=IMPATIENT)
    if serving:
        await kubelet.devices(RESOURCE, healthy(2))
        hang(driver)
    await daemon.logged("driver_unavailable")
    assert await daemon.terminate() == 0
    assert "Traceback" not in "\n".join(daemon.lines)


async def test_sigterm_while_it_registers(kubelet, start):
    asked = asyncio.Event()

    async def never(request, context):
        asked.set()
        await asyncio.Event().wait()

    kubelet.Register = never
    await kubelet.start()
    daemon = await start()
    await asyncio.wait_for(asked.wait(), 30)
    assert await daemon.terminate() == 0
    assert "Traceback" not in "\n".join(daemon.lines)
    assert [path.name for path in kubelet.directory.iterdir()] == ["kubelet.sock"]


async def test_a_slow_kubelet_is_waited_for_and_asked_once(kubelet, start):
    asked, release = asyncio.Event(), asyncio.Event()
    real = kubelet.Register

    async def slow(request, context):
        asked.set()
        await release.wait()
        return await real(request, context)

    kubelet.Register = slow
    await kubelet.start()
    daemon = await start()
    await asyncio.wait_for(asked.wait(), 30)
    assert await daemon.get("/readyz") == (503, "not registered with the kubelet")
    release.set()
    await kubelet.devices(RESOURCE, healthy(2))
    assert len(kubelet.registrations) == 1


async def test_sigterm_during_a_storm(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE, healthy(2))
    with (driver.state.parent / "events").open("a") as events:
        events.write("xid 0 13\nxid 0 79\n" * 5000)
    await kubelet.devices(RESOURCE, healthy(1))
    assert await daemon.terminate() == 0
    assert "Traceback" not in "\n".join(daemon.lines)


async def test_a_killed_daemon_is_followed_by_one_that_knows_what_it_knew(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    first, second = await kubelet.devices(RESOURCE, healthy(2))
    driver("xid", 1, 79)
    await kubelet.devices(RESOURCE, healthy(1))
    remembered = kubelet.directory / "nvidia.d" / "health.json"
    for again in (1, 2):
        await asyncio.wait_for(written(remembered, second), 30)
        daemon.process.kill()
        await daemon.exit()
        daemon = await start()
        await kubelet.registered(1 + again)
        assert await kubelet.devices(RESOURCE, bool) == {first: "Healthy", second: "Unhealthy"}
    assert await daemon.terminate() == 0


async def written(path: Path, uuid: str) -> None:
    while not (path.exists() and uuid in path.read_text()):
        await asyncio.sleep(0.01)


async def test_two_daemons_at_once_agree_and_leave_one_memory(kubelet, start, driver):
    await kubelet.start()
    one = await start()
    first, second = await kubelet.devices(RESOURCE, healthy(2))
    other = await start()
    await kubelet.registered(2)
    driver("xid", 1, 79)
    await one.logged("unhealthy", gpu=second)
    await other.logged("unhealthy", gpu=second)
    await kubelet.devices(RESOURCE, healthy(1))
    await kubelet.allocate(RESOURCE, first)
    folder = kubelet.directory / "nvidia.d"
    await asyncio.wait_for(written(folder / "health.json", second), 30)
    assert list(json.loads((folder / "health.json").read_text())["gpus"]) == [second]
    # whichever ends first takes nothing from the other
    assert await one.terminate() == 0
    await kubelet.devices(RESOURCE, healthy(1))
    await kubelet.allocate(RESOURCE, first)
    assert await other.terminate() == 0
    assert [path.name for path in folder.iterdir()] == ["health.json"]
    await start()
    await kubelet.registered(3)
    assert await kubelet.devices(RESOURCE, healthy(1)) == {first: "Healthy", second: "Unhealthy"}


def faulty(*indices: int) -> HealthState:
    """Some of two GPUs with a fatal fault."""
    policy = Policy.from_text()
    state = update(HealthState(), policy, Inventory("550", (gpu(0), gpu(1))), 0.0)
    for index in indices:
        state = update(state, policy, XidEvent(gpu(index).uuid, 79), 0.0)
    return state


def test_two_writers_of_one_memory_never_mix(tmp_path, monkeypatch, caplog):
    """The second writes while the first is between its file and the file's name."""
    one, other = FaultStore(tmp_path), FaultStore(tmp_path)
    replace, pending = Path.replace, [other]

    def interrupted(path, target):
        if pending:
            pending.pop().keep(faulty(0, 1))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    one.keep(faulty(0))
    assert not pending
    assert caplog.text == ""
    assert set(FaultStore(tmp_path).recall().records) == {gpu(0).uuid}
    assert [path.name for path in tmp_path.iterdir()] == ["health.json"]


def test_what_a_writer_left_that_was_killed_is_swept(tmp_path):
    FaultStore(tmp_path).keep(faulty(0))
    for name in ("health.0123456789ab.new", "health.new"):
        (tmp_path / name).write_text("{")
    assert set(FaultStore(tmp_path).recall().records) == {gpu(0).uuid}
    assert [path.name for path in tmp_path.iterdir()] == ["health.json"]
