"""The rules about a GPU's counters and sensors, and those rules through the driver, the daemon and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.config.settings import ConfigError, parse, resolve
from nvidia_devplugin.health.fault_store import FaultStore
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.health.state import HealthState, update
from nvidia_devplugin.health.vitals import examine, is_hot
from nvidia_devplugin.model import POLLED_FAULTS, EccEvent, Fault, Inventory, Vitals, XidEvent
from tests.unit.devplugin.conftest import ROOT
from tests.unit.devplugin.strategies import gpu

RESOURCE = "nvidia.com/gpu"


def healthy(count):
    return lambda devices: sum(health == "Healthy" for health in devices.values()) == count


@pytest.mark.parametrize(
    ("vitals", "code"),
    [
        (Vitals(), None),
        (Vitals(row_remap_failed=1, row_remap_pending=1), "row_remap_failed"),
        (Vitals(row_remap_pending=1), "row_remap_pending"),
        (Vitals(page_retirement_pending=1), "page_retirement_pending"),
        (Vitals(uncorrected=2), "ecc_double_bit"),
        (Vitals(recovery_action=2), "reboot_required"),
        (Vitals(recovery_action=4), "reset_required"),
        (Vitals(recovery_action=5), None),
    ],
)
def test_rules(vitals, code):
    fault = examine(vitals)
    assert (fault.code if fault else None) == code


@pytest.mark.parametrize(
    ("temperature", "was_hot", "hot"),
    [(92, False, True), (91, False, False), (91, True, True), (88, True, False), (None, True, True)],
)
def test_a_gpu_is_hot_from_shutdown_until_it_is_below_slowdown(temperature, was_hot, hot):
    assert is_hot(Vitals(temperature=temperature, shutdown_at=92, slowdown_at=89), was_hot) is hot


def test_thermal_shutdown_is_remembered_from_reading_to_reading():
    state = HealthState()
    found = []
    for temperature in (92, 90, 88, 90):
        vitals = ((gpu(0).uuid, Vitals(temperature=temperature, shutdown_at=92, slowdown_at=89)),)
        state = update(state, Policy.from_text(), Inventory("550", (gpu(0),), vitals=vitals))
        fault = state.records[gpu(0).uuid].reported
        found.append(fault.code if fault else None)
    assert found == ["thermal_shutdown", "thermal_shutdown", None, None]


@pytest.mark.parametrize(
    ("disabled", "enabled", "expected"),
    [
        ("", "", True),
        ("all", "", False),
        ("xids", "", False),
        ("all", "79", False),
        ("all", "all", True),
        ("79", "", True),
    ],
)
def test_disabling_all_health_checks_disables_those_of_counters_and_ecc_too(disabled, enabled, expected):
    uuid = gpu(0).uuid
    policy = Policy.from_text(disabled, enabled)
    state = update(HealthState(), policy, Inventory("550", (gpu(0),)))
    assert bool(update(state, policy, EccEvent(uuid)).faults()) is expected
    bad = Inventory("550", (gpu(0),), vitals=((uuid, Vitals(row_remap_failed=1)),))
    assert bool(update(state, policy, bad).faults()) is expected
    lost = Inventory("550", (gpu(0),), faults=((uuid, Fault("gpu_lost", "lost")),))
    assert update(state, policy, lost).faults(), "a GPU that cannot be used is not a matter of checks"


@given(st.builds(Vitals, *[st.one_of(st.none(), st.integers(0, 2**32 - 1))] * 8), st.booleans())
def test_random_values_are_a_known_fault_or_none(vitals, hot):
    fault = examine(vitals, hot)
    assert fault is None or fault.code in POLLED_FAULTS
    assert not hot or fault is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("xids: {79: maybe}", r"kubegpu\.health\.xids\.79: the string 'maybe' is not one of ignore, transient, fatal"),
        ("xids: {x: fatal}", r"kubegpu\.health\.xids: the string 'x' is not an XID's number"),
        ("ignore: [gpu_lost]", r"kubegpu\.health\.ignore\[0\]: the string 'gpu_lost' is not one of"),
        ("quietPeriod: soon", r"kubegpu\.health\.quietPeriod: the string 'soon' is not a duration"),
    ],
)
def test_wrong_settings_name_their_path(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(f"kubegpu: {{health: {{{text}}}}}".encode())


def test_settings():
    text = b"kubegpu: {health: {xids: {79: ignore, '13': fatal}, ignore: [ecc_double_bit], quietPeriod: 1m30s}}"
    config = resolve(parse(text), {}, {})
    assert dict(config.xid_severities) == {79: "ignore", 13: "fatal"}
    assert (config.faults_ignored, config.quiet_seconds) == (("ecc_double_bit",), 90.0)
    policy = Policy.from_text("13", "79", dict(config.xid_severities))
    assert (policy.severity(13), policy.severity(79), policy.severity(48)) == ("ignore", "transient", "fatal")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"era": "now", "gpus": {"GPU-0": {}}}', '{"era":"now","gpus":[1]}']
)
def test_a_damaged_memory_is_no_memory(tmp_path, content):
    (tmp_path / "health.json").write_text(content)
    assert FaultStore(tmp_path, lambda: "now").recall() == HealthState()


def test_memory_holds_for_one_era(tmp_path):
    state = update(HealthState(known=(gpu(0).uuid,)), Policy.from_text(), XidEvent(gpu(0).uuid, 79), 5.0)
    FaultStore(tmp_path / "new", lambda: "boot 1").keep(state)
    assert FaultStore(tmp_path / "new", lambda: "boot 1").recall().records == state.records
    assert FaultStore(tmp_path / "new", lambda: "boot 2").recall() == HealthState()


@pytest.mark.parametrize(
    ("model", "key", "bad", "good", "code"),
    [
        ("H100", "remapped_rows_pending", "yes", "no", "row_remap_pending"),
        ("T4", "retired_pages_pending", "yes", "no", "page_retirement_pending"),
        ("H100", "ecc_volatile_uncorrected_dram", 1, 0, "ecc_double_bit"),
        ("H100", "temperature", 95, 40, "thermal_shutdown"),
    ],
)
async def test_what_the_driver_says_of_a_gpu_reaches_the_kubelet_and_heals(
    kubelet, start, driver, model, key, bad, good, code
):
    driver("init", "--model", model, "--count", 2, "--device-nodes", "off")
    driver("set", 1, key, bad)
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE, healthy(1))
    await daemon.logged("unhealthy", index=1, reason=code)
    driver("set", 1, key, good)
    await kubelet.devices(RESOURCE, healthy(2))


async def command(kubelet, *arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nvidia_devplugin", *arguments, "--kubelet-socket", str(kubelet.socket),
        env={"PYTHONPATH": str(ROOT / "files/devplugin/src")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, (out + err).decode().strip()


async def test_a_fatal_fault_outlives_sigkill_and_a_kubelet_restart_until_it_is_acknowledged(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    first, second = await kubelet.devices(RESOURCE, healthy(2))
    driver("event", 1, "0x2")  # double-bit ECC error
    await kubelet.devices(RESOURCE, healthy(1))
    path = kubelet.directory / "nvidia.d/health.json"
    while not path.exists():
        await asyncio.sleep(0.01)
    assert list(json.loads(path.read_text())["gpus"]) == [second]
    daemon.process.send_signal(signal.SIGKILL)
    await daemon.exit()
    await kubelet.restart()
    daemon = await start()
    await daemon.logged("health_recalled", gpus=second)
    assert (await kubelet.devices(RESOURCE, healthy(1)))[first] == "Healthy"
    status, said = await command(kubelet, "ack", "0")
    assert (status, said) == (1, f"nvidia-devplugin: {first} is healthy: there is nothing to acknowledge")
    assert await command(kubelet, "ack", "1") == (0, f"{second}: acknowledged")
    await kubelet.devices(RESOURCE, healthy(2))
    assert await daemon.terminate() == 0
    status, said = await command(kubelet, "ack", "1")
    assert (status, said.split(" on ")[0]) == (1, "nvidia-devplugin: no daemon answers")


async def test_a_transient_fault_heals_by_itself(kubelet, start, driver, tmp_path):
    (tmp_path / "config.yaml").write_text("kubegpu: {health: {quietPeriod: 1s}}")
    await kubelet.start()
    daemon = await start("--config-file", str(tmp_path / "config.yaml"))
    await kubelet.devices(RESOURCE, healthy(2))
    driver("xid", 0, 94)
    await kubelet.devices(RESOURCE, healthy(1))
    await kubelet.devices(RESOURCE, healthy(2))
    await daemon.logged("healthy", index=0)


async def test_a_storm_of_ten_thousand_xids(kubelet, start, driver):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE, healthy(2))
    before = len(kubelet.endpoints[RESOURCE].updates)
    with (driver.state.parent / "events").open("a") as events:
        events.write("xid 1 94\n" * 10_000 + "xid 0 79\n")
    await kubelet.devices(RESOURCE, healthy(0))  # the last event is not lost
    assert len(kubelet.endpoints[RESOURCE].updates) - before <= 2, "what changes nothing is not told"
    assert len(daemon.lines) < 60
    began = time.monotonic()
    assert await daemon.terminate() == 0
    assert time.monotonic() - began < 5


async def test_nvml_is_released_when_the_driver_is_gone(kubelet, start, driver):
    """Nothing is left open or mapped that would keep the kernel module: the session's descriptors are closed."""
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE, healthy(2))

    def open_files():
        names = []
        for entry in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(str(entry.readlink()))
        return names

    with_session = open_files()
    driver("unload")
    await kubelet.devices(RESOURCE, healthy(0))
    await asyncio.sleep(0.5)
    without = open_files()
    assert without.count("anon_inode:inotify") == with_session.count("anon_inode:inotify") - 1, "the event set is freed"
    assert not [name for name in without if name.startswith("/dev/nvidia")]
    driver("load")
    await kubelet.devices(RESOURCE, healthy(2))
