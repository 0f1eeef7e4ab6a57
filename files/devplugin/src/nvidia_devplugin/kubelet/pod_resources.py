"""Which pod holds which device: the kubelet's PodResources API, called only when metrics are scraped.

https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from .channel import open_channel, reason
from .proto import podresources_pb2 as pb
from .proto.podresources_pb2_grpc import PodResourcesListerStub


class PodResourcesError(Exception):
    """The kubelet did not answer, or refused; the message says why."""


@dataclass(frozen=True)
class Held:
    """A device that a container of a pod has been given."""

    namespace: str
    pod: str
    container: str
    resource: str
    device: str


async def held(socket: Path, seconds: float) -> list[Held]:
    """All devices that pods of this node hold, of any device plugin.

    Raises PodResourcesError, at the latest after `seconds`.
    """
    if not socket.exists():
        raise PodResourcesError(f"{socket} does not exist")
    async with open_channel(socket) as channel:
        try:
            answer = await PodResourcesListerStub(channel).List(pb.ListPodResourcesRequest(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise PodResourcesError(reason(error)) from error
    return [
        Held(pod.namespace, pod.name, container.name, devices.resource_name, device)
        for pod in answer.pod_resources
        for container in pod.containers
        for devices in container.devices
        for device in devices.device_ids
    ]
