"""What is read beside the driver: DMI, sysfs, and the PCI configuration of a vGPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.labels.feature_labels import Machine
from nvidia_devplugin.labels.host_info import read, vgpu_host

BUS = "00000000:1B:00.0"


def configuration(*capabilities: bytes) -> bytes:
    """256 bytes of PCI configuration with these capabilities from 0x40 on, chained."""
    data = bytearray(256)
    data[0x06] = 0x10
    at, link = 0x40, 0x34
    for capability in capabilities:
        data[link], link = at, at + 1
        data[at : at + len(capability)] = capability
        at += len(capability)
    return bytes(data)


def vendor_specific(*records: bytes) -> bytes:
    body = b"VF" + b"".join(records)
    return bytes([0x09, 0, 3 + len(body)]) + body


HOST = b"\x00\x16" + b"525.60.12\0" + b"r525_00\0\0\0"
POWER = bytes([0x01, 0, 3, 0, 0, 0, 0, 0])
VGPU = configuration(POWER, vendor_specific(b"\x01\x04ab", HOST))


def test_a_vgpu_names_its_host():
    assert vgpu_host(VGPU) == ("525.60.12", "r525_00")


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(VGPU[:64], id="no-right-to-read-it-all"),
        pytest.param(bytes(256), id="no-capabilities"),
        pytest.param(configuration(POWER), id="no-vgpu"),
        pytest.param(configuration(bytes([0x09, 0, 8]) + b"xxHello"), id="another-vendors"),
        pytest.param(configuration(vendor_specific(b"\x01\x00ab", HOST)), id="record-without-length"),
        pytest.param(configuration(vendor_specific(HOST[:9])), id="cut-off"),
        pytest.param(configuration(bytes([0x01, 0x40, 0])), id="chain-in-a-circle"),
    ],
)
def test_anything_else_names_none(config):
    assert vgpu_host(config) is None


@given(st.binary(min_size=256, max_size=256))
def test_garbage_is_read_to_its_end(config):
    host = vgpu_host(config)
    assert host is None or len(host) == 2


def test_dmi_and_pci_are_read(tmp_path):
    device = tmp_path / "0000:1b:00.0"
    device.mkdir()
    (device / "class").write_text("0x030200\n")
    (device / "config").write_bytes(VGPU)
    product = tmp_path / "product_name"
    product.write_text("PowerEdge R750\n")
    assert read(product, [BUS], tmp_path) == Machine("PowerEdge R750", 0x030200, ("525.60.12", "r525_00"))


def test_a_machine_without_any_of_it(tmp_path):
    assert read(tmp_path / "none", [BUS], tmp_path) == Machine()
    assert read(None, [], tmp_path) == Machine()
