"""One gRPC DevicePlugin service for one resource, and the socket that it is served on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from ..config.settings import Config
from ..devices.allocation import Allocation, AllocationError, UnknownDeviceError, allocate
from ..devices.placement import Placement
from ..log import Logger
from ..model import HEALTHY, UNHEALTHY, AdvertisedDevice, Fault, Resource, Topology, fault_of
from ..rpc.server import Server
from ..rpc.status import Code, RpcError
from ..sockets import is_listening
from .proto import deviceplugin_pb2 as pb
from .services import device_plugin
from .stats import CallStats

log = Logger("plugin")

_GRACE_SECONDS = 0.2
_PREPARE_SECONDS = 1.0


class DevicePlugin:
    """Answers the kubelet for one resource.

    The state is published as a whole and has a version. Every stream compares its own last version with it, so that
    a stream always gets the newest state, several updates in a row become one message, and a stream that is cancelled
    takes nothing away from the next.
    """

    def __init__(self, resource: str, config: Config) -> None:
        self.resource = resource
        self.streams = 0
        self.calls = CallStats()
        self._config = config
        self._devices: dict[str, AdvertisedDevice] = {}
        self._faults: Mapping[str, Fault] = {}
        self._topology: Topology | None = None
        self._single_requests = False
        self._placement = Placement(())
        self._manner = config.shared_policy, config.distinct_gpus
        self._version = 0
        self._epoch = 0
        self._response = pb.ListAndWatchResponse()
        self._changed = asyncio.Event()

    def reconfigure(self, config: Config) -> None:
        """Other settings for the calls from now on; the next publish() arranges the devices by them."""
        self._config = config

    def publish(self, resource: Resource, faults: Mapping[str, Fault], topology: Topology | None = None) -> None:
        """Make this the state: the resource's devices, and the faults by uuid of GPU or MIG device."""
        devices = {device.id: device for device in resource.devices}
        manner = self._config.shared_policy, self._config.distinct_gpus
        moved = (devices, topology, manner) != (self._devices, self._topology, self._manner)
        self._manner = manner
        self._devices, self._faults, self._topology = devices, faults, topology
        if moved:
            self._placement = Placement(resource.devices, topology, *manner)
            # a while later, so that neither the start nor this update waits for it
            asyncio.get_running_loop().call_later(_PREPARE_SECONDS, self._prepare)
        self._single_requests = resource.single_requests
        message = response(resource, faults)
        if self._version and message == self._response:
            return
        self._response = message
        self._version += 1
        self._wake_streams()

    def _prepare(self) -> None:
        self._placement.prepare()

    def end_streams(self) -> None:
        """Let all streams that are open now come to their end; the kubelet may open new ones."""
        self._epoch += 1
        self._wake_streams()

    @property
    def devices(self) -> Mapping[str, AdvertisedDevice]:
        """What is advertised now, by id."""
        return self._devices

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Why what is advertised must not be used, by uuid of GPU or MIG device."""
        return self._faults

    def _wake_streams(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def options(self) -> pb.DevicePluginOptions:
        return pb.DevicePluginOptions(pre_start_required=False, get_preferred_allocation_available=True)

    def get_device_plugin_options(self, request: pb.Empty) -> pb.DevicePluginOptions:
        return self.options

    async def list_and_watch(self, request: pb.Empty) -> AsyncGenerator[pb.ListAndWatchResponse, None]:
        self.streams += 1
        log.debug("stream_opened", resource=self.resource, streams=self.streams)
        try:
            sent, epoch = 0, self._epoch
            while epoch == self._epoch:
                if sent == self._version:
                    await self._changed.wait()
                else:
                    sent = self._version
                    yield self._response
        finally:
            self.streams -= 1
            log.debug("stream_closed", resource=self.resource, streams=self.streams)

    def get_preferred_allocation(self, request: pb.PreferredAllocationRequest) -> pb.PreferredAllocationResponse:
        began = time.perf_counter()
        answer = pb.PreferredAllocationResponse()
        for container in request.container_requests:
            try:
                chosen = self._placement.prefer(
                    container.available_deviceIDs, container.must_include_deviceIDs, container.allocation_size
                )
            except ValueError as error:
                raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None
            answer.container_responses.add(deviceIDs=chosen)
        self.calls.prefer.observe(time.perf_counter() - began)
        return answer

    def allocate(self, request: pb.AllocateRequest) -> pb.AllocateResponse:
        began = time.perf_counter()
        answer = pb.AllocateResponse()
        for container in request.container_requests:
            ids = list(container.devicesIDs)
            try:
                allocation = allocate(
                    ids, self._devices, self._faults, self._config, os.path.exists, self._single_requests
                )
            except AllocationError as error:
                self.calls.refused += 1
                log.warning("allocate_refused", resource=self.resource, devices=",".join(ids), reason=error)
                unknown = isinstance(error, UnknownDeviceError)
                raise RpcError(Code.NOT_FOUND if unknown else Code.FAILED_PRECONDITION, str(error)) from None
            log.info("allocated", resource=self.resource, devices=",".join(ids))
            answer.container_responses.append(_container_response(allocation))
        self.calls.granted += len(answer.container_responses)
        self.calls.allocate.observe(time.perf_counter() - began)
        return answer

    def pre_start_container(self, request: pb.PreStartContainerRequest) -> pb.PreStartContainerResponse:
        return pb.PreStartContainerResponse()


def response(resource: Resource, faults: Mapping[str, Fault]) -> pb.ListAndWatchResponse:
    """The whole state on the wire."""
    message = pb.ListAndWatchResponse()
    for device in resource.devices:
        entry = message.devices.add(ID=device.id, health=UNHEALTHY if fault_of(device, faults) else HEALTHY)
        if device.gpu.numa_node is not None:
            entry.topology.nodes.add(ID=device.gpu.numa_node)
    return message


def _container_response(allocation: Allocation) -> pb.ContainerAllocateResponse:
    message = pb.ContainerAllocateResponse(envs=allocation.envs, annotations=allocation.annotations)
    for mount in allocation.mounts:
        message.mounts.add(container_path=mount.container_path, host_path=mount.host_path, read_only=True)
    for name in allocation.cdi_devices:
        message.cdi_devices.add(name=name)
    for node in allocation.device_nodes:
        message.devices.add(container_path=node.container_path, host_path=node.host_path, permissions=node.permissions)
    return message


class Endpoint:
    """The socket that a plugin is served on.

    Each time it is served anew it gets a new name: a kubelet that starts removes all sockets that it found, and may not
    hit the successor.
    """

    def __init__(self, plugin: DevicePlugin, directory: Path) -> None:
        self._plugin = plugin
        self._directory = directory
        self._generation = 0
        self._server: Server | None = None
        self.path: Path | None = None

    @property
    def present(self) -> bool:
        """Whether the kubelet can find the socket."""
        return self.path is not None and self.path.exists()

    async def serve(self) -> None:
        """Serve on a fresh socket, and no more on the old one. Raises OSError."""
        await self.stop()
        path = self._free_path()
        self._server, self.path = device_plugin(self._plugin, self._refused), path
        try:
            await self._server.start(path)
        except OSError as error:
            self._server = self.path = None
            raise OSError(f"cannot listen on {path}: {error.strerror or error}") from error
        log.info("serving", resource=self._plugin.resource, socket=path)

    def _refused(self, method: str, error: str) -> None:
        log.warning("message_refused", resource=self._plugin.resource, method=method, error=error)

    async def stop(self) -> None:
        """End all calls and remove the socket. Takes no longer than a slow call is given to end."""
        server, path = self._server, self.path
        self._server = self.path = None
        if server is not None:
            self._plugin.end_streams()
            await server.stop(_GRACE_SECONDS)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _free_path(self) -> Path:
        """The next name that no living server holds; what a dead one left is removed."""
        stem = self._plugin.resource.replace("/", "-").replace(".com", "")
        while True:
            suffix = f"-{self._generation}" if self._generation else ""
            path = self._directory / f"{stem}{suffix}.sock"
            self._generation += 1
            if not is_listening(path):
                path.unlink(missing_ok=True)
                return path
