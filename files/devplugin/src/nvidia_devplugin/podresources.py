"""Which pod holds which device: the kubelet's PodResources API, asked only while somebody waits for the answer.

https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources
"""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio

from .values import dataclass

_LIMIT = 16 * 2**20  # what the kubelet itself allows
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", _LIMIT),
)


class PodResourcesError(Exception):
    """The kubelet did not say; the message tells why."""


@dataclass(frozen=True)
class Held:
    """A device that a container of a pod has been given."""

    namespace: str
    pod: str
    container: str
    resource: str
    device: str


async def held(socket: Path, seconds: float) -> list[Held]:
    """All devices that pods of this node hold, whoever advertised them. Raises PodResourcesError."""
    if not socket.exists():
        raise PodResourcesError(f"{socket} does not exist")
    from .proto import podresources_pb2 as pb  # a daemon that nobody asks does not pay for it

    async with grpc.aio.insecure_channel(f"unix:{socket}", options=_OPTIONS) as channel:
        call = channel.unary_unary(
            "/v1.PodResourcesLister/List",
            pb.ListPodResourcesRequest.SerializeToString,
            pb.ListPodResourcesResponse.FromString,
        )
        try:
            answer = await call(pb.ListPodResourcesRequest(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise PodResourcesError(f"{error.code().name}: {error.details()}") from error
    return [
        Held(pod.namespace, pod.name, container.name, devices.resource_name, device)
        for pod in answer.pod_resources
        for container in pod.containers
        for devices in container.devices
        for device in devices.device_ids
    ]
