"""Messages that no kubelet would send: the daemon keeps running, and answers the next valid request.

The random bytes come from fixed seeds, so that a failure can be repeated.
"""

from __future__ import annotations

import contextlib
import random

import grpc
import grpc.aio

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb

RESOURCE = "nvidia.com/gpu"
METHODS = ["GetDevicePluginOptions", "GetPreferredAllocation", "Allocate", "PreStartContainer", "ListAndWatch", "None"]
ROUNDS = 60


def noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(1, 400))


async def still_serves(kubelet, daemon) -> None:
    devices = await kubelet.devices(RESOURCE)
    answer = await kubelet.allocate(RESOURCE, next(iter(devices)))
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == next(iter(devices))
    status, _ = await daemon.get("/healthz")
    assert status == 200
    assert daemon.process.returncode is None
    assert len(kubelet.registrations) == 1
    assert not kubelet.endpoints[RESOURCE].ended


async def test_messages_that_are_no_protobuf_are_refused_one_by_one(kubelet, start):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE)
    codes: dict[str, set[grpc.StatusCode]] = {}
    async with grpc.aio.insecure_channel(f"unix:{kubelet.endpoints[RESOURCE].path}") as channel:
        for seed in range(ROUNDS):
            dice = random.Random(seed)
            method = dice.choice(METHODS)
            raw = channel.unary_unary(f"/v1beta1.DevicePlugin/{method}")
            try:
                await raw(noise(dice), timeout=5)
            except grpc.aio.AioRpcError as error:
                codes.setdefault(method, set()).add(error.code())
    # what cannot be parsed is an error, not an answer
    assert codes["Allocate"] == {grpc.StatusCode.UNKNOWN}
    assert codes["None"] == {grpc.StatusCode.UNIMPLEMENTED}
    errors = [line for line in daemon.lines if "level=error" in line]
    assert errors
    assert all("DecodeError" in line for line in errors)
    await still_serves(kubelet, daemon)


async def test_well_formed_messages_with_absurd_values_are_refused_or_answered(kubelet, start):
    await kubelet.start()
    daemon = await start()
    devices = list(await kubelet.devices(RESOURCE))
    stub = kubelet.endpoints[RESOURCE].stub
    dice = random.Random(0)
    words = [*devices, "", "x" * 10_000, "GPU-" + "0" * 36, devices[0] + "::7", "../../etc/passwd", "\0", "🦊"]
    for _ in range(ROUNDS):
        request = pb.AllocateRequest()
        preferred = pb.PreferredAllocationRequest()
        for _ in range(dice.randrange(4)):
            request.container_requests.add(devicesIDs=dice.choices(words, k=dice.randrange(6)))
            preferred.container_requests.add(
                available_deviceIDs=dice.choices(words, k=dice.randrange(6)),
                must_include_deviceIDs=dice.choices(words, k=dice.randrange(3)),
                allocation_size=dice.choice([-(2**31), -1, 0, 1, 2, 7, 2**31 - 1]),
            )
        for call, message in [(stub.Allocate, request), (stub.GetPreferredAllocation, preferred)]:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call(message, timeout=10)
    await still_serves(kubelet, daemon)
    assert [line for line in daemon.lines if "Traceback" in line or "level=error" in line] == []
