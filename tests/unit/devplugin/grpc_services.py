"""The kubelet's side of the v1beta1 services with gRPC's own library: an independent opinion on what we send."""

from __future__ import annotations

from typing import Any, Protocol

import grpc
import grpc.aio

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb


class RegistrationServicer(Protocol):
    """What a kubelet answers."""

    async def register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        """Take a plugin in."""


def add_registration(servicer: RegistrationServicer, server: grpc.aio.Server) -> None:
    """Serve v1beta1.Registration on `server`."""
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.register, pb.RegisterRequest.FromString, pb.Empty.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler}),)
    )


class DevicePluginStub:
    """Client of v1beta1.DevicePlugin: what a kubelet calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def unary(name: str, request: Any, response: Any) -> Any:
            return channel.unary_unary(f"/v1beta1.DevicePlugin/{name}", request.SerializeToString, response.FromString)

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
        self.PreStartContainer = unary("PreStartContainer", pb.PreStartContainerRequest, pb.PreStartContainerResponse)
