"""A GPU that is reset: taken off the bus, and there again after a rescan, as `nvidia-smi --gpu-reset` or the kernel's
`remove` and `rescan` do it. The daemon runs on; nobody restarts anything."""

from __future__ import annotations

import grpc
import pytest

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb

RESOURCE = "nvidia.com/gpu"


def healthy(count):
    return lambda devices: sum(health == "Healthy" for health in devices.values()) == count


def machine(driver, gpus):
    """The same machine, of which the driver shows so many GPUs."""
    driver("init", "--model", "H100", "--count", gpus, "--device-nodes", "off", "--seed", "test")


async def preferred(kubelet, available, size):
    request = pb.PreferredAllocationRequest()
    request.container_requests.add(available_deviceIDs=available, allocation_size=size)
    answer = await kubelet.endpoints[RESOURCE].stub.GetPreferredAllocation(request)
    return list(answer.container_responses[0].deviceIDs)


async def test_a_gpu_that_is_gone_and_back_is_offered_again(kubelet, start, driver):
    machine(driver, 4)
    await kubelet.start()
    daemon = await start()
    before = list(await kubelet.devices(RESOURCE, healthy(4)))
    machine(driver, 3)
    devices = await kubelet.devices(RESOURCE, healthy(3))
    assert list(devices) == before, "it stays in the list, so that capacity shows that something is missing"
    assert devices[before[3]] == "Unhealthy"
    with pytest.raises(grpc.aio.AioRpcError, match="does not show this GPU any more"):
        await kubelet.allocate(RESOURCE, before[3])
    assert await preferred(kubelet, before[:3], 3) == before[:3]
    machine(driver, 4)
    assert list(await kubelet.devices(RESOURCE, healthy(4))) == before
    await kubelet.allocate(RESOURCE, before[3])
    assert await preferred(kubelet, before, 4) == before
    assert len(kubelet.registrations) == 1, "the kubelet saw nothing but updates"
    driver("xid", 3, 79)  # the reset ended the driver's reports for this GPU; they were asked for again
    devices = await kubelet.devices(RESOURCE, healthy(3))
    assert devices[before[3]] == "Unhealthy"
    await daemon.logged("unhealthy", gpu=before[3], reason="xid_79")


async def test_mig_devices_that_a_reset_took_away_are_withdrawn(kubelet, start, driver):
    driver("mig", "1:1g.10gb,1g.10gb")
    await kubelet.start()
    await start("--mig-strategy=mixed")
    small = "nvidia.com/mig-1g.10gb"
    await kubelet.devices(small, healthy(2))
    machine(driver, 2)  # MIG devices do not outlive a reset
    await kubelet.withdrawn(small)
    await kubelet.devices(RESOURCE, healthy(2))
