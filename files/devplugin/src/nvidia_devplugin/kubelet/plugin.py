"""The DevicePlugin service of one resource, and the socket that it is served on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import grpc
import grpc.aio

from ..config.settings import Config
from ..devices.allocation import Allocation, AllocationError, UnknownDeviceError, allocate
from ..devices.listing import listed
from ..devices.placement import Placement
from ..log import Logger
from ..model import HEALTHY, UNHEALTHY, AdvertisedDevice, Fault, Resource, Topology, fault_of
from ..sockets import bound, is_listening, private
from .channel import MESSAGE_LIMIT
from .proto import deviceplugin_pb2 as pb
from .proto.deviceplugin_pb2_grpc import DevicePluginServicer, add_DevicePluginServicer_to_server
from .stats import CallStats

log = Logger("plugin")

_GRACE_SECONDS = 0.2
_PREPARE_SECONDS = 1.0
_SERVER_OPTIONS = (
    # a request for a preferred allocation may name each device twice: as available, and as one to include
    ("grpc.max_receive_message_length", 2 * MESSAGE_LIMIT),
    ("grpc.max_concurrent_streams", 32),
)


# The generated base class serves threads and asyncio alike; here it is asyncio.
# pylint: disable=invalid-overridden-method
class DevicePlugin(DevicePluginServicer):
    """Answers the kubelet for one resource.

    The state is published as a whole and has a version. Every stream compares it with the version that it sent last: a
    stream always sends the newest state, several updates in a row become one message, and a stream that is cancelled
    does not affect the others.
    """

    def __init__(self, resource: str, config: Config) -> None:
        self.resource = resource
        self.streams = 0
        self.calls = CallStats()
        self.problem: str | None = None
        """Why some of the resource's devices are not advertised; None if all are."""
        self._config = config
        self._state: tuple[tuple[AdvertisedDevice, ...], Topology | None, tuple[str, bool]] | None = None
        self._devices: dict[str, AdvertisedDevice] = {}
        self._faults: Mapping[str, Fault] = {}
        self._single_requests = False
        self._placement = Placement(())
        self._version = 0
        self._epoch = 0
        self._response = pb.ListAndWatchResponse()
        self._changed = asyncio.Event()

    def reconfigure(self, config: Config) -> None:
        """Use these settings for calls from now on, and for placement from the next publish() on."""
        self._config = config

    def publish(self, resource: Resource, faults: Mapping[str, Fault], topology: Topology | None = None) -> None:
        """Make this the state: the resource's devices, and the faults by uuid of GPU or MIG device."""
        policy = self._config.shared_policy, self._config.distinct_gpus
        if self._state != (resource.devices, topology, policy):
            self._state = resource.devices, topology, policy
            devices = fitting(resource.devices)
            self._report_left_out(len(devices), len(resource.devices))
            self._devices = {device.id: device for device in devices}
            self._placement = Placement(devices, topology, *policy)
            # later, so that neither the start nor this update waits for it
            asyncio.get_running_loop().call_later(_PREPARE_SECONDS, self._prepare)
        self._faults = faults
        self._single_requests = resource.single_requests
        message = response(self._devices.values(), faults)
        if self._version and message == self._response:
            return
        self._response = message
        self._version += 1
        self._wake_streams()

    def _report_left_out(self, advertised: int, wanted: int) -> None:
        before, self.problem = self.problem, None
        if advertised == wanted:
            return
        self.problem = (
            f"{self.resource}: only {advertised} of {wanted} devices are advertised: a list of all is longer than "
            f"the {MESSAGE_LIMIT} bytes that the kubelet accepts; share the GPUs in fewer replicas"
        )
        if self.problem != before:
            log.error(
                "devices_not_advertised", resource=self.resource, devices=wanted, advertised=advertised,
                limit_bytes=MESSAGE_LIMIT, hint="share the GPUs in fewer replicas",
            )  # fmt: skip

    def _prepare(self) -> None:
        self._placement.prepare()

    def end_streams(self) -> None:
        """End all streams that are open now; the kubelet may open new ones."""
        self._epoch += 1
        self._wake_streams()

    @property
    def devices(self) -> Mapping[str, AdvertisedDevice]:
        """The devices that are advertised now, by id."""
        return self._devices

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Why advertised devices must not be used, by uuid of GPU or MIG device."""
        return self._faults

    def _wake_streams(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def options(self) -> pb.DevicePluginOptions:
        """Which optional calls the kubelet shall make."""
        return pb.DevicePluginOptions(pre_start_required=False, get_preferred_allocation_available=True)

    async def GetDevicePluginOptions(
        self, request: pb.Empty, context: grpc.aio.ServicerContext
    ) -> pb.DevicePluginOptions:
        """Answer with `options`."""
        return self.options

    async def ListAndWatch(self, request: pb.Empty, context: grpc.aio.ServicerContext) -> None:
        """Send the devices, and again after each change, until the streams are ended or the client goes away."""
        self.streams += 1
        log.debug("stream_opened", resource=self.resource, streams=self.streams)
        try:
            sent, epoch = 0, self._epoch
            while epoch == self._epoch:
                if sent == self._version:
                    await self._changed.wait()
                else:
                    sent = self._version
                    await context.write(self._response)
        finally:
            self.streams -= 1
            log.debug("stream_closed", resource=self.resource, streams=self.streams)

    async def GetPreferredAllocation(
        self, request: pb.PreferredAllocationRequest, context: grpc.aio.ServicerContext
    ) -> pb.PreferredAllocationResponse:
        """The best of the available devices, for each container."""
        began = time.perf_counter()
        answer = pb.PreferredAllocationResponse()
        for container in request.container_requests:
            try:
                chosen = self._placement.prefer(
                    container.available_deviceIDs, container.must_include_deviceIDs, container.allocation_size
                )
            except ValueError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            answer.container_responses.add(deviceIDs=chosen)
        self.calls.prefer.observe(time.perf_counter() - began)
        return answer

    async def Allocate(self, request: pb.AllocateRequest, context: grpc.aio.ServicerContext) -> pb.AllocateResponse:
        """What each container needs to use its devices."""
        began = time.perf_counter()
        answer = pb.AllocateResponse()
        for container in request.container_requests:
            ids = list(dict.fromkeys(container.devicesIDs))
            try:
                allocation = allocate(
                    ids, self._devices, self._faults, self._config, os.path.exists, self._single_requests
                )
            except AllocationError as error:
                self.calls.refused += 1
                log.warning("allocate_refused", resource=self.resource, devices=listed(ids, ","), reason=error)
                unknown = isinstance(error, UnknownDeviceError)
                code = grpc.StatusCode.NOT_FOUND if unknown else grpc.StatusCode.FAILED_PRECONDITION
                await context.abort(code, str(error))
            log.info("allocated", resource=self.resource, devices=",".join(ids))
            answer.container_responses.append(_container_response(allocation))
        self.calls.granted += len(answer.container_responses)
        self.calls.allocate.observe(time.perf_counter() - began)
        return answer

    async def PreStartContainer(
        self, request: pb.PreStartContainerRequest, context: grpc.aio.ServicerContext
    ) -> pb.PreStartContainerResponse:
        """Nothing to do: `options` does not ask for this call."""
        return pb.PreStartContainerResponse()


def response(devices: Iterable[AdvertisedDevice], faults: Mapping[str, Fault]) -> pb.ListAndWatchResponse:
    """The devices and their health as a message."""
    message = pb.ListAndWatchResponse()
    for device in devices:
        _add(message, device, UNHEALTHY if fault_of(device, faults) else HEALTHY)
    return message


def _add(message: pb.ListAndWatchResponse, device: AdvertisedDevice, health: str) -> None:
    entry = message.devices.add(ID=device.id, health=health)
    if device.gpu.numa_node is not None:
        entry.topology.nodes.add(ID=device.gpu.numa_node)


def fitting(devices: Sequence[AdvertisedDevice]) -> tuple[AdvertisedDevice, ...]:
    """The devices that one message to the kubelet can list, whatever their health.

    Those that do not fit are the highest replicas: every GPU or MIG device keeps as many as the others.
    """
    size, fit = 0, set()
    for device in sorted(devices, key=lambda device: device.replica or 0):
        entry = pb.ListAndWatchResponse()
        _add(entry, device, UNHEALTHY)  # the longer word
        size += entry.ByteSize()
        if size > MESSAGE_LIMIT:
            break
        fit.add(device.id)
    return tuple(device for device in devices if device.id in fit)


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

    Each time that it is served it gets a new name: a kubelet that starts removes all sockets that it found, and must
    not remove the new one.
    """

    def __init__(self, plugin: DevicePlugin, directory: Path) -> None:
        self._plugin = plugin
        self._directory = directory
        self._generation = 0
        self._server: grpc.aio.Server | None = None
        self.path: Path | None = None

    @property
    def present(self) -> bool:
        """Whether the kubelet can find the socket."""
        return self.path is not None and self.path.exists()

    async def serve(self) -> None:
        """Serve on a new socket, and stop serving on the old one. Raises OSError."""
        await self.stop()
        path = self._free_path()
        try:
            bound(path).close()  # the gRPC library does not say why it cannot bind, and leaks a server that did not
            path.unlink()
        except OSError as error:
            raise OSError(f"cannot listen on {path}: {error.strerror or error}") from error
        server = grpc.aio.server(options=_SERVER_OPTIONS)
        add_DevicePluginServicer_to_server(self._plugin, server)
        try:
            with private():
                server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(str(error)) from error
        self._server, self.path = server, path
        starting = asyncio.ensure_future(server.start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting  # stop() has no effect on a server that has not started
            raise
        log.info("serving", resource=self._plugin.resource, socket=path)

    async def stop(self) -> None:
        """End all calls and remove the socket; a call has 0.2 s to end."""
        server, path = self._server, self.path
        self._server = self.path = None
        if server is not None:
            self._plugin.end_streams()
            await server.stop(_GRACE_SECONDS)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _free_path(self) -> Path:
        """The next name that no running server uses; a dead server's socket is removed. Raises OSError."""
        stem = self._plugin.resource.replace("/", "-").replace(".com", "")
        while True:
            suffix = f"-{self._generation}" if self._generation else ""
            path = self._directory / f"{stem}{suffix}.sock"
            self._generation += 1
            if not is_listening(path):
                path.unlink(missing_ok=True)
                return path
