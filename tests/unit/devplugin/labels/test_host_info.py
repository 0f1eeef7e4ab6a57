"""Facts that are read beside the driver: DMI, PCI classes, and the PCI configuration of vGPUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.labels.feature_labels import Machine
from nvidia_devplugin.labels.host_info import host_driver, read, vgpu_capability

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
PASS_THROUGH = configuration(POWER)


def host(config: bytes) -> tuple[str, str] | None:
    capability = vgpu_capability(config)
    return None if capability is None else host_driver(capability)


def test_a_vgpu_names_the_driver_of_its_host():
    assert host(VGPU) == ("525.60.12", "r525_00")


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(bytes(256), id="no-capabilities"),
        pytest.param(PASS_THROUGH, id="no-vgpu"),
        pytest.param(configuration(bytes([0x09, 0, 8]) + b"xxHello"), id="another-vendors"),
        pytest.param(configuration(bytes([0x01, 0x40, 0])), id="chain-in-a-circle"),
    ],
)
def test_any_other_device_is_no_vgpu(config):
    assert vgpu_capability(config) is None


@pytest.mark.parametrize(
    "capability",
    [
        pytest.param(vendor_specific(b"\x01\x00ab", HOST), id="record-without-length"),
        pytest.param(vendor_specific(HOST[:9]), id="cut-off"),
    ],
)
def test_a_vgpu_whose_record_cannot_be_read_names_no_driver(capability):
    assert vgpu_capability(configuration(capability)) is not None
    assert host_driver(capability) is None


@given(st.binary(min_size=256, max_size=256))
def test_garbage_is_read_to_its_end(config):
    found = host(config)
    assert found is None or len(found) == 2


@pytest.fixture
def pci(tmp_path):
    """pci(address, config, vendor): a device in a sysfs of its own, whose directory is returned."""

    def add(address: str, config: bytes, vendor: str = "0x10de"):
        device = tmp_path / "devices" / address
        device.mkdir(parents=True)
        (device / "class").write_text("0x030200\n")
        (device / "vendor").write_text(vendor + "\n")
        (device / "config").write_bytes(config)
        return device.parent

    return add


def test_dmi_and_pci_are_read(pci, tmp_path):
    pci("0000:00:00.0", b"", "0x8086")
    pci("0000:1c:00.0", PASS_THROUGH)
    devices = pci("0000:1b:00.0", VGPU)
    product = tmp_path / "product_name"
    product.write_text("PowerEdge R750")
    found = read(product, [BUS, "00000000:FF:00.0"], devices)
    assert found == Machine("PowerEdge R750", {BUS: 0x030200}, True, ("525.60.12", "r525_00"))


def test_bare_metal_has_no_vgpu(pci):
    assert read(None, [BUS], pci("0000:1b:00.0", PASS_THROUGH)) == Machine(None, {BUS: 0x030200}, False)
    assert read(None, [], pci("0000:00:00.0", b"", "0x8086")).vgpu is False


def test_without_the_right_to_read_it_all_nothing_is_said_of_vgpus(pci, caplog):
    caplog.set_level("INFO")
    devices = pci("0000:1b:00.0", VGPU[:64])
    assert read(None, [BUS], devices) == Machine(None, {BUS: 0x030200}, None)
    assert "CAP_SYS_ADMIN" in str(caplog.records[0].fields["error"])


def test_a_machine_without_any_of_it(tmp_path):
    assert read(tmp_path / "none", [BUS], tmp_path / "none") == Machine()
    assert read(None, [], tmp_path / "none") == Machine()
