"""What is advertised, as `nvidia-devplugin devices --output json` prints it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..model import HEALTHY, UNHEALTHY, AdvertisedDevice, Fault, Resource, fault_of


def describe(
    resources: Sequence[Resource], faults: Mapping[str, Fault], driver_version: str, problems: Sequence[str]
) -> dict[str, Any]:
    """All resources with their devices and health, for JSON.

    faults: by the UUIDs of GPUs and MIG devices. problems: what is wrong with the machine or the settings.
    """
    return {
        "driverVersion": driver_version,
        "resources": {
            resource.name: {
                "failRequestsGreaterThanOne": resource.single_requests,
                "devices": [_device(device, fault_of(device, faults)) for device in resource.devices],
            }
            for resource in resources
        },
        "problems": list(problems),
    }


def _device(device: AdvertisedDevice, fault: Fault | None) -> dict[str, Any]:
    return {
        "id": device.id,
        "index": device.index,
        "model": device.gpu.name,
        "profile": device.mig.profile if device.mig else None,
        "gpuInstance": device.mig.gi if device.mig else None,
        "computeInstance": device.mig.ci if device.mig else None,
        "replica": device.replica,
        "memoryBytes": device.mig.memory_bytes if device.mig else device.gpu.memory_bytes,
        "pciBusId": device.gpu.pci_bus_id,
        "numaNode": device.gpu.numa_node,
        "health": UNHEALTHY if fault else HEALTHY,
        "reason": fault.message if fault else None,
    }
