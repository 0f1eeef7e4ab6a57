"""Bindings of the v1beta1 services to grpc.aio: paths of methods and their (de)serializers, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc
import grpc.aio

from . import deviceplugin_pb2 as pb

VERSION = "v1beta1"


class DevicePluginServicer(Protocol):
    """What a device plugin answers; each method gets the request and gRPC's servicer context."""

    async def get_device_plugin_options(self, request: pb.Empty, context: Any) -> pb.DevicePluginOptions:
        """What the kubelet may ask this plugin for."""

    def list_and_watch(self, request: pb.Empty, context: Any) -> AsyncIterator[pb.ListAndWatchResponse]:
        """The devices now, and again after each change."""

    async def get_preferred_allocation(
        self, request: pb.PreferredAllocationRequest, context: Any
    ) -> pb.PreferredAllocationResponse:
        """The best of the available devices."""

    async def allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        """What the containers need to use the devices."""

    async def pre_start_container(
        self, request: pb.PreStartContainerRequest, context: Any
    ) -> pb.PreStartContainerResponse:
        """What is to be done before a container starts."""


class RegistrationServicer(Protocol):
    """The kubelet's side; the tests' kubelet implements it."""

    async def register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        """Take a plugin in."""


def add_device_plugin(servicer: DevicePluginServicer, server: grpc.aio.Server) -> None:
    """Serve v1beta1.DevicePlugin on `server`."""
    unary = grpc.unary_unary_rpc_method_handler
    methods = {
        "GetDevicePluginOptions": unary(
            servicer.get_device_plugin_options,
            pb.Empty.FromString,
            pb.DevicePluginOptions.SerializeToString,
        ),
        "ListAndWatch": grpc.unary_stream_rpc_method_handler(
            servicer.list_and_watch, pb.Empty.FromString, pb.ListAndWatchResponse.SerializeToString
        ),
        "GetPreferredAllocation": unary(
            servicer.get_preferred_allocation,
            pb.PreferredAllocationRequest.FromString,
            pb.PreferredAllocationResponse.SerializeToString,
        ),
        "Allocate": unary(
            servicer.allocate, pb.AllocateRequest.FromString, pb.AllocateResponse.SerializeToString
        ),
        "PreStartContainer": unary(
            servicer.pre_start_container,
            pb.PreStartContainerRequest.FromString,
            pb.PreStartContainerResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods),)
    )


def add_registration(servicer: RegistrationServicer, server: grpc.aio.Server) -> None:
    """Serve v1beta1.Registration on `server`."""
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.register, pb.RegisterRequest.FromString, pb.Empty.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler}),)
    )


async def register(channel: grpc.aio.Channel, request: pb.RegisterRequest, timeout: float) -> None:
    """Call Registration.Register; `timeout` in seconds. Raises grpc.aio.AioRpcError."""
    call = channel.unary_unary(
        "/v1beta1.Registration/Register", pb.RegisterRequest.SerializeToString, pb.Empty.FromString
    )
    await call(request, timeout=timeout)


class DevicePluginStub:
    """Client of v1beta1.DevicePlugin: what a kubelet calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def unary(name: str, request: Any, response: Any) -> Any:
            return channel.unary_unary(
                f"/v1beta1.DevicePlugin/{name}", request.SerializeToString, response.FromString
            )

        self.GetDevicePluginOptions = unary("GetDevicePluginOptions", pb.Empty, pb.DevicePluginOptions)
        self.ListAndWatch = channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            pb.Empty.SerializeToString,
            pb.ListAndWatchResponse.FromString,
        )
        self.GetPreferredAllocation = unary(
            "GetPreferredAllocation", pb.PreferredAllocationRequest, pb.PreferredAllocationResponse
        )
        self.Allocate = unary("Allocate", pb.AllocateRequest, pb.AllocateResponse)
        self.PreStartContainer = unary(
            "PreStartContainer", pb.PreStartContainerRequest, pb.PreStartContainerResponse
        )
