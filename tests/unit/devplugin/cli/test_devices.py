"""nvidia-devplugin devices: from the running daemon, else from the driver."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from nvidia_devplugin.config.named_configs import Choice, ChoiceFile
from nvidia_devplugin.control.server import Control
from nvidia_devplugin.devices.description import describe
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.model import Fault
from tests.unit.devplugin.strategies import gpu

GPU = "nvidia.com/gpu"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
SHARED = b"sharing: {timeSlicing: {resources: [{name: gpu, replicas: 10}]}}"
XID = Fault("xid_79", "XID 79: GPU has fallen off the bus")


def amounts(text: str) -> dict[str, int]:
    return {name: len(each["devices"]) for name, each in json.loads(text)["resources"].items()}


@pytest.fixture
async def daemon(socket_directory: Path):
    """daemon(problems): a control socket that answers as a daemon with two GPUs, one of which had an XID."""
    tasks = []

    async def serve(*problems: str) -> str:
        def devices(_rest: str) -> str:
            if problems == ("starting",):
                raise ValueError("the driver has not answered yet")
            resources = layout((gpu(0), gpu(1))).resources
            return json.dumps(describe(resources, {gpu(1).uuid: XID}, "550", problems))

        where = socket_directory / "nvidia.d"
        tasks.append(asyncio.create_task(Control(where, {"devices": devices}).run()))
        while not (where / "ack.sock").exists():
            await asyncio.sleep(0.01)
        return f"--kubelet-socket={socket_directory}/kubelet.sock"

    yield serve
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_health_is_that_of_the_running_daemon(command, daemon):
    flag = await daemon()
    status, text, errors = await command("devices", flag)
    assert (status, errors) == (0, "")
    assert text.splitlines()[0] == f"{GPU} (2 devices)"
    assert text.splitlines()[1].endswith("Healthy")
    assert text.splitlines()[2].endswith(f"Unhealthy: {XID.message}")
    status, text, errors = await command("devices", flag, "--output=json")
    assert [device["reason"] for device in json.loads(text)["resources"][GPU]["devices"]] == [None, XID.message]


async def test_a_fault_of_the_past_is_known_to_the_running_daemon(command, kubelet, start, driver):
    await kubelet.start()
    await start()
    first, _second = await kubelet.devices(GPU, lambda devices: len(devices) == 2)
    driver("xid", 0, 79)
    await kubelet.devices(GPU, lambda devices: devices.get(first) == "Unhealthy")
    status, text, errors = await command("devices", f"--kubelet-socket={kubelet.socket}", "--output=json")
    shown = {each["id"]: each["health"] for each in json.loads(text)["resources"][GPU]["devices"]}
    assert (status, errors, shown[first]) == (0, "", "Unhealthy")


async def test_problems_of_the_daemon_are_told(command, daemon):
    status, text, errors = await command("devices", await daemon("GPU 3 is unreadable"), "--output=json")
    assert (status, errors, amounts(text)) == (1, "nvidia-devplugin: GPU 3 is unreadable\n", {GPU: 2})


async def test_a_daemon_that_does_not_know_yet(command, daemon):
    status, text, errors = await command("devices", await daemon("starting"))
    assert (status, text, errors) == (1, "", "nvidia-devplugin: the driver has not answered yet\n")


async def test_without_a_daemon_the_driver_is_read_and_the_user_is_told(command, socket_directory, driver):
    flag = f"--kubelet-socket={socket_directory}/kubelet.sock"
    status, text, errors = await command("devices", flag, "--output=json")
    assert (status, amounts(text)) == (0, {GPU: 2})
    assert errors == (
        f"nvidia-devplugin: no daemon answers on {socket_directory}/nvidia.d/ack.sock (No such file or directory): "
        "health is what the driver says now, earlier XIDs are not known\n"
    )
    driver("unload")
    status, text, errors = await command("devices", flag)
    assert (status, text) == (1, "")
    assert "nvidia-devplugin: the NVIDIA kernel module is not loaded" in errors


async def test_flags_say_what_would_be_advertised(command, daemon, driver):
    flag = await daemon()
    driver("mig", "1:3g.40gb,1g.10gb")
    status, text, errors = await command("devices", flag, "--mig-strategy=mixed", "--output=json")
    assert (status, amounts(text)) == (0, {GPU: 1, LARGE: 1, SMALL: 1})
    assert "this is what these flags would advertise" in errors
    (small,) = json.loads(text)["resources"][SMALL]["devices"]
    assert (small["index"], small["profile"], small["health"]) == ("1:1", "1g.10gb", "Healthy")
    status, text, _ = await command("devices", flag, "-mig-strategy", "mixed")
    assert f"{SMALL} (1 device)" in text
    status, _, errors = await command("devices", flag, "--mig-strategy=single")
    assert status == 1
    assert "MIG is enabled on some GPUs but not on GPU 0" in errors
    status, _, errors = await command("devices", flag, "--mig-strategy=x")
    assert status == 2
    assert "--mig-strategy: the string 'x' is not one of" in errors


async def test_of_named_configs_it_is_the_one_that_the_daemon_applied(command, socket_directory, tmp_path: Path):
    (tmp_path / "default").write_text("")
    (tmp_path / "wrong").write_text("version: v2")
    flags = ("--output=json", f"--config-file-srcdir={tmp_path}", f"--kubelet-socket={socket_directory}/k.sock")
    assert amounts((await command("devices", *flags))[1]) == {GPU: 2}
    ChoiceFile(socket_directory / "nvidia.d").keep(Choice("shared", "shared", SHARED))
    assert amounts((await command("devices", *flags))[1]) == {GPU: 20}
