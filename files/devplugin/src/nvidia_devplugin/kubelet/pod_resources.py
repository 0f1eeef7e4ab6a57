"""Which pod holds which device: the kubelet's PodResources API, asked only while somebody waits for the answer.

https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..rpc.client import call
from ..rpc.status import RpcError

_LIMIT = 16 * 2**20  # what the kubelet itself allows


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
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from .proto import podresources_pb2 as pb  # a daemon that nobody asks does not pay for it

    request = pb.ListPodResourcesRequest().SerializeToString()
    try:
        answer = pb.ListPodResourcesResponse.FromString(
            await call(socket, "/v1.PodResourcesLister/List", request, seconds, _LIMIT)
        )
    except (RpcError, DecodeError) as error:
        raise PodResourcesError(str(error)) from error
    return [
        Held(pod.namespace, pod.name, container.name, devices.resource_name, device)
        for pod in answer.pod_resources
        for container in pod.containers
        for devices in container.devices
        for device in devices.device_ids
    ]
