"""A kubelet that is gone for an hour, in virtual time: polling costs little, and the kubelet is found afterwards."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from nvidia_devplugin.kubelet import registration as kubelet
from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from nvidia_devplugin.kubelet.registration import POLL_SECONDS, Registration
from tests.unit.devplugin.virtual_time import run

HOUR = 3600.0
POLLS = HOUR / POLL_SECONDS


class Served:
    """A plugin's socket that is always there."""

    present = True

    def __init__(self, path: Path) -> None:
        self.path = path

    async def serve(self) -> None:
        raise AssertionError("it is served already")


class Kubelet(Registration):
    """Registration with a kubelet that accepts whoever finds it listening; when, in the loop's time."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory / "kubelet.sock", "nvidia.com/gpu", pb.DevicePluginOptions(), Served(directory / "own.sock"),
            lambda: True,
        )  # fmt: skip
        self.accepted: list[float] = []

    async def _register(self) -> None:
        self.accepted.append(asyncio.get_running_loop().time())


@pytest.fixture
def looks(monkeypatch) -> dict[str, int]:
    """How often the kubelet's socket was looked at, and connected to."""
    counts = {"identify": 0, "is_listening": 0}
    for name in counts:
        real = getattr(kubelet, name)

        def counted(*arguments, name=name, real=real):
            counts[name] += 1
            return real(*arguments)

        monkeypatch.setattr(kubelet, name, counted)
    return counts


def listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


def absent_for_an_hour(directory: Path, come_back) -> Kubelet:
    """Follows the kubelet, lets it come back after an hour, and waits a second more."""

    async def scenario() -> Kubelet:
        registration = Kubelet(directory)
        following = asyncio.create_task(registration.run())
        await asyncio.sleep(HOUR)
        assert registration.accepted == []
        server = come_back()
        await asyncio.sleep(1.5)
        server.close()
        following.cancel()
        return registration

    return run(scenario())


def test_a_kubelet_without_a_socket_costs_a_look_at_each_poll(socket_directory, looks):
    registration = absent_for_an_hour(socket_directory, lambda: listen(socket_directory / "kubelet.sock"))
    assert registration.accepted == [pytest.approx(HOUR, abs=POLL_SECONDS + 0.02)]
    assert POLLS <= looks["identify"] <= POLLS + 10
    assert looks["is_listening"] == 1


def test_a_socket_without_a_server_is_tried_once_a_second(socket_directory, looks, caplog):
    path = socket_directory / "kubelet.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))

    def come_back() -> socket.socket:
        dead.listen()  # the same file: only a connection shows it
        return dead

    registration = absent_for_an_hour(socket_directory, come_back)
    assert len(registration.accepted) == 1
    assert registration.accepted[0] - HOUR <= 1.0
    assert looks["is_listening"] <= HOUR + 20, "quick at first, then once a second"
    assert registration.stats.failures == looks["is_listening"] - 1
    assert caplog.text.count("kubelet_not_listening") <= 13, "one line each time the number doubles"


def test_a_directory_that_is_gone_for_an_hour(socket_directory, looks, caplog):
    shutil.rmtree(socket_directory)

    def come_back() -> socket.socket:
        socket_directory.mkdir()
        return listen(socket_directory / "kubelet.sock")

    registration = absent_for_an_hour(socket_directory, come_back)
    assert len(registration.accepted) == 1
    assert looks["is_listening"] == 1
    assert caplog.text.count("socket_directory_unavailable") <= 13


def test_registered_it_only_looks(socket_directory, looks):
    async def scenario() -> Kubelet:
        server = listen(socket_directory / "kubelet.sock")
        registration = Kubelet(socket_directory)
        following = asyncio.create_task(registration.run())
        await asyncio.sleep(HOUR)
        following.cancel()
        server.close()
        return registration

    registration = run(scenario())
    assert len(registration.accepted) == 1
    assert looks["identify"] <= POLLS + 10
    assert looks["is_listening"] == 1
