"""Bindings of the v1beta1 services to grpc.aio: paths of methods and their (de)serializers, nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from . import deviceplugin_pb2 as pb

VERSION = "v1beta1"


class DevicePluginServicer(Protocol):
    """What a device plugin answers; each method gets the request and gRPC's servicer context."""

    async def get_device_plugin_options(self, request: pb.Empty, context: Any) -> pb.DevicePluginOptions:
        """What the kubelet may ask this plugin for."""

    def list_and_watch(self, request: pb.Empty, context: Any) -> AsyncGenerator[pb.ListAndWatchResponse, None]:
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


def add_device_plugin(
    servicer: DevicePluginServicer, server: grpc.aio.Server, refused: Callable[[str, str], None]
) -> None:
    """Serve v1beta1.DevicePlugin on `server`.

    refused: told the method and the error of each message that is none. gRPC itself would log a traceback for it.
    """

    def unary(name: str, answer: Callable[[Any, Any], Awaitable[Any]], request: Any, response: Any) -> Any:
        async def call(raw: bytes, context: Any) -> Any:
            return await answer(await _decoded(name, request, raw, context, refused), context)

        return grpc.unary_unary_rpc_method_handler(call, None, response.SerializeToString)

    async def list_and_watch(raw: bytes, context: Any) -> AsyncIterator[pb.ListAndWatchResponse]:
        request = await _decoded("ListAndWatch", pb.Empty, raw, context, refused)
        # closed with us, and not when somebody collects it: the plugin counts its streams
        async with aclosing(servicer.list_and_watch(request, context)) as updates:
            async for update in updates:
                yield update

    methods = {
        "ListAndWatch": grpc.unary_stream_rpc_method_handler(
            list_and_watch, None, pb.ListAndWatchResponse.SerializeToString
        ),
    }
    for name, answer, request, response in (
        ("GetDevicePluginOptions", servicer.get_device_plugin_options, pb.Empty, pb.DevicePluginOptions),
        (
            "GetPreferredAllocation",
            servicer.get_preferred_allocation,
            pb.PreferredAllocationRequest,
            pb.PreferredAllocationResponse,
        ),
        ("Allocate", servicer.allocate, pb.AllocateRequest, pb.AllocateResponse),
        (
            "PreStartContainer",
            servicer.pre_start_container,
            pb.PreStartContainerRequest,
            pb.PreStartContainerResponse,
        ),
    ):
        methods[name] = unary(name, answer, request, response)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods),)
    )


async def _decoded(
    name: str, kind: Any, raw: bytes, context: Any, refused: Callable[[str, str], None]
) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        refused(name, str(error))
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


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
