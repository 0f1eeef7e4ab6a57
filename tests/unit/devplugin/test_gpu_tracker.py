"""MIG, sharing and renaming by the daemon as a process: what the kubelet sees, also while the machine changes."""

from __future__ import annotations

import grpc
import pytest

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from tests.sim.nvml import nvmlsim

GPU = "nvidia.com/gpu"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"


def count(number):
    return lambda devices: len(devices) == number


def healthy(number):
    return lambda devices: sum(health == "Healthy" for health in devices.values()) == number


async def test_mixed_mig_is_one_plugin_for_each_resource_and_an_event_reaches_its_instance(kubelet, start, driver):
    driver("mig", "1:3g.40gb,1g.10gb,1g.10gb")
    await kubelet.start()
    await start("--mig-strategy=mixed")
    (whole,) = await kubelet.devices(GPU, count(1))
    (large,) = await kubelet.devices(LARGE, count(1))
    small = list(await kubelet.devices(SMALL, count(2)))
    answer = await kubelet.allocate(SMALL, small[0])
    assert dict(answer.envs) == {"NVIDIA_VISIBLE_DEVICES": small[0]}
    assert small[0].startswith("MIG-")

    driver("xid", 1, 94, 11, 0)  # the GPU instance of the first small one
    devices = await kubelet.devices(SMALL, healthy(1))
    hit = next(device for device, health in devices.items() if health == "Unhealthy")
    with pytest.raises(grpc.aio.AioRpcError, match=rf"{hit} \(MIG device 1:\d\) is unhealthy: XID 94"):
        await kubelet.allocate(SMALL, hit)
    assert set(kubelet.endpoints[LARGE].devices.values()) == {"Healthy"}

    driver("xid", 1, 79)  # the GPU and so all that is on it
    await kubelet.devices(SMALL, healthy(0))
    await kubelet.devices(LARGE, healthy(0))
    assert kubelet.endpoints[GPU].devices == {whole: "Healthy"}
    assert large in kubelet.endpoints[LARGE].devices


async def test_mig_reconfigured_is_followed_and_stale_resources_go_to_zero(kubelet, start, driver):
    driver("mig", "1:3g.40gb,1g.10gb")
    await kubelet.start()
    daemon = await start("--mig-strategy=mixed")
    await kubelet.devices(LARGE, count(1))
    driver("mig", "1:1g.10gb,1g.10gb,1g.10gb")
    await kubelet.devices(SMALL, count(3))
    await kubelet.withdrawn(LARGE)
    driver("mig", "off")
    await kubelet.withdrawn(SMALL)
    await kubelet.devices(GPU, count(2))
    await daemon.logged("advertised", resource=SMALL, devices=0, before=3)
    assert len(kubelet.registrations) == 3, "one for each resource, and none again"


async def test_single_refuses_what_is_not_uniform_until_it_is(kubelet, start, driver):
    driver("mig", "0:3g.40gb,1g.10gb")
    await kubelet.start()
    daemon = await start("--mig-strategy=single")
    await kubelet.withdrawn(GPU)
    status, problem = await daemon.get("/readyz")
    assert (status, problem.split(";")[0]) == (
        503, "MIG strategy single: MIG is enabled on some GPUs but not on GPU 1",
    )  # fmt: skip
    driver("mig", "3g.40gb,3g.40gb")
    devices = await kubelet.devices(GPU, count(4))
    assert all(device.startswith("MIG-") for device in devices)
    assert (await daemon.get("/readyz"))[0] == 200


async def test_a_gpu_that_is_added_is_advertised(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    before = set(await kubelet.devices(GPU, count(2)))
    driver("init", "--model", "H100", "--count", 3, "--device-nodes", "off", "--seed", "test")
    assert before < set(await kubelet.devices(GPU, count(3)))
    assert await daemon.terminate() == 0


SHARED = """
version: v1
resources: {gpus: [{pattern: "*H100*", name: h100}]}
sharing: {timeSlicing: {renameByDefault: true, resources: [{name: h100, replicas: 10}]}}
kubegpu: {distinctGpus: true}
"""


async def test_time_slicing_renaming_and_distinct_gpus_together(kubelet, start, driver, tmp_path):
    (tmp_path / "config.yaml").write_text(SHARED)
    await kubelet.start()
    await start("--config-file", str(tmp_path / "config.yaml"))
    name = "nvidia.com/h100.shared"
    devices = list(await kubelet.devices(name, count(20)))
    first, second = devices[0].split("::")[0], devices[10].split("::")[0]
    request = pb.PreferredAllocationRequest()
    request.container_requests.add(available_deviceIDs=devices, allocation_size=2)
    answer = await kubelet.endpoints[name].stub.GetPreferredAllocation(request)
    chosen = list(answer.container_responses[0].deviceIDs)
    assert {device.split("::")[0] for device in chosen} == {first, second}
    assert (await kubelet.allocate(name, *chosen)).envs["NVIDIA_VISIBLE_DEVICES"] == f"{first},{second}"
    with pytest.raises(grpc.aio.AioRpcError, match="are on GPU 0: this node gives no container two") as refused:
        await kubelet.allocate(name, f"{first}::1", f"{first}::2")
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    driver("xid", 0, 79)
    assert sum(h == "Unhealthy" for h in (await kubelet.devices(name, healthy(10))).values()) == 10
    await kubelet.restart()
    await kubelet.devices(name, healthy(10))


async def test_sixteen_gpus_with_seven_instances_each(kubelet, start, driver):
    driver("init", "--model", "H100", "--count", 16, "--device-nodes", "off", "--mig", ",".join(["1g.10gb"] * 7))
    await kubelet.start()
    await start("--mig-strategy=mixed")
    await kubelet.devices(SMALL, count(112))
    driver("xid", 3, 79)
    await kubelet.devices(SMALL, healthy(105))


async def test_mig_devices_that_are_made_later_need_a_new_container(kubelet, start, driver, tmp_path):
    """As in a container, which has the files of those MIG devices that were there when it was made."""
    driver("init", "--model", "H100", "--count", 2, "--device-nodes", "on", "--mig", "1:3g.40gb,1g.10gb")
    minors = nvmlsim.capability_minors(nvmlsim.load(driver.state))
    (tmp_path / "dev/nvidia-caps").mkdir(parents=True)

    def files(*instances: int) -> None:
        names = [f"gpu1/gi{gi}/{part}access" for gi in instances for part in ("", "ci0/")]
        caps = [f"nvidia-caps/nvidia-cap{minors[name]}" for name in ("monitor", *names)]
        for name in ("nvidiactl", "nvidia0", "nvidia1", *caps):
            (tmp_path / "dev" / name).touch()

    files(1, 11)
    await kubelet.start()
    container = {"NVML_SIM_DEV": str(tmp_path / "dev")}
    daemon = await start("--mig-strategy=mixed", env=container)
    await kubelet.devices(SMALL, count(1))
    driver("mig", "1:3g.40gb,1g.10gb,1g.10gb")
    assert await daemon.exit() == 3
    await daemon.logged("fatal", task="driver")
    files(12)
    await start("--mig-strategy=mixed", env=container)
    await kubelet.devices(SMALL, count(2))
