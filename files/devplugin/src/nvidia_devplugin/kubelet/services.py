"""The services that a kubelet and a plugin offer each other: paths of methods, and messages for bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..rpc.client import call
from ..rpc.server import Server, Streaming, Unary
from ..rpc.status import Code, RpcError
from .proto import deviceplugin_pb2 as pb

VERSION = "v1beta1"


class DevicePluginServicer(Protocol):
    """What a device plugin answers. Each method may raise RpcError."""

    def get_device_plugin_options(self, request: pb.Empty) -> pb.DevicePluginOptions:
        """What the kubelet may ask this plugin for."""

    def list_and_watch(self, request: pb.Empty) -> AsyncGenerator[pb.ListAndWatchResponse, None]:
        """The devices now, and again after each change."""

    def get_preferred_allocation(self, request: pb.PreferredAllocationRequest) -> pb.PreferredAllocationResponse:
        """The best of the available devices."""

    def allocate(self, request: pb.AllocateRequest) -> pb.AllocateResponse:
        """What the containers need to use the devices."""

    def pre_start_container(self, request: pb.PreStartContainerRequest) -> pb.PreStartContainerResponse:
        """What is to be done before a container starts."""


def device_plugin(servicer: DevicePluginServicer, refused: Callable[[str, str], None]) -> Server:
    """A server of v1beta1.DevicePlugin.

    refused: told the method and the error of each message that is none.
    """

    def decoded(name: str, kind: Any, raw: bytes) -> Any:
        try:
            return kind.FromString(raw)
        except DecodeError as error:
            refused(name, str(error))
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None

    def unary(name: str, kind: Any, answer: Callable[[Any], Any]) -> Unary:
        return lambda raw: answer(decoded(name, kind, raw)).SerializeToString()

    def streaming(name: str, kind: Any, answers: Callable[[Any], AsyncGenerator[Any, None]]) -> Streaming:
        async def stream(raw: bytes) -> AsyncGenerator[bytes, None]:
            async with aclosing(answers(decoded(name, kind, raw))) as messages:
                async for message in messages:
                    yield message.SerializeToString()

        return stream

    def path(name: str) -> str:
        return f"/v1beta1.DevicePlugin/{name}"

    one = {
        "GetDevicePluginOptions": (pb.Empty, servicer.get_device_plugin_options),
        "GetPreferredAllocation": (pb.PreferredAllocationRequest, servicer.get_preferred_allocation),
        "Allocate": (pb.AllocateRequest, servicer.allocate),
        "PreStartContainer": (pb.PreStartContainerRequest, servicer.pre_start_container),
    }
    many = {"ListAndWatch": (pb.Empty, servicer.list_and_watch)}
    return Server(
        {path(name): unary(name, kind, answer) for name, (kind, answer) in one.items()},
        {path(name): streaming(name, kind, answers) for name, (kind, answers) in many.items()},
    )


async def register(kubelet: Path, request: pb.RegisterRequest, seconds: float) -> None:
    """Call Registration.Register on the kubelet's socket. Raises RpcError."""
    await call(kubelet, "/v1beta1.Registration/Register", request.SerializeToString(), seconds)
