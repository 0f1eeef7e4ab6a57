"""What each setting of the config file means: the devices that are advertised, and what a container gets of them.

One row for each path in the file, with all else as it is by default; no path may be without a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from zlib import crc32

import pytest

from nvidia_devplugin.config.settings import Config, ConfigError, parse, resolve
from nvidia_devplugin.config.table import SETTINGS
from nvidia_devplugin.devices.allocation import Allocation, AllocationError, DeviceNode, Mount, allocate
from nvidia_devplugin.devices.placement import Placement
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.health.policy import Policy, Recovery
from nvidia_devplugin.labels.feature_labels import Machine, Node, labels
from nvidia_devplugin.model import MigDevice
from tests.unit.devplugin.strategies import gpu

GPU = "nvidia.com/gpu"
G0, G1 = gpu(0).uuid, gpu(1).uuid
WHOLE = (gpu(0), gpu(1))
M0, M1, M2 = "MIG-a", "MIG-b", "MIG-c"
SMALL, LARGE = (
    MigDevice(0, M0, "1g.10gb", 7, 0, capabilities=(31, 32)),
    MigDevice(1, M1, "3g.40gb", 2, 0, capabilities=(41, 42)),
)
SPLIT = (gpu(0), replace(gpu(1), mig_enabled=True, mig=(SMALL, LARGE)))
ALIKE = (replace(gpu(0), mig_enabled=True, mig=(SMALL, MigDevice(1, M2, "1g.10gb", 8, 0))),)
CHANNELS = "/dev/nvidia-caps-imex-channels"
PRESENT = frozenset({"/dev/nvidiactl", "/dev/nvidia-uvm", f"{CHANNELS}/channel0"})


def visible(*devices: str, **more: str) -> Allocation:
    """What a container gets by default: the variable that names its devices."""
    return Allocation({"NVIDIA_VISIBLE_DEVICES": ",".join(devices), **more})


def nodes(*paths: str, root: str = "") -> tuple[DeviceNode, ...]:
    return tuple(DeviceNode(path, root + path) for path in paths)


def sliced(uuid: str, count: int) -> list[str]:
    return [f"{uuid}::{number}" for number in range(count)]


def slicing(entry: str, more: str = "") -> str:
    return f"sharing: {{timeSlicing: {{{more} resources: [{entry}]}}}}"


CDI_KEY = f"nvidia-device-plugin_{crc32(G1.encode()):08x}"


@dataclass(frozen=True)
class Row:
    """path: the setting, and text: a file that has it. devices: the ids by resource. ask: what a container is given by
    the kubelet, and gets: what the container gets, or the reason why not."""

    path: str
    text: str
    devices: Mapping[str, list[str]] = field(default_factory=lambda: {GPU: [G0, G1]})
    ask: tuple[str, ...] = (G1,)
    gets: Allocation | str = field(default_factory=lambda: visible(G1))
    gpus: tuple = WHOLE
    inert: tuple[str, ...] = ()


def plugin(text: str) -> str:
    return f"flags: {{plugin: {{{text}}}}}"


def without_effect(path: str, text: str) -> Row:
    return Row(path, text, inert=(path,))


DEVICE_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia1")
ROWS = [
    Row("version", "version: v1"),
    Row("flags.migStrategy", "flags: {migStrategy: none}", gpus=SPLIT),
    Row("flags.migStrategy", "flags: {migStrategy: single}", {GPU: [M0, M2]}, (M2,), visible(M2), ALIKE),
    Row("flags.migStrategy", "flags: {migStrategy: mixed}",
        {GPU: [G0], "nvidia.com/mig-1g.10gb": [M0], "nvidia.com/mig-3g.40gb": [M1]}, (M1,), visible(M1), SPLIT),
    Row("flags.failOnInitError", "flags: {failOnInitError: false}"),
    Row("flags.nvidiaDriverRoot", "flags: {nvidiaDriverRoot: /run/driver, plugin: {passDeviceSpecs: true}}",
        gets=replace(visible(G1), device_nodes=nodes(*DEVICE_NODES, root="/run/driver"))),
    Row("flags.nvidiaDevRoot", "flags: {nvidiaDriverRoot: /y, nvidiaDevRoot: /x, plugin: {passDeviceSpecs: true}}",
        gets=replace(visible(G1), device_nodes=nodes(*DEVICE_NODES, root="/x"))),
    Row("flags.gdrcopyEnabled", "flags: {gdrcopyEnabled: true}", gets=visible(G1, NVIDIA_GDRCOPY="enabled")),
    Row("flags.gdsEnabled", "flags: {gdsEnabled: true}", gets=visible(G1, NVIDIA_GDS="enabled")),
    Row("flags.mofedEnabled", "flags: {mofedEnabled: true}", gets=visible(G1, NVIDIA_MOFED="enabled")),
    Row("flags.deviceDiscoveryStrategy", "flags: {deviceDiscoveryStrategy: auto}"),
    Row("flags.deviceDiscoveryStrategy", "flags: {deviceDiscoveryStrategy: nvml}"),
    without_effect("flags.mpsRoot", "flags: {mpsRoot: /mps}"),
    without_effect("flags.useNodeFeatureAPI", "flags: {useNodeFeatureAPI: true}"),
    Row("flags.plugin.passDeviceSpecs", plugin("passDeviceSpecs: true"),
        gets=replace(visible(G1), device_nodes=nodes(*DEVICE_NODES))),
    Row("flags.plugin.passDeviceSpecs", "flags: {migStrategy: single, plugin: {passDeviceSpecs: true}}",
        {GPU: [M0, M2]}, (M0,), replace(visible(M0), device_nodes=nodes(
            "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap31",
            "/dev/nvidia-caps/nvidia-cap32")), ALIKE),
    Row("flags.plugin.deviceListStrategy", plugin("deviceListStrategy: envvar")),
    Row("flags.plugin.deviceListStrategy", plugin("deviceListStrategy: [volume-mounts]"),
        gets=Allocation({"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"},
                        mounts=(Mount(f"/var/run/nvidia-container-devices/{G1}", "/dev/null"),))),
    Row("flags.plugin.deviceListStrategy", plugin("deviceListStrategy: cdi-annotations"),
        gets=Allocation({}, annotations={f"cdi.k8s.io/{CDI_KEY}": f"nvidia.com/gpu={G1}"})),
    Row("flags.plugin.deviceListStrategy", plugin("deviceListStrategy: cdi-cri"),
        gets=Allocation({}, cdi_devices=(f"nvidia.com/gpu={G1}",))),
    Row("flags.plugin.deviceListStrategy", plugin("deviceListStrategy: 'envvar,cdi-cri'"),
        gets=replace(visible(G1), cdi_devices=(f"nvidia.com/gpu={G1}",))),
    Row("flags.plugin.deviceIDStrategy", plugin("deviceIDStrategy: uuid")),
    Row("flags.plugin.deviceIDStrategy", plugin("deviceIDStrategy: index"), gets=visible("1")),
    Row("flags.plugin.deviceIDStrategy", "flags: {migStrategy: single, plugin: {deviceIDStrategy: index}}",
        {GPU: [M0, M2]}, (M2,), visible("0:1"), ALIKE),
    Row("flags.plugin.cdiAnnotationPrefix", plugin("deviceListStrategy: cdi-annotations, cdiAnnotationPrefix: x.io/"),
        gets=Allocation({}, annotations={f"x.io/{CDI_KEY}": f"nvidia.com/gpu={G1}"})),
    without_effect("flags.plugin.nvidiaCTKPath", plugin("nvidiaCTKPath: /x")),
    Row("flags.plugin.containerDriverRoot", plugin("containerDriverRoot: /x")),
    # which devices are taken is below
    Row("flags.plugin.sharedDevicesAllocationPolicy", plugin("sharedDevicesAllocationPolicy: packed")),
    Row("imex.channelIDs", "imex: {channelIDs: [0]}", gets=visible(G1, NVIDIA_IMEX_CHANNELS="0")),
    Row("imex.channelIDs", f"imex: {{channelIDs: [0, 7]}}\n{plugin('passDeviceSpecs: true')}",
        gets=replace(visible(G1, NVIDIA_IMEX_CHANNELS="0"),
                     device_nodes=nodes(*DEVICE_NODES, f"{CHANNELS}/channel0"))),
    Row("imex.required", "imex: {channelIDs: [0, 7], required: true}", gets="IMEX channel 7 is required"),
    # what gpu-feature-discovery has in the same file concerns no device; the labels are below
    without_effect("flags.gfd.oneshot", "flags: {gfd: {oneshot: true}}"),
    without_effect("flags.gfd.outputFile", "flags: {gfd: {outputFile: /x}}"),
    without_effect("flags.gfd.sleepInterval", "flags: {gfd: {sleepInterval: 30s}}"),
    Row("flags.gfd.noTimestamp", "flags: {gfd: {noTimestamp: true}}"),
    Row("flags.gfd.machineTypeFile", "flags: {gfd: {machineTypeFile: /x}}"),
    Row("resources.gpus", "resources: {gpus: [{pattern: '*H100*', name: big}]}", {"nvidia.com/big": [G0, G1]}),
    Row("resources.mig", "flags: {migStrategy: mixed}\nresources: {mig: [{pattern: '1g.*', name: x.io/small}]}",
        {GPU: [G0], "x.io/small": [M0], "nvidia.com/mig-3g.40gb": [M1]}, (M0,), visible(M0), SPLIT),
    Row("sharing.timeSlicing", slicing("{name: gpu, replicas: 2}"), {GPU: sliced(G0, 2) + sliced(G1, 2)},
        (f"{G1}::1", f"{G1}::0"), visible(G1)),
    Row("sharing.timeSlicing", slicing("{name: gpu, replicas: 2}", "renameByDefault: true,"),
        {f"{GPU}.shared": sliced(G0, 2) + sliced(G1, 2)}, (f"{G0}::1",), visible(G0)),
    Row("sharing.timeSlicing", slicing("{name: gpu, replicas: 2}", "failRequestsGreaterThanOne: true,"),
        {GPU: sliced(G0, 2) + sliced(G1, 2)}, (f"{G0}::0", f"{G1}::0"), "2 shared devices requested"),
    Row("sharing.timeSlicing", slicing("{name: gpu, replicas: 2, rename: half, devices: [1]}"),
        {GPU: [G0], "nvidia.com/half": sliced(G1, 2)}, (f"{G1}::0",), visible(G1)),
    Row("sharing.timeSlicing",
        slicing("{name: gpu, replicas: 2, devices: 1}, {name: gpu, replicas: 3, devices: ['1']}"),
        {GPU: sliced(G0, 2) + sliced(G1, 3)}, (f"{G1}::2",), visible(G1)),
    Row("sharing.timeSlicing", slicing("{name: gpu, replicas: 2, devices: all}"), {GPU: sliced(G0, 2) + sliced(G1, 2)},
        (f"{G1}::1",), visible(G1)),
    without_effect("sharing.mps", "sharing: {mps: {renameByDefault: true}}"),
    Row("kubegpu.distinctGpus", f"{slicing('{name: gpu, replicas: 2}')}\nkubegpu: {{distinctGpus: true}}",
        {GPU: sliced(G0, 2) + sliced(G1, 2)}, (f"{G1}::0", f"{G1}::1"), "no container two devices of one GPU"),
    Row("kubegpu.gpus", "kubegpu: {gpus: {include: ['*H100*', 5], exclude: [0]}}", {GPU: [G1]}),
    Row("kubegpu.gpus", f"kubegpu: {{gpus: {{include: [{G1}]}}}}", {GPU: [G1]}),
    Row("kubegpu.cdiKind", f"{plugin('deviceListStrategy: cdi-cri')}\nkubegpu: {{cdiKind: x.io/accelerator}}",
        gets=Allocation({}, cdi_devices=(f"x.io/accelerator={G1}",))),
    # what becomes of a fault is below
    Row("kubegpu.health", "kubegpu: {health: {quietPeriod: 5s}}"),
]  # fmt: skip


def settings(text: str) -> Config:
    return resolve(parse(text.encode()), {}, {})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_the_devices_and_what_a_container_gets(row: Row):
    config = settings(row.text)
    made = layout(row.gpus, config.rules)
    assert {resource.name: [device.id for device in resource.devices] for resource in made.resources} == row.devices
    assert not made.problems
    assert config.inert == row.inert
    resource = next(r for r in made.resources if row.ask[0] in [device.id for device in r.devices])
    devices = {device.id: device for device in resource.devices}

    def ask() -> Allocation:
        return allocate(row.ask, devices, {}, config, PRESENT.__contains__, resource.single_requests)

    if isinstance(row.gets, str):
        with pytest.raises(AllocationError, match=row.gets):
            ask()
    else:
        assert ask() == row.gets


def test_every_path_of_the_file_has_a_row():
    rows = {row.path for row in ROWS}
    paths = {setting.path for setting in SETTINGS if setting.path}
    assert {path for path in paths if not any(f"{path}.".startswith(f"{row}.") for row in rows)} == set()
    assert {row for row in rows if not any(f"{path}.".startswith(f"{row}.") for path in paths)} == set()


def test_which_slices_are_taken():
    entry = slicing("{name: gpu, replicas: 4}")
    for policy, expected in (("distributed", {G0, G1}), ("packed", {G0})):
        config = settings(f"{entry}\n{plugin(f'sharedDevicesAllocationPolicy: {policy}')}")
        devices = layout(WHOLE, config.rules).resources[0].devices
        chosen = Placement(devices, None, config.shared_policy).prefer([device.id for device in devices], (), 2)
        assert {name.partition("::")[0] for name in chosen} == expected


def test_the_labels():
    def made(text: str) -> dict[str, str]:
        config = settings(text)
        stamp = 7 if config.labels_timestamp else None
        node = Node(WHOLE, "550.54.15", (12, 4), Machine(str(config.machine_type_file)), stamp)
        return labels(node, config.rules)

    assert made("")["nvidia.com/gfd.timestamp"] == "7"
    assert "nvidia.com/gfd.timestamp" not in made("flags: {gfd: {noTimestamp: true}}")
    assert made("flags: {gfd: {machineTypeFile: x}}")["nvidia.com/gpu.machine"] == "x"


def test_what_becomes_of_a_fault():
    config = settings(
        "kubegpu: {health: {xids: {79: ignore, 13: fatal}, ignore: [ecc_double_bit], quietPeriod: 5s, longestHold: 1h}}"
    )
    policy = Policy.from_text("", "", dict(config.xid_severities), frozenset(config.faults_ignored),
                              Recovery(config.quiet_seconds, config.longest_hold_seconds))  # fmt: skip
    assert policy.ignores(79)
    assert not policy.ignores(13)
    assert (config.quiet_seconds, config.longest_hold_seconds) == (5.0, 3600.0)
    assert config.faults_ignored == ("ecc_double_bit",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}", "sharing.mps: MPS is not supported"),
        ("flags: {deviceDiscoveryStrategy: tegra}", "deviceDiscoveryStrategy: tegra is not supported"),
        ("flags: {deviceDiscoveryStrategy: vfio}", "deviceDiscoveryStrategy: vfio is not supported"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        settings(text)
