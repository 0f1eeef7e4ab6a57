"""A kubelet's device manager over real gRPC on real unix sockets: enough of it to test a device plugin.

As the real one does: at start it removes all sockets of its directory, then creates its own; after a registration it
asks for the plugin's options and keeps a ListAndWatch stream open; a stream that ends ends the endpoint. Everything
that happens can be awaited; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from nvidia_devplugin.kubelet.proto.deviceplugin_pb2_grpc import (
    DevicePluginStub,
    RegistrationServicer,
    add_RegistrationServicer_to_server,
)

TIMEOUT = 30.0
"""Seconds until an awaited event counts as missing; generous, because it is spent in failures only."""

CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    # kubelets before 1.26 send the socket's path, although HTTP allows no slash there
    # (https://github.com/kubernetes/kubernetes/pull/112597)
    ("grpc.default_authority", "/var/lib/kubelet/device-plugins/nvidia-gpu.sock"),
)


@dataclass
class Endpoint:
    """One registered plugin as the kubelet holds it: its stream, and what came over it."""

    resource: str
    path: Path
    registration: pb.RegisterRequest
    channel: grpc.aio.Channel
    options: pb.DevicePluginOptions | None = None
    updates: list[dict[str, str]] = field(default_factory=list)  # health by device id
    topology: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def stub(self) -> DevicePluginStub:
        return DevicePluginStub(self.channel)

    @property
    def devices(self) -> dict[str, str]:
        return self.updates[-1] if self.updates else {}


class KubeletStub(RegistrationServicer):
    """A kubelet in `directory`. start() and stop() as often as wanted; restart() is both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "kubelet.sock"
        self.registrations: list[pb.RegisterRequest] = []
        self.endpoints: dict[str, Endpoint] = {}
        self.reject: str | None = None  # refuse registrations with this message
        self._server: grpc.aio.Server | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> KubeletStub:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._sweep()
        self._server = grpc.aio.server()
        add_RegistrationServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def start_slowly(self, before_listening: Callable[[], Awaitable[None]]) -> None:
        """Create the socket file first, do `before_listening`, and only then listen, in the same file."""
        self._sweep()
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound.bind(str(self.socket))
        await before_listening()
        # gRPC binds by itself, so it listens under another name, whose file is then moved over ours
        self._server = grpc.aio.server()
        add_RegistrationServicer_to_server(self, self._server)
        other = self.directory / "kubelet.sock.new"
        self._server.add_insecure_port(f"unix:{other}")
        await self._server.start()
        other.rename(self.socket)
        bound.close()

    async def stop(self) -> None:
        """As when the kubelet's process ends: streams break, its socket file stays."""
        for endpoint in list(self.endpoints.values()):
            await self._drop(endpoint)
        self.endpoints.clear()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def _sweep(self) -> None:
        for entry in self.directory.iterdir():
            if stat.S_ISSOCK(os.lstat(entry).st_mode):
                entry.unlink()

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        if self.reject is not None:
            await context.abort(grpc.StatusCode.UNKNOWN, self.reject)
        old = self.endpoints.pop(request.resource_name, None)
        if old is not None:
            await self._drop(old)
        path = self.directory / request.endpoint
        channel = grpc.aio.insecure_channel(f"unix:{path}", options=CHANNEL_OPTIONS)
        endpoint = Endpoint(request.resource_name, path, request, channel)
        self.endpoints[request.resource_name] = endpoint
        endpoint.task = asyncio.create_task(self._follow(endpoint))
        async with self._changed:
            self.registrations.append(request)
            self._changed.notify_all()
        return pb.Empty()

    async def _follow(self, endpoint: Endpoint) -> None:
        try:
            options = await endpoint.stub.GetDevicePluginOptions(pb.Empty())
            async for response in endpoint.stub.ListAndWatch(pb.Empty()):
                async with self._changed:
                    endpoint.options = options
                    endpoint.topology = {d.ID: n.ID for d in response.devices for n in d.topology.nodes}
                    endpoint.updates.append({device.ID: device.health for device in response.devices})
                    self._changed.notify_all()
        except grpc.aio.AioRpcError:
            pass  # the plugin went away; `ended` tells
        finally:
            endpoint.ended = True
            with contextlib.suppress(asyncio.CancelledError):
                async with self._changed:
                    self._changed.notify_all()

    async def _drop(self, endpoint: Endpoint) -> None:
        if endpoint.task is not None:
            endpoint.task.cancel()
            await asyncio.wait({endpoint.task})
        await endpoint.channel.close()

    async def until(self, predicate: Callable[[], Any], what: str) -> Any:
        """Wait for a truthy `predicate()`, looked at after everything that happens here."""

        async def wait() -> Any:
            async with self._changed:
                return await self._changed.wait_for(predicate)

        try:
            return await asyncio.wait_for(wait(), TIMEOUT)
        except asyncio.TimeoutError:
            seen = {name: endpoint.updates for name, endpoint in self.endpoints.items()}
            raise AssertionError(f"not within {TIMEOUT:.0f} s: {what}; updates seen: {seen}") from None

    async def registered(self, count: int = 1) -> pb.RegisterRequest:
        """The `count`-th registration since the stub was made."""
        await self.until(lambda: len(self.registrations) >= count, f"registration {count}")
        return self.registrations[count - 1]

    async def devices(self, resource: str, accept: Callable[[dict[str, str]], Any] = bool) -> dict[str, str]:
        """The devices of `resource` once `accept(health by id)` is truthy; at first: once there are any."""

        def current() -> dict[str, str] | None:
            endpoint = self.endpoints.get(resource)
            return endpoint.devices if endpoint and endpoint.updates and accept(endpoint.devices) else None

        found: dict[str, str] = await self.until(current, f"devices of {resource}")
        return found

    async def withdrawn(self, resource: str) -> None:
        """Until `resource` is known and has no devices (any more)."""

        def empty() -> bool:
            endpoint = self.endpoints.get(resource)
            return bool(endpoint and endpoint.updates and not endpoint.devices)

        await self.until(empty, f"{resource} without devices")

    async def allocate(self, resource: str, *ids: str) -> pb.ContainerAllocateResponse:
        """Allocate for one container. Raises grpc.aio.AioRpcError."""
        request = pb.AllocateRequest()
        request.container_requests.add(devicesIDs=ids)
        response = await self.endpoints[resource].stub.Allocate(request)
        return response.container_responses[0]
