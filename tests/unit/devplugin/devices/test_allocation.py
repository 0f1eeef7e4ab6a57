from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.config.settings import Config
from nvidia_devplugin.devices.allocation import (
    CONTROL_NODES,
    REQUIRED_NODES,
    AllocationError,
    UnhealthyDeviceError,
    UnknownDeviceError,
    allocate,
)
from nvidia_devplugin.devices.resources import GPU_RESOURCE, remembered, resources
from nvidia_devplugin.model import Fault
from tests.unit.devplugin.strategies import gpu, gpus, some_gpus

FAULT = Fault("xid_79", "XID 79: GPU has fallen off the bus")


def by_id(some):
    (resource,) = resources(some)
    return {device.id: device for device in resource.devices}


@given(gpus)
def test_every_gpu_is_one_device_in_the_order_of_indices(some):
    (resource,) = resources(tuple(reversed(some)))
    assert resource.name == GPU_RESOURCE
    assert [device.gpu for device in resource.devices] == list(some)
    assert all(len(device.id) <= 63 for device in resource.devices)


@given(some_gpus, some_gpus)
def test_no_gpu_is_forgotten(known, seen):
    union = remembered(known, seen)
    assert {gpu.uuid for gpu in union} == {gpu.uuid for gpu in (*known, *seen)}
    assert len(union) == len({gpu.uuid for gpu in union})


@given(gpus, st.data())
def test_the_environment_names_the_gpus_asked_for(some, data):
    devices = by_id(some)
    ids = data.draw(st.lists(st.sampled_from(list(devices)), unique=True)) if devices else []
    by_uuid = allocate(ids, devices, {}, Config(), lambda _: True)
    assert by_uuid.envs == {"NVIDIA_VISIBLE_DEVICES": ",".join(ids)}
    assert by_uuid.device_nodes == ()
    by_index = allocate(ids, devices, {}, Config(device_id_strategy="index"), lambda _: True)
    assert by_index.envs == {"NVIDIA_VISIBLE_DEVICES": ",".join(str(devices[id].gpu.index) for id in ids)}


@given(gpus, st.data(), st.sets(st.sampled_from(CONTROL_NODES)))
def test_device_nodes_are_those_of_the_gpus_and_what_exists(some, data, existing):
    devices = by_id(some)
    ids = data.draw(st.lists(st.sampled_from(list(devices)), unique=True)) if devices else []
    if not existing >= set(REQUIRED_NODES):
        with pytest.raises(AllocationError, match=r"the plugin's container has no /dev/nvidia"):
            allocate(ids, devices, {}, Config(pass_device_specs=True), existing.__contains__)
        return
    got = allocate(ids, devices, {}, Config(pass_device_specs=True), existing.__contains__)
    paths = [node.container_path for node in got.device_nodes]
    assert set(paths) == existing | {f"/dev/nvidia{devices[id].gpu.minor}" for id in ids}
    assert len(paths) == len(set(paths))
    assert all(node.host_path == node.container_path and node.permissions == "rw" for node in got.device_nodes)


def test_host_paths_lie_below_the_device_root():
    config = Config(pass_device_specs=True, dev_root="/run/nvidia/driver")
    got = allocate([gpu(3).uuid], by_id((gpu(3),)), {}, config, REQUIRED_NODES.__contains__)
    node = got.device_nodes[-1]
    assert (node.container_path, node.host_path) == ("/dev/nvidia3", "/run/nvidia/driver/dev/nvidia3")


def test_what_has_no_device_node_of_its_own_gets_that_of_wsl2_or_is_refused():
    some = (replace(gpu(0), minor=None),)
    config = Config(pass_device_specs=True)
    got = allocate([some[0].uuid], by_id(some), {}, config, ["/dev/dxg"].__contains__)
    assert [node.container_path for node in got.device_nodes] == ["/dev/dxg"]
    with pytest.raises(AllocationError, match="no minor number of GPU 0"):
        allocate([some[0].uuid], by_id(some), {}, config, REQUIRED_NODES.__contains__)
    assert allocate([some[0].uuid], by_id(some), {}, Config(), REQUIRED_NODES.__contains__).device_nodes == ()


def test_an_unknown_device_is_refused_by_name():
    with pytest.raises(UnknownDeviceError, match="unknown device GPU-x, GPU-y: not among the 1 devices"):
        allocate(["GPU-x", gpu(0).uuid, "GPU-y"], by_id((gpu(0),)), {}, Config(), lambda _: True)


def test_an_unhealthy_device_is_refused_with_its_reason():
    devices = by_id((gpu(0), gpu(1)))
    with pytest.raises(
        UnhealthyDeviceError, match=r"^device GPU-00000001 \(GPU 1\) is unhealthy: XID 79: GPU has fallen off the bus$"
    ):
        allocate([gpu(0).uuid, gpu(1).uuid], devices, {gpu(1).uuid: FAULT}, Config(), lambda _: True)
    allocate([gpu(0).uuid], devices, {gpu(1).uuid: FAULT}, Config(), lambda _: True)
