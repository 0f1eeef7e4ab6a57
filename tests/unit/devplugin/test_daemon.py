"""The daemon as a process: real gRPC over unix sockets, the real pynvml on the simulated libnvidia-ml.so.1."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from pathlib import Path

import grpc
import pytest

from nvidia_devplugin.devices.allocation import REQUIRED_NODES

RESOURCE = "nvidia.com/gpu"


def healthy(count):
    """A predicate on devices: exactly `count` of them are healthy, and there are some."""
    return lambda devices: devices and sum(h == "Healthy" for h in devices.values()) == count


async def test_registers_and_lists_all_gpus(kubelet, start):
    await kubelet.start()
    await start()
    request = await kubelet.registered()
    assert (request.version, request.resource_name) == ("v1beta1", RESOURCE)
    assert request.options.get_preferred_allocation_available
    assert not request.options.pre_start_required
    devices = await kubelet.devices(RESOURCE)
    assert list(devices.values()) == ["Healthy", "Healthy"]
    assert all(device.startswith("GPU-") for device in devices)


async def test_allocate_names_the_device_nodes_or_what_is_missing(kubelet, start):
    await kubelet.start()
    await start("--pass-device-specs")
    _, second = await kubelet.devices(RESOURCE)
    if all(Path(node).exists() for node in REQUIRED_NODES):
        answer = await kubelet.allocate(RESOURCE, second)
        assert dict(answer.envs) == {"NVIDIA_VISIBLE_DEVICES": second}
        nodes = {(spec.container_path, spec.host_path, spec.permissions) for spec in answer.devices}
        assert ("/dev/nvidia1", "/dev/nvidia1", "rw") in nodes
        assert ("/dev/nvidia0", "/dev/nvidia0", "rw") not in nodes
        return
    with pytest.raises(grpc.aio.AioRpcError, match="its NVIDIA_DRIVER_CAPABILITIES must contain compute"):
        await kubelet.allocate(RESOURCE, second)


async def test_settings_come_from_the_file_the_environment_and_flags(kubelet, start, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("version: v1\nflags: {plugin: {deviceIDStrategy: uuid, passDeviceSpecs: true}}\n")
    await kubelet.start()
    await start("--config-file", str(config), "--pass-device-specs=false", env={"DEVICE_ID_STRATEGY": "index"})
    devices = await kubelet.devices(RESOURCE)
    answer = await kubelet.allocate(RESOURCE, *devices)
    assert dict(answer.envs) == {"NVIDIA_VISIBLE_DEVICES": "0,1"}
    assert not answer.devices


async def test_allocate_refuses_unknown_and_unhealthy_devices_with_a_reason(kubelet, start, driver):
    await kubelet.start()
    await start()
    first, second = await kubelet.devices(RESOURCE)
    with pytest.raises(grpc.aio.AioRpcError, match="unknown device GPU-nonsense") as unknown:
        await kubelet.allocate(RESOURCE, "GPU-nonsense")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    driver("xid", 0, 79)
    await kubelet.devices(RESOURCE, healthy(1))
    with pytest.raises(grpc.aio.AioRpcError, match=f"{first} .*unhealthy: XID 79: GPU has fallen off") as refused:
        await kubelet.allocate(RESOURCE, first)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await kubelet.allocate(RESOURCE, second)


async def test_preferred_allocation_over_the_wire(kubelet, start):
    from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb

    await kubelet.start()
    await start()
    first, second = await kubelet.devices(RESOURCE)
    stub = kubelet.endpoints[RESOURCE].stub
    request = pb.PreferredAllocationRequest()
    request.container_requests.add(
        available_deviceIDs=[first, second], must_include_deviceIDs=[second], allocation_size=1
    )
    answer = await stub.GetPreferredAllocation(request)
    assert list(answer.container_responses[0].deviceIDs) == [second]
    request.container_requests[0].allocation_size = 3
    with pytest.raises(grpc.aio.AioRpcError, match="3 out of 2"):
        await stub.GetPreferredAllocation(request)


async def test_application_xids_leave_a_gpu_healthy(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    first, second = await kubelet.devices(RESOURCE)
    for xid in (13, 31, 43, 45, 68, 109):
        driver("xid", 0, xid)
    driver("xid", 1, 48)  # events come in order: once this one is in, the others were too
    devices = await kubelet.devices(RESOURCE, healthy(1))
    assert devices == {first: "Healthy", second: "Unhealthy"}
    assert (await daemon.logged("xid", xid=109))["ignored"] == "true"


async def test_health_checks_can_be_disabled_and_enabled(kubelet, start, driver):
    await kubelet.start()
    await start(env={"DP_DISABLE_HEALTHCHECKS": "all", "DP_ENABLE_HEALTHCHECKS": "13"})
    first, second = await kubelet.devices(RESOURCE)
    driver("xid", 0, 79)
    driver("xid", 1, 13)
    devices = await kubelet.devices(RESOURCE, healthy(1))
    assert devices == {first: "Healthy", second: "Unhealthy"}


async def test_a_kubelet_restart_is_followed_and_health_survives_it(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    first, second = await kubelet.devices(RESOURCE)
    driver("xid", 1, 79)
    await kubelet.devices(RESOURCE, healthy(1))
    for restarts in range(1, 4):
        await kubelet.restart()
        await kubelet.registered(restarts + 1)
        devices = await kubelet.devices(RESOURCE)
        assert devices == {first: "Healthy", second: "Unhealthy"}
    await kubelet.allocate(RESOURCE, first)
    assert await daemon.terminate() == 0


async def test_a_kubelet_that_starts_later_is_found(kubelet, start):
    daemon = await start()
    await daemon.logged("waiting_for_kubelet")
    assert await daemon.get("/readyz") == (503, "not registered with the kubelet")
    await kubelet.start()
    await kubelet.registered()
    assert await kubelet.devices(RESOURCE)


async def test_a_socket_file_that_appears_before_the_kubelet_listens(kubelet, start):
    daemon = await start()
    await daemon.logged("waiting_for_kubelet")

    async def until_the_daemon_has_seen_it():
        await daemon.logged("kubelet_not_listening")

    await kubelet.start_slowly(until_the_daemon_has_seen_it)
    await kubelet.registered()
    assert await kubelet.devices(RESOURCE)


async def test_a_removed_plugin_socket_is_served_again(kubelet, start):
    await kubelet.start()
    await start()
    await kubelet.devices(RESOURCE)
    kubelet.endpoints[RESOURCE].path.unlink()
    request = await kubelet.registered(2)
    assert (kubelet.directory / request.endpoint).is_socket()
    devices = await kubelet.devices(RESOURCE)
    await kubelet.allocate(RESOURCE, next(iter(devices)))


async def test_a_socket_directory_that_is_removed_and_comes_back(kubelet, start):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE)
    await kubelet.stop()
    while kubelet.directory.exists():
        shutil.rmtree(kubelet.directory, ignore_errors=True)  # the daemon may put its socket back in between
    await daemon.logged("socket_directory_gone")
    kubelet.directory.mkdir()
    await kubelet.start()
    await kubelet.registered(2)
    assert await kubelet.devices(RESOURCE)


async def test_a_refused_registration_is_tried_again(kubelet, start):
    kubelet.reject = "invalid version"
    await kubelet.start()
    daemon = await start()
    line = await daemon.logged("register_failed")
    assert line["error"] == "UNKNOWN: invalid version"
    kubelet.reject = None
    await kubelet.registered()


async def test_a_cancelled_stream_takes_no_update_from_the_next(kubelet, start, driver):
    from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb

    await kubelet.start()
    await start()
    await kubelet.devices(RESOURCE)
    stub = kubelet.endpoints[RESOURCE].stub
    for _ in range(3):
        cancelled = stub.ListAndWatch(pb.Empty())
        await cancelled.read()
        cancelled.cancel()
    driver("xid", 0, 79)
    await kubelet.devices(RESOURCE, healthy(1))
    late = stub.ListAndWatch(pb.Empty())
    first = await late.read()
    assert sorted(device.health for device in first.devices) == ["Healthy", "Unhealthy"]
    late.cancel()


async def test_a_lost_gpu_becomes_unhealthy(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    first, second = await kubelet.devices(RESOURCE)
    driver("lose", 1)
    devices = await kubelet.devices(RESOURCE, healthy(1))
    assert devices == {first: "Healthy", second: "Unhealthy"}
    assert (await daemon.logged("unhealthy", gpu=second))["reason"] in ("gpu_lost", "xid_79")


async def test_a_driver_that_vanishes_and_comes_back(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    devices = await kubelet.devices(RESOURCE)
    driver("unload")
    await kubelet.devices(RESOURCE, healthy(0))
    line = await daemon.logged("driver_unavailable")
    assert line["reason"] == "driver_not_loaded"
    assert "modprobe nvidia" in line["hint"]
    driver("load")
    assert await kubelet.devices(RESOURCE, healthy(2)) == devices
    assert len(kubelet.registrations) == 1, "the plugin stays registered all the while"
    driver("xid", 0, 79)  # and the new event set reports
    await kubelet.devices(RESOURCE, healthy(1))


async def test_a_missing_driver_is_waited_for_if_so_wished(kubelet, start, driver):
    driver("unload")
    await kubelet.start()
    daemon = await start("--fail-on-init-error=false")
    await daemon.logged("driver_unavailable")
    assert await daemon.get("/healthz") == (200, "ok")
    assert await daemon.get("/readyz") == (503, "the NVIDIA kernel module is not loaded")
    assert kubelet.registrations == []
    driver("load")
    await kubelet.devices(RESOURCE, healthy(2))
    assert await daemon.get("/readyz") == (200, "ok")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(("unload",), "the NVIDIA kernel module is not loaded. What to do: .*modprobe", id="unloaded"),
        pytest.param(("library-mismatch",), "have different versions. What to do: .*reboot the node", id="mismatch"),
    ],
)
async def test_a_missing_driver_is_fatal_by_default(kubelet, start, driver, command, message):
    driver(*command)
    await kubelet.start()
    daemon = await start()
    assert await daemon.exit() == 1
    line = await daemon.logged("fatal")
    assert re.search(message, line["error"]), line


async def test_a_missing_library_is_fatal_by_default(kubelet, start, tmp_path):
    await kubelet.start()
    daemon = await start(env={"LD_LIBRARY_PATH": str(tmp_path)})
    assert await daemon.exit() == 1
    assert "runtimeClassName: nvidia" in (await daemon.logged("fatal"))["error"]


async def test_a_machine_without_gpus_advertises_nothing(kubelet, start, driver):
    driver("init", "--model", "H100", "--count", 0, "--device-nodes", "off")
    await kubelet.start()
    daemon = await start()
    await daemon.logged("no_gpu")
    assert await daemon.get("/readyz") == (503, "no GPU found")
    assert kubelet.registrations == []


async def test_sigterm_ends_it_cleanly_and_removes_the_socket(kubelet, start):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE)
    assert await daemon.terminate() == 0
    assert [path.name for path in kubelet.directory.iterdir()] == ["kubelet.sock"]
    assert "Traceback" not in "\n".join(daemon.lines)
    await daemon.logged("stopping", signal="SIGTERM")
    assert "level=error" not in "\n".join(daemon.lines)


@pytest.mark.parametrize("phase", ["starting", "driver_unavailable", "waiting_for_kubelet"])
async def test_sigterm_in_every_phase(start, driver, phase):
    if phase == "driver_unavailable":
        driver("unload")
    daemon = await start("--fail-on-init-error=false")
    await daemon.logged(phase)
    assert await daemon.terminate() == 0
    assert "Traceback" not in "\n".join(daemon.lines)


async def test_what_a_killed_daemon_left_behind_does_no_harm(kubelet, start):
    await kubelet.start()
    first = await start()
    await kubelet.devices(RESOURCE)
    first.process.kill()
    await first.exit()
    assert kubelet.endpoints[RESOURCE].path.exists()
    await start()
    await kubelet.registered(2)
    devices = await kubelet.devices(RESOURCE)
    await kubelet.allocate(RESOURCE, next(iter(devices)))


async def test_an_address_in_use_keeps_nobody_from_the_gpus(kubelet, start):
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    await kubelet.start()
    daemon = await start("--http-address", f"127.0.0.1:{port}")
    devices = await kubelet.devices(RESOURCE)
    await kubelet.allocate(RESOURCE, next(iter(devices)))
    assert "address already in use" in (await daemon.logged("probes_unavailable"))["error"].lower()
    taken.close()
    assert await daemon.terminate() == 0


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        pytest.param("flags: {migStrategi: none}", (), "flags.migStrategi: unknown key", id="unknown-key"),
        pytest.param("flags: {deviceDiscoveryStrategy: tegra}", (), "Strategy: tegra is not supported", id="refused"),
        pytest.param(
            "version: v1", ("--device-discovery-strategy=vfio",), "--device-discovery-strategy: vfio is not", id="flag"
        ),
    ],
)
async def test_wrong_settings_stop_it_at_once(start, tmp_path: Path, content, flags, message):
    config = tmp_path / "config.yaml"
    config.write_text(content)
    daemon = await start("--config-file", str(config), *flags)
    assert await daemon.exit() == 2
    assert message in daemon.lines[0]
    assert len(daemon.lines) == 1


async def test_json_logs(kubelet, start):
    await kubelet.start()
    daemon = await start("--log-format=json")
    await kubelet.devices(RESOURCE)
    await daemon.terminate()
    entries = [json.loads(line) for line in daemon.lines]
    registered = next(entry for entry in entries if entry["event"] == "registered")
    assert registered["resource"] == RESOURCE
    assert registered["level"] == "info"


async def test_sighup_reads_the_config_file_again(kubelet, start, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("version: v1\n")
    await kubelet.start()
    daemon = await start("--config-file", str(config))
    await kubelet.devices(RESOURCE, healthy(2))
    config.write_text("sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2}]}}\n")
    daemon.process.send_signal(signal.SIGHUP)
    await kubelet.devices(RESOURCE, healthy(4))
    assert await daemon.terminate() == 0


async def test_sighup_without_a_config_file_ends_nothing(kubelet, start):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE, healthy(2))
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.logged("no_config_file")
    assert await daemon.terminate() == 0
