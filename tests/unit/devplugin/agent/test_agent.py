"""The agent as a process, between the real daemon and an API server over TLS; its writes in virtual time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from nvidia_devplugin.agent.agent import Agent
from nvidia_devplugin.agent.daemon_client import DaemonClient
from nvidia_devplugin.agent.node_changes import ACK, ACK_RESULT, FAULTS, FEATURES, OWNED
from nvidia_devplugin.agent.state import DaemonState
from tests.unit.devplugin.agent.api_stub import NODE, ApiStub
from tests.unit.devplugin.conftest import ROOT
from tests.unit.devplugin.daemon_process import Daemon
from tests.unit.devplugin.kubelet_stub import TIMEOUT

RESOURCE = "nvidia.com/gpu"
COUNT = "nvidia.com/gpu.count"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiStub]:
    folder = tmp_path / "account"
    folder.mkdir()
    stub = ApiStub(folder)
    yield stub
    stub.close()


@pytest.fixture
async def agent(server: ApiStub, kubelet) -> AsyncIterator[object]:
    """agent(*flags, port=…): the process. The control directory is `c` beside the kubelet's socket."""
    started: list[Daemon] = []

    async def run(*flags: str, features: str = ",".join(FEATURES), port: int | None = None) -> Daemon:
        environment = {**server.environment(), **({} if port is None else {"KUBERNETES_SERVICE_PORT": str(port)})}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nvidia_devplugin", "agent",
            "--features", features, "--control-dir", str(control(kubelet)), "--account-dir", str(server.folder), *flags,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "files/devplugin/src"), **environment},
            stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(Daemon(process))
        return started[-1]

    yield run
    for process in started:
        if process.process.returncode is None:
            process.process.kill()
        await process.exit()


def control(kubelet) -> Path:
    where = kubelet.directory / "c"
    where.mkdir(exist_ok=True)
    return where


async def until(condition, what: str):
    """Wait until condition() is true."""

    async def wait():
        while not condition():
            await asyncio.sleep(0.02)

    try:
        await asyncio.wait_for(wait(), TIMEOUT)
    except asyncio.TimeoutError:
        raise AssertionError(f"not seen: {what}") from None


def reasons(server: ApiStub) -> list[str]:
    return [event["reason"] for event in server.events.values()]


async def test_faults_labels_and_acknowledgement(server, agent, kubelet, start, driver):
    await kubelet.start()
    await start("--control-dir", str(control(kubelet)))
    process = await agent()
    await until(lambda: server.metadata["labels"].get(COUNT) == "2", "the labels")
    assert "gpu.count" in server.metadata["annotations"][OWNED]
    assert "nvidia.com/gpu.present" not in server.metadata["labels"], "that is the DaemonSet's"
    first, second = await kubelet.devices(RESOURCE)

    driver("xid", 1, 79)
    await until(lambda: FAULTS in server.metadata["annotations"], "the annotation")
    (fault,) = json.loads(server.metadata["annotations"][FAULTS])
    assert (fault["uuid"], fault["index"], fault["code"]) == (second, "1", "xid_79")
    await until(lambda: server.events, "the Event")
    (event,) = server.events.values()
    assert (event["type"], event["reason"]) == ("Warning", "GPUUnhealthy")
    assert f"GPU 1 ({second})" in event["message"]
    assert "XID 79" in event["message"]

    # another agent knows from the node what was told already
    await process.terminate()
    process = await agent()
    await process.logged("daemon_available")
    server.change(annotations={ACK: f"{second}, GPU-nonsense"})
    await until(lambda: FAULTS not in server.metadata["annotations"], "the annotation to go")
    await until(lambda: "GPUHealthy" in reasons(server), "the Event of the recovery")
    assert reasons(server).count("GPUUnhealthy") == 1
    assert {"GPUAcknowledged", "GPUNotAcknowledged"} <= set(reasons(server))
    assert ACK not in server.metadata["annotations"]
    result = server.metadata["annotations"][ACK_RESULT]
    assert f"{second}: acknowledged" in result
    assert "GPU-nonsense: no GPU or MIG device" in result
    devices = await kubelet.devices(RESOURCE, lambda found: found[second] == "Healthy")
    assert devices == {first: "Healthy", second: "Healthy"}

    server.change(labels={COUNT: "7"})
    await until(lambda: server.metadata["labels"].get(COUNT) == "2", "a label that somebody changed")
    patches = [request for request in server.requests if request[0] == "PATCH"]
    await asyncio.sleep(0.3)
    assert [request for request in server.requests if request[0] == "PATCH"] == patches, "nothing changed: no patch"

    remover = await agent("--remove")
    assert await remover.exit() == 0


async def test_remove_takes_back_what_is_ours(server, agent, kubelet):
    server.change(
        labels={COUNT: "2", "nvidia.com/gpu.present": "true", "nvidia.com/other": "x"},
        annotations={OWNED: "gpu.count,gpu.present", FAULTS: "[]", ACK_RESULT: "x", "example.com/note": "stays"},
    )
    assert await (await agent("--remove")).exit() == 0
    assert server.metadata["labels"] == {"nvidia.com/gpu.present": "true", "nvidia.com/other": "x"}
    assert server.metadata["annotations"] == {"example.com/note": "stays"}
    server.refuse["PATCH", "/nodes/"] = [(403, {})]
    server.change(annotations={OWNED: "gpu.count"})
    refused = await agent("--remove")
    assert await refused.exit() == 1
    assert f"patch nodes/{NODE}: 403" in refused.lines[0]


async def test_without_rights_the_log_says_which_and_gpus_are_served(server, agent, kubelet, start, driver):
    await kubelet.start()
    daemon = await start("--control-dir", str(control(kubelet)))
    server.refuse["GET", "/nodes/"] = [(403, {})] * 1000
    server.refuse["POST", "/events"] = [(403, {})]
    process = await agent(features="events,labels")
    line = await process.logged("forbidden", verb="get")
    assert line["resource"] == f"nodes/{NODE}"
    await kubelet.devices(RESOURCE)
    driver("xid", 0, 79)
    line = await process.logged("forbidden", verb="create")
    assert line["resource"] == "events in default"
    await until(lambda: server.events, "the Event, once it is allowed")
    devices = await kubelet.devices(RESOURCE, lambda found: list(found.values()).count("Healthy") == 1)
    assert len(devices) == 2
    assert await daemon.terminate() == 0


async def test_an_api_server_that_comes_late_and_watches_that_end(server, agent, kubelet, start):
    await kubelet.start()
    await start("--control-dir", str(control(kubelet)))
    server.refuse["GET", ""] = [None, (503, {"Retry-After": "0"}), (429, {"Retry-After": "1"})]
    process = await agent(features="labels")
    await process.logged("api_unreachable")
    await until(lambda: server.metadata["labels"].get(COUNT) == "2", "the labels")
    server.tell("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
    await asyncio.sleep(0.1)
    server.change(labels={COUNT: None})  # nobody watches at this moment
    await until(lambda: server.metadata["labels"].get(COUNT) == "2", "the label that was lost while nobody watched")
    server.refuse["PATCH", ""] = [(500, {})]
    server.change(labels={COUNT: "9"})
    await until(lambda: server.metadata["labels"].get(COUNT) == "2", "the label, in spite of an error")
    assert "Traceback" not in "\n".join(process.lines)


async def test_the_nodes_label_is_told_to_the_daemon(server, agent, kubelet, start, tmp_path):
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "plain").write_text("version: v1\n")
    shared = {"timeSlicing": {"resources": [{"name": RESOURCE, "replicas": 4}]}}
    (configs / "shared").write_text(json.dumps({"version": "v1", "sharing": shared}))
    await kubelet.start()
    flags = ("--config-file-srcdir", str(configs), "--default-config=plain", "--control-dir", str(control(kubelet)))
    daemon = await start(*flags)
    process = await agent(features="config,events")
    assert len(await kubelet.devices(RESOURCE)) == 2
    server.change(labels={"nvidia.com/device-plugin.config": "shared"})
    await kubelet.devices(RESOURCE, lambda found: len(found) == 8)
    server.change(labels={"nvidia.com/device-plugin.config": "nonsense"})
    await process.logged("config_refused", label="nonsense")
    await until(lambda: "DevicePluginConfigRefused" in reasons(server), "the Event")
    daemon.process.send_signal(signal.SIGKILL)
    await daemon.exit()
    server.change(labels={"nvidia.com/device-plugin.config": None})
    await start(*flags)
    await kubelet.devices(RESOURCE, lambda found: len(found) == 2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(("--features", "events,nonsense"), "nonsense: expected some of", id="unknown-feature"),
        pytest.param(("--features", ""), "nothing to do", id="no-feature"),
        pytest.param(("--node-name", ""), "the node's name is needed", id="no-node"),
    ],
)
async def test_wrong_settings_stop_it_at_once(agent, flags, message):
    process = await agent(*flags)
    assert await process.exit() == 2
    assert message in process.lines[-1]


async def test_sigterm_ends_it_while_everything_is_away(agent):
    process = await agent(port=1)
    await process.logged("api_unreachable")
    await process.logged("daemon_unavailable")
    assert await process.terminate() == 0
    assert "Traceback" not in "\n".join(process.lines)


# the agent's writes, in virtual time


class Contested:
    """A node from which somebody takes the labels `stripped` as soon as they are written. Time passes by run()."""

    def __init__(self, stripped: tuple[str, ...] = ()) -> None:
        self.now = 0.0
        self.stripped = stripped
        self.metadata: dict[str, dict[str, str]] = {"labels": {}, "annotations": {}}
        self.writes: list[float] = []
        self.agent = Agent(NODE, ("labels",), lambda: self, DaemonClient(Path("none")), lambda: self.now)
        self.agent.handle_node(self.metadata)

    def merge(self, name: str, changes: dict[str, dict[str, str | None]]) -> dict[str, dict[str, str]]:
        assert name == NODE
        self.writes.append(self.now)
        for kind, values in changes.items():
            merged = {**self.metadata[kind], **values}
            self.metadata[kind] = {key: value for key, value in merged.items() if value is not None}
        for key in self.stripped:
            self.metadata["labels"].pop(key, None)
        return self.metadata

    def report(self, version: int, **labels: str) -> None:
        """The daemon's labels are these now."""
        self.agent.handle_state(DaemonState(version, (), {f"nvidia.com/gpu.{key}": v for key, v in labels.items()}))

    def run(self, seconds: float) -> list[float]:
        """Seconds between the writes in this time."""
        until, first = self.now + seconds, len(self.writes)
        while self.now < until:
            self.agent.step()
            self.now += 0.5
        writes = self.writes[first:]
        return [later - earlier for earlier, later in pairwise(writes)]


def undone(caplog) -> list[dict[str, object]]:
    return [record.fields for record in caplog.records if record.getMessage() == "node_changes_undone"]


def test_labels_that_are_taken_away_are_written_less_and_less_often(caplog):
    node = Contested(stripped=(COUNT,))
    node.report(1, count="2", mode="compute")
    assert node.run(7200)[:11] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    lines = undone(caplog)
    assert [line["times"] for line in lines] == [1, 2, 4, 8, 16], "not one for each write"
    assert {line["labels"] for line in lines} == {COUNT}, "what was taken away, and not what stayed"
    assert "Node Feature Discovery" in str(lines[0]["hint"])

    node.report(2, count="3", mode="compute")
    assert node.run(20)[:3] == [2, 4, 8], "other labels are written at once"

    node.stripped = ()
    node.run(600)
    assert node.run(3600) == [], "what stays is written once"
    del node.metadata["labels"][COUNT]
    node.agent.handle_node(node.metadata)
    node.run(1)
    assert node.metadata["labels"][COUNT] == "3", "an edit after an hour is undone at once"
