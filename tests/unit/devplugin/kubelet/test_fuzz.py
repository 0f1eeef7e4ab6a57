"""What the daemon makes of bytes that no kubelet would send: it goes on, and answers the next good question.

The random bytes come from fixed seeds, so that a failure can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import stat
import struct
from collections.abc import Callable

import grpc
import grpc.aio
import pytest

from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb

RESOURCE = "nvidia.com/gpu"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = struct.pack(">HBBBL", 0, 0, 4, 0, 0)
METHODS = ["GetDevicePluginOptions", "GetPreferredAllocation", "Allocate", "PreStartContainer", "ListAndWatch", "None"]
ROUNDS = 60


def noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(1, 400))


def frames(dice: random.Random) -> bytes:
    """HTTP/2 frames whose headers are well formed, of any type, with any flags, streams and payload."""
    sent = b""
    for _ in range(dice.randrange(1, 12)):
        payload = dice.randbytes(dice.randrange(0, 64))
        length = len(payload) if dice.random() < 0.8 else dice.randrange(1 << 24)  # or one that lies
        sent += struct.pack(">HBBBL", length >> 8, length & 255, dice.randrange(0, 12), dice.randrange(256),
                            dice.randrange(1 << 31)) + payload  # fmt: skip
    return sent


def cut_short(dice: random.Random) -> bytes:
    return (PREFACE + SETTINGS)[: dice.randrange(1, len(PREFACE) + len(SETTINGS))]


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "noise": noise,
    "noise after the preface": lambda dice: PREFACE + SETTINGS + noise(dice),
    "frames": lambda dice: PREFACE + SETTINGS + frames(dice),
    "a preface cut short": cut_short,
}


async def send(path: str, data: bytes) -> None:
    """Sends the bytes on a connection of their own, and reads what comes until the other end is done or slow."""
    reader, writer = await asyncio.open_unix_connection(path)
    with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
        writer.write(data)
        await writer.drain()
        await asyncio.wait_for(reader.read(4096), 0.05)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def still_serves(kubelet, daemon) -> None:
    devices = await kubelet.devices(RESOURCE)
    answer = await kubelet.allocate(RESOURCE, next(iter(devices)))
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == next(iter(devices))
    status, _ = await daemon.get("/healthz")
    assert status == 200
    assert daemon.process.returncode is None
    assert len(kubelet.registrations) == 1
    assert not kubelet.endpoints[RESOURCE].ended
    assert [line for line in daemon.lines if "Traceback" in line] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_are_no_grpc_do_not_bring_it_down(kubelet, start, kind):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE)
    path = str(kubelet.endpoints[RESOURCE].path)
    for seed in range(ROUNDS):
        await send(path, KINDS[kind](random.Random(f"{kind} {seed}")))
    await still_serves(kubelet, daemon)


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
    # what cannot be understood is an error, not an answer
    assert codes["Allocate"] == {grpc.StatusCode.INVALID_ARGUMENT}
    assert codes["None"] == {grpc.StatusCode.UNIMPLEMENTED}
    refused = [line for line in daemon.lines if "event=message_refused" in line]
    assert refused
    assert not [line for line in daemon.lines if "level=error" in line]
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


async def test_only_the_daemons_user_may_connect_to_its_socket(kubelet, start):
    """The folder is the kubelet's (root, 0750 or stricter on a node); the socket does not rely on it."""
    await kubelet.start()
    await start()
    await kubelet.devices(RESOURCE)
    found = kubelet.endpoints[RESOURCE].path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert found.st_uid == os.geteuid()
    assert stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH) == 0
