"""The kubelet's PodResources service over real gRPC on a real unix socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from nvidia_devplugin.kubelet.proto import podresources_pb2 as pb
from nvidia_devplugin.kubelet.proto.podresources_pb2_grpc import (
    PodResourcesListerServicer,
    add_PodResourcesListerServicer_to_server,
)


class PodResourcesStub(PodResourcesListerServicer):
    """Answers with the pods in `pods`: (namespace, pod, container, resource) -> device ids.

    With `error` it refuses, with `hangs` it never answers.
    """

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "pod-resources.sock"
        self.pods: dict[tuple[str, str, str, str], list[str]] = {}
        self.error: str | None = None
        self.asked = 0
        self.hangs = False
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> PodResourcesStub:
        self._server = grpc.aio.server()
        add_PodResourcesListerServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.stop(None)

    async def List(self, request: pb.ListPodResourcesRequest, context: Any) -> pb.ListPodResourcesResponse:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, self.error)
        answer = pb.ListPodResourcesResponse()
        for (namespace, pod, container, resource), devices in self.pods.items():
            entry = answer.pod_resources.add(name=pod, namespace=namespace)
            entry.containers.add(name=container).devices.add(resource_name=resource, device_ids=devices)
        return answer
