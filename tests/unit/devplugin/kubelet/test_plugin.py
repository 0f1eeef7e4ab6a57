"""The gRPC service and the registration in this process, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path

import grpc
import pytest

from nvidia_devplugin.config.settings import Config
from nvidia_devplugin.devices.resources import resources
from nvidia_devplugin.inotify import DirectoryWatch
from nvidia_devplugin.kubelet import registration
from nvidia_devplugin.kubelet.plugin import DevicePlugin, Endpoint
from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from nvidia_devplugin.kubelet.registration import retry_delay
from nvidia_devplugin.log import _quoted, worth_a_line
from nvidia_devplugin.model import Fault
from nvidia_devplugin.sockets import is_listening
from tests.unit.devplugin import grpc_services
from tests.unit.devplugin.kubelet_stub import TIMEOUT
from tests.unit.devplugin.strategies import gpu

FAULT = Fault("xid_79", "fallen off the bus")
(TWO,) = resources((gpu(0, 0), gpu(1, 1)))


def health(response):
    return {device.ID: device.health for device in response.devices}


@pytest.fixture
async def served(tmp_path):
    """A plugin on a socket, and a client of it."""
    plugin = DevicePlugin("nvidia.com/gpu", Config())
    endpoint = Endpoint(plugin, tmp_path)
    await endpoint.serve()
    async with grpc.aio.insecure_channel(f"unix:{endpoint.path}") as channel:
        yield plugin, endpoint, grpc_services.DevicePluginStub(channel)
    await endpoint.stop()


async def read(stream):
    return await asyncio.wait_for(stream.read(), TIMEOUT)


async def test_a_stream_begins_with_the_current_state_and_follows_it(served):
    plugin, _, stub = served
    plugin.publish(TWO, {})
    stream = stub.ListAndWatch(pb.Empty())
    first = await read(stream)
    assert health(first) == {gpu(0).uuid: "Healthy", gpu(1).uuid: "Healthy"}
    assert [[node.ID for node in device.topology.nodes] for device in first.devices] == [[0], [1]]
    plugin.publish(TWO, {gpu(1).uuid: FAULT})
    assert health(await read(stream)) == {gpu(0).uuid: "Healthy", gpu(1).uuid: "Unhealthy"}
    stream.cancel()


async def test_nothing_is_sent_before_anything_is_known(served):
    plugin, _, stub = served
    stream = stub.ListAndWatch(pb.Empty())
    reading = asyncio.ensure_future(stream.read())
    await stub.GetDevicePluginOptions(pb.Empty())
    assert not reading.done()
    plugin.publish(TWO, {})
    assert len((await asyncio.wait_for(reading, TIMEOUT)).devices) == 2
    stream.cancel()


async def test_updates_are_coalesced_and_the_last_one_arrives(served):
    plugin, _, stub = served
    plugin.publish(TWO, {})
    stream = stub.ListAndWatch(pb.Empty())
    await read(stream)
    for number in range(1000):  # without giving the stream a turn
        plugin.publish(TWO, {gpu(number % 2).uuid: FAULT})
    assert health(await read(stream)) == {gpu(0).uuid: "Healthy", gpu(1).uuid: "Unhealthy"}
    plugin.publish(TWO, {})
    assert set(health(await read(stream)).values()) == {"Healthy"}
    stream.cancel()


async def test_every_stream_gets_every_state(served):
    plugin, _, stub = served
    plugin.publish(TWO, {})
    streams = [stub.ListAndWatch(pb.Empty()) for _ in range(3)]
    for stream in streams:
        await read(stream)
    streams.pop().cancel()
    plugin.publish(TWO, {gpu(0).uuid: FAULT})
    for stream in streams:
        assert health(await read(stream))[gpu(0).uuid] == "Unhealthy"
        stream.cancel()


@pytest.fixture
async def kept(kubelet, monkeypatch):
    """A plugin that is being kept registered with a kubelet, and what keeps it so; a lost stream is noticed at once."""
    monkeypatch.setattr(registration, "RECHECK_SECONDS", 0.1)
    plugin = DevicePlugin("nvidia.com/gpu", Config())
    plugin.publish(TWO, {})
    endpoint = Endpoint(plugin, kubelet.directory)
    await kubelet.start()
    keeping = registration.Registration(
        kubelet.socket, plugin.resource, plugin.options, endpoint, lambda: plugin.streams > 0
    )
    task = asyncio.create_task(keeping.run())
    await kubelet.devices(plugin.resource)
    yield plugin, endpoint, keeping
    task.cancel()
    await asyncio.wait({task})
    await endpoint.stop()


async def test_a_plugin_that_the_kubelet_dropped_registers_again(kept, kubelet):
    plugin, _, keeping = kept
    assert keeping.ready
    kubelet.endpoints[plugin.resource].task.cancel()
    await kubelet.registered(2)
    assert len(await kubelet.devices(plugin.resource)) == 2


@pytest.mark.parametrize("removed", ["ours", "both"])
async def test_a_kubelet_that_starts_while_we_look_is_told_of_the_new_socket_only(kept, kubelet, monkeypatch, removed):
    plugin, endpoint, keeping = kept
    before = endpoint.path

    def listening(path):
        if before.exists():
            before.unlink()
            if removed == "both":  # the same server, and for all that can be seen a new socket
                path.rename(path.with_suffix(".new")).rename(path)
        return is_listening(path)

    monkeypatch.setattr(registration, "is_listening", listening)
    kubelet.endpoints[plugin.resource].task.cancel()
    await kubelet.registered(2)
    assert len(await kubelet.devices(plugin.resource)) == 2
    assert [request.endpoint for request in kubelet.registrations] == ["nvidia-gpu.sock", "nvidia-gpu-1.sock"]
    assert keeping.ready


async def test_streams_end_when_it_is_no_longer_served(served):
    plugin, endpoint, stub = served
    plugin.publish(TWO, {})
    streams = [stub.ListAndWatch(pb.Empty()) for _ in range(2)]
    for stream in streams:
        await read(stream)
    assert plugin.streams == 2
    await endpoint.stop()
    for stream in streams:
        assert await read(stream) is grpc.aio.EOF
    assert plugin.streams == 0


async def test_each_time_it_is_served_under_a_new_name(served, tmp_path):
    _, endpoint, _ = served
    names = [endpoint.path.name]
    for _ in range(2):
        await endpoint.serve()
        names.append(endpoint.path.name)
        assert endpoint.present
    assert names == ["nvidia-gpu.sock", "nvidia-gpu-1.sock", "nvidia-gpu-2.sock"]
    assert [path.name for path in tmp_path.iterdir()] == names[-1:]


async def test_two_plugins_in_one_directory_do_not_take_each_others_socket(served, tmp_path):
    _, first, _ = served
    second = Endpoint(DevicePlugin("nvidia.com/gpu", Config()), tmp_path)
    await second.serve()
    assert is_listening(first.path)
    assert is_listening(second.path)
    assert first.path != second.path
    await second.stop()


@pytest.mark.parametrize("steps", range(8))
async def test_a_start_that_is_cancelled_can_be_stopped(tmp_path, caplog, steps):
    endpoint = Endpoint(DevicePlugin("nvidia.com/gpu", Config()), tmp_path)
    serving = asyncio.create_task(endpoint.serve())
    for _ in range(steps):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait([serving], timeout=TIMEOUT)
    await asyncio.wait_for(endpoint.stop(), TIMEOUT)
    assert not list(tmp_path.iterdir())
    assert "invalid state" not in caplog.text


async def test_a_directory_that_cannot_be_served_in_is_an_oserror(tmp_path):
    endpoint = Endpoint(DevicePlugin("nvidia.com/gpu", Config()), tmp_path / "missing")
    with pytest.raises(OSError, match="cannot listen on"):
        await endpoint.serve()
    assert not endpoint.present


def test_is_listening(tmp_path: Path):
    path = tmp_path / "s"
    assert not is_listening(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert not is_listening(path)
        bound.listen(0)
        assert is_listening(path)
    assert not is_listening(path)


def open_watches():
    """The process' inotify files; others come and go with grpc's threads."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the file by which the folder is read
            links.append(str(entry.readlink()))
    return links.count("anon_inode:inotify")


async def test_directory_watch(tmp_path: Path):
    directory = tmp_path / "d"
    directory.mkdir()
    before = open_watches()
    with DirectoryWatch(directory) as watch:
        assert await watch.wait(0.0) == set()
        (directory / "a").touch()
        (directory / "b").touch()
        assert await watch.wait(TIMEOUT) == {"a", "b"}
        (directory / "a").rename(directory / "c")
        assert await watch.wait(TIMEOUT) == {"c"}
        (directory / "b").unlink()
        assert await watch.wait(TIMEOUT) == set()
        (directory / "d").touch()
        watch.drain()
        assert await watch.wait(0.0) == set()
        shutil.rmtree(directory)
        while not watch.gone:
            await watch.wait(TIMEOUT)
    assert open_watches() == before
    with pytest.raises(OSError, match=r"No such file or directory: .*/d"):
        DirectoryWatch(directory)
    assert open_watches() == before


def test_retries_are_quick_at_first_and_rare_in_the_end():
    delays = [retry_delay(attempt) for attempt in range(800)]
    assert delays == sorted(delays)
    assert delays[0] == 0.005
    assert max(delays[:670]) <= 0.015
    assert 8 < sum(delays[:670]) < 12
    assert delays[-1] == 1.0


def test_a_repeated_failure_is_counted_not_repeated():
    assert [attempt for attempt in range(1, 20) if worth_a_line(attempt)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "true"), (1.5, "1.5"), ("a b", '"a b"'), ("", '""'), ('q"\\', '"q\\"\\\\"'), ("x\ny\x1b", '"x\\ny\\x1b"')],
)
def test_log_fields_stay_on_one_line(value, expected):
    assert _quoted(value) == expected
