"""The gRPC service and the registration in this process, over real sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from nvidia_devplugin import sockets
from nvidia_devplugin.config.settings import Config
from nvidia_devplugin.devices.resources import resources
from nvidia_devplugin.kubelet import plugin as plugin_module
from nvidia_devplugin.kubelet import registration
from nvidia_devplugin.kubelet.plugin import DevicePlugin, Endpoint, fitting, response
from nvidia_devplugin.kubelet.plugin_manager import PluginManager
from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from nvidia_devplugin.kubelet.proto.deviceplugin_pb2_grpc import DevicePluginStub
from nvidia_devplugin.kubelet.registration import retry_delay
from nvidia_devplugin.log import _quoted, worth_a_line
from nvidia_devplugin.model import AdvertisedDevice, Fault, Resource
from nvidia_devplugin.sockets import is_listening
from tests.unit.devplugin.kubelet_stub import CHANNEL_OPTIONS, TIMEOUT
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
        yield plugin, endpoint, DevicePluginStub(channel)
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
    """A plugin that is registered with a kubelet, and its registration, which notices a lost stream at once."""
    monkeypatch.setattr(registration, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(registration, "STREAM_SECONDS", 0.1)
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


class Forbidden(socket.socket):
    """Connections as SELinux forbids them."""

    def connect(self, address) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_forbidden_connection_is_not_a_missing_server(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sockets.socket, "socket", Forbidden)
    with pytest.raises(PermissionError):
        is_listening(tmp_path / "s")


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "permission_denied"),
        (OSError(errno.ENOTDIR, "Not a directory"), "kubelet_unreachable"),
    ],
)
async def test_why_the_kubelet_cannot_be_asked_is_logged(kept, kubelet, monkeypatch, caplog, error, event):
    plugin, _, keeping = kept

    def fails(_path):
        raise error

    monkeypatch.setattr(registration, "is_listening", fails)
    kubelet.endpoints[plugin.resource].task.cancel()  # so that it has to register again
    while event not in caplog.messages:
        await asyncio.sleep(0.01)
    assert "kubelet_not_listening" not in caplog.messages
    assert not keeping.ready
    entry = next(entry for entry in caplog.records if entry.message == event)
    assert entry.fields["error"] is error
    assert ("SELinux" in entry.fields.get("hint", "")) == (event == "permission_denied")


def slices(count: int, *gpus_of_it: int) -> Resource:
    """So many replicas of each of these GPUs."""
    return Resource("nvidia.com/gpu", tuple(
        AdvertisedDevice(f"{gpu(index).uuid}::{number}", gpu(index, 0), None, number)
        for index in gpus_of_it for number in range(count)
    ))  # fmt: skip


def test_a_list_of_devices_is_cut_to_what_the_kubelet_accepts(monkeypatch):
    few = slices(10, 0, 1)
    assert fitting(few.devices) == few.devices
    sick = {gpu(0).uuid: FAULT, gpu(1).uuid: FAULT}
    for limit in range(0, 1500, 7):
        monkeypatch.setattr(plugin_module, "MESSAGE_LIMIT", limit)
        kept = fitting(few.devices)
        assert response(kept, sick).ByteSize() <= limit
        if len(kept) < len(few.devices):
            wider = response([*kept, few.devices[0]], sick)
            assert wider.ByteSize() > limit, "one more would have fitted"
        of_each = [sum(device.gpu.index == index for device in kept) for index in (0, 1)]
        assert abs(of_each[0] - of_each[1]) <= 1, "every GPU keeps its share"
        assert [device for device in few.devices if device in kept] == list(kept), "in their order"


async def test_more_devices_than_a_message_holds_are_a_problem_that_is_shown(served, caplog):
    """A client of gRPC accepts 4 MiB unless it is told otherwise, and so does the kubelet."""
    plugin, _, stub = served
    everything = slices(65536, 0, 1)
    plugin.publish(everything, {gpu(0).uuid: FAULT, gpu(1).uuid: FAULT})
    stream = stub.ListAndWatch(pb.Empty())
    devices = health(await read(stream))
    stream.cancel()
    assert 50_000 < len(devices) == len(plugin.devices) < len(everything.devices)
    assert f"only {len(devices)} of 131072 devices are advertised" in plugin.problem
    (entry,) = [entry for entry in caplog.records if entry.message == "devices_not_advertised"]
    assert (entry.fields["devices"], entry.fields["limit_bytes"]) == (131072, 4 * 2**20)
    request = pb.PreferredAllocationRequest()
    request.container_requests.add(
        available_deviceIDs=devices, must_include_deviceIDs=list(devices)[:2], allocation_size=2
    )
    assert len((await stub.GetPreferredAllocation(request)).container_responses[0].deviceIDs) == 2
    plugin.publish(replace(everything, devices=everything.devices[:10]), {})
    assert plugin.problem is None


async def test_the_manager_shows_the_problems_of_all_resources(tmp_path, monkeypatch):
    manager = PluginManager(Config(kubelet_socket=tmp_path / "kubelet.sock"))
    manager.publish([TWO], {})
    assert manager.problem is None
    monkeypatch.setattr(plugin_module, "MESSAGE_LIMIT", response(slices(2, 0).devices, {}).ByteSize())
    manager.publish([slices(2, 0)], {})
    assert manager.problem is not None
    assert "nvidia.com/gpu: only 1 of 2 devices" in manager.problem
    assert [member.devices for member in manager.members] == [1]


async def test_texts_that_repeat_a_request_are_bounded(served):
    """An error text of 64 KiB would exceed what a client accepts as headers: the call would end without a status."""
    plugin, _, stub = served
    plugin.publish(slices(2000, 0), {gpu(0).uuid: FAULT})
    unknown, sick, preferred = pb.AllocateRequest(), pb.AllocateRequest(), pb.PreferredAllocationRequest()
    unknown.container_requests.add(devicesIDs=["x" * 10_000, *(f"GPU-{number}" for number in range(5000))])
    sick.container_requests.add(devicesIDs=list(plugin.devices))
    preferred.container_requests.add(must_include_deviceIDs=[f"GPU-{number}" for number in range(5000)])
    for call, code in [
        (stub.Allocate(unknown), grpc.StatusCode.NOT_FOUND),
        (stub.Allocate(sick), grpc.StatusCode.FAILED_PRECONDITION),
        (stub.GetPreferredAllocation(preferred), grpc.StatusCode.INVALID_ARGUMENT),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is code
        assert " more" in refused.value.details()
        assert len(refused.value.details()) < 4096


async def test_kubelets_before_1_26_name_the_sockets_path_as_authority(served):
    _, endpoint, _ = served
    assert ("grpc.default_authority", "/var/lib/kubelet/device-plugins/nvidia-gpu.sock") in CHANNEL_OPTIONS
    async with grpc.aio.insecure_channel(f"unix:{endpoint.path}", options=CHANNEL_OPTIONS) as channel:
        options = await DevicePluginStub(channel).GetDevicePluginOptions(pb.Empty(), timeout=TIMEOUT)
    assert options.get_preferred_allocation_available


async def test_only_root_may_open_the_socket_whatever_the_umask(tmp_path, monkeypatch):
    """From the first moment: the mode is looked at when the server has bound it, and when it listens."""
    modes = []
    endpoint = Endpoint(DevicePlugin("nvidia.com/gpu", Config()), tmp_path)
    make = grpc.aio.server

    def server(*arguments, **options):
        made = make(*arguments, **options)
        bind = made.add_insecure_port

        def looked_at(address):
            port = bind(address)
            modes.append(stat.S_IMODE(Path(address.removeprefix("unix:")).stat().st_mode))
            return port

        made.add_insecure_port = looked_at
        return made

    monkeypatch.setattr(grpc.aio, "server", server)
    before = os.umask(0)
    try:
        await endpoint.serve()
    finally:
        os.umask(before)
    assert [*modes, stat.S_IMODE(endpoint.path.stat().st_mode)] == [0o600, 0o600]
    await endpoint.stop()


def test_retries_are_quick_at_first_and_rare_in_the_end():
    delays = [retry_delay(attempt) for attempt in range(20)]
    assert delays == sorted(delays)
    assert delays[0] == 0.05
    assert delays[-1] == 1.0


def test_a_repeated_failure_is_counted_not_repeated():
    assert [attempt for attempt in range(1, 20) if worth_a_line(attempt)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "true"), (1.5, "1.5"), ("a b", '"a b"'), ("", '""'), ('q"\\', '"q\\"\\\\"'), ("x\ny\x1b", '"x\\ny\\x1b"')],
)
def test_log_fields_stay_on_one_line(value, expected):
    assert _quoted(value) == expected
