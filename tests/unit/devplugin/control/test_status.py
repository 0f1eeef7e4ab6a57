"""The daemon's state, and its answers over its own and the shared control socket."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.control.server import ask, directory
from nvidia_devplugin.control.server import path as socket_path
from nvidia_devplugin.control.status import ALL_GPUS, Status, entries
from nvidia_devplugin.health import recovery
from nvidia_devplugin.health.recovery import Record
from nvidia_devplugin.health.state import HealthState
from nvidia_devplugin.model import Fault, Gpu, MigDevice

RESOURCE = "nvidia.com/gpu"
XID = Fault("xid_79", "XID 79: GPU has fallen off the bus; reboot the node")
GPUS = (Gpu(1, "GPU-a", 1, "H100", 0, "", mig=(MigDevice(2, "MIG-b", "1g.10gb", 1, 0),)),)


def test_faults_have_index_message_and_hint():
    health = HealthState(known=("GPU-a",), records={"GPU-a": Record(latched=XID, severity="fatal"), "MIG-b": Record()})
    assert entries(health, GPUS) == [
        {
            "uuid": "GPU-a",
            "index": "1",
            "code": "xid_79",
            "message": "XID 79: GPU has fallen off the bus",
            "hint": "reboot the node",
            "severity": "fatal",
        }
    ]
    mig = HealthState(known=("GPU-a",), records={"MIG-b": Record(reported=XID)})
    assert [(one["index"], one["severity"]) for one in entries(mig, GPUS)] == [("1:2", "reported")]


def test_a_driver_that_is_gone_is_one_fault_not_one_for_each_gpu():
    health = replace(HealthState(known=("GPU-a", "GPU-c")), driver=Fault("driver_not_loaded", "gone"))
    assert [(one["uuid"], one["hint"]) for one in entries(health, GPUS)] == [(ALL_GPUS, "")]


@given(st.lists(st.sampled_from(["GPU-a", "GPU-b", "MIG-b"]), unique=True), st.booleans())
def test_the_faults_are_exactly_those_of_the_health(faulty, gone):
    records = {uuid: Record(latched=XID, severity="fatal") for uuid in faulty} | {"GPU-well": recovery.HEALTHY}
    found = entries(HealthState(records=records, driver=XID if gone else None), GPUS)
    assert sorted(one["uuid"] for one in found) == sorted(faulty + [ALL_GPUS] * gone)


class Reported:
    """A Status whose faults and clock the test sets."""

    def __init__(self):
        self.faults = None
        self.now = 1000.0
        self.status = Status(
            lambda: self.faults, lambda: None, lambda: {"name": None, "refused": None}, lambda: self.now
        )

    def state(self):
        return json.loads(self.status.state())


def test_since_stays_while_a_fault_lasts_and_the_version_while_nothing_changes():
    reported = Reported()
    first = reported.state()
    assert first == {
        "version": first["version"],
        "labels": None,
        "faults": None,
        "config": {"name": None, "refused": None},
    }
    fault = {"uuid": "GPU-a", "code": "xid_79"}
    reported.faults = [fault]
    reported.now = 1001.0
    second = reported.state()
    assert second["version"] > first["version"]
    reported.now = 2000.0
    assert reported.state() == second
    reported.faults = [fault, {"uuid": "GPU-b", "code": "xid_79"}]
    assert [one["since"] for one in reported.state()["faults"]] == ["1970-01-01T00:16:41Z", "1970-01-01T00:33:20Z"]
    reported.faults = []
    reported.state()
    reported.faults = [fault]
    assert reported.state()["faults"][0]["since"] == "1970-01-01T00:33:20Z", "another fault, not the one before"


async def test_watch_answers_as_soon_as_something_changed():
    reported = Reported()
    known = reported.state()["version"]
    watcher = asyncio.create_task(reported.status.watch(str(known)))
    await asyncio.sleep(0)
    reported.status.touch()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not watcher.done(), "a touch without a change wakes no client"
    reported.faults = []
    reported.status.touch()
    assert json.loads(await asyncio.wait_for(watcher, 10))["faults"] == []
    assert json.loads(await reported.status.watch("1"))["faults"] == [], (
        "a client with another version is answered at once"
    )
    latest = reported.state()["version"]
    assert json.loads(await reported.status.watch(str(latest), seconds=0))["version"] == latest
    for nonsense in ("", "-1", "x", "¹"):
        with pytest.raises(ValueError, match="version"):
            await reported.status.watch(nonsense)


async def test_the_daemon_reports_its_state_over_both_sockets(kubelet, start, driver, tmp_path_factory):
    shared = kubelet.directory / "s"  # short, and somebody else's
    shared.mkdir(mode=0o2770)
    await kubelet.start()
    daemon = await start("--control-dir", str(shared))
    await kubelet.devices(RESOURCE)
    own = directory(kubelet.socket)
    # where the agent listens, only the group may; nothing is a matter of a later chmod
    assert stat.S_IMODE(socket_path(shared).stat().st_mode) == 0o660
    assert stat.S_IMODE(socket_path(own).stat().st_mode) == 0o600
    state = json.loads(await asyncio.to_thread(ask, shared, "state"))
    assert state["faults"] == []
    assert state["labels"]["nvidia.com/gpu.count"] == "2"
    assert state["config"] == {"name": None, "refused": None}
    watcher = asyncio.create_task(asyncio.to_thread(ask, shared, f"watch {state['version']}", 40.0))
    await asyncio.sleep(0.1)
    driver("xid", 1, 79)
    news = json.loads(await watcher)
    (fault,) = news["faults"]
    assert (fault["index"], fault["code"], fault["severity"]) == ("1", "xid_79", "fatal")
    with pytest.raises(ValueError, match="named configs are off"):
        await asyncio.to_thread(ask, shared, "config small")
    assert await asyncio.to_thread(ask, shared, f"ack {fault['uuid']}") == fault["uuid"]
    assert json.loads(await asyncio.to_thread(ask, own, "state"))["faults"] == []
    assert await daemon.terminate() == 0
    assert list(shared.iterdir()) == [], "the directory is somebody else's, the socket is ours"
