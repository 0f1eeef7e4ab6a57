"""The spelling of addresses, ids and versions that all sources share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import shape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("00000000:3B:00.0", "0000:3b:00.0", id="nvml"),
        pytest.param("0000:3b:00.0", "0000:3b:00.0", id="sysfs"),
        pytest.param("00010000:00:00.0", "10000:00:00.0", id="domain-of-five-digits"),
        pytest.param("3b:00.0", "0000:3b:00.0", id="lspci-without-domain"),
        pytest.param(" 0000:3b:00.0\n", "0000:3b:00.0", id="white-space"),
        pytest.param("0000:3b:00.8", None, id="no-such-function"),
        pytest.param("GPU is lost", None, id="words"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="none"),
    ],
)
def test_bus_id(text, expected):
    assert shape.bus_id(text) == expected


@given(
    domain=st.integers(0, 0xFFFFFFFF), bus=st.integers(0, 255), device=st.integers(0, 31), function=st.integers(0, 7)
)
def test_both_spellings_of_an_address_meet(domain, bus, device, function):
    nvml = f"{domain:08X}:{bus:02X}:{device:02X}.{function}"
    sysfs = f"{domain:04x}:{bus:02x}:{device:02x}.{function}"
    assert shape.bus_id(nvml) == shape.bus_id(sysfs) == sysfs


def test_pci_ids_of_an_h100():
    assert shape.pci_ids(0x233010DE) == ("0x10de", "0x2330")


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_pci_ids_take_the_number_apart(vendor, device):
    assert [int(part, 16) for part in shape.pci_ids(device << 16 | vendor)] == [vendor, device]


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ("3.5", "Kepler"),
        ("5.2", "Maxwell"),
        ("6.1", "Pascal"),
        ("7.0", "Volta"),
        ("7.5", "Turing"),
        ("8.0", "Ampere"),
        ("8.6", "Ampere"),
        ("8.9", "Ada Lovelace"),
        ("9.0", "Hopper"),
        ("10.0", "Blackwell"),
        ("12.0", "Blackwell"),
        ("99.0", None),
        ("", None),
        (None, None),
    ],
)
def test_architecture_of(capability, expected):
    assert shape.architecture_of(capability) == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(12040, "12.4"), (11080, "11.8"), (9010, "9.1"), (0, None), (None, None)]
)
def test_cuda_version(number, expected):
    assert shape.cuda_version(number) == expected


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("0x06d1", "2.0"),  # Tesla C2050, GF100
        ("0x1091", "2.0"),  # Tesla M2090, GF110
        ("0x0DC4", "2.1"),  # GeForce GTS 450, GF106
        ("0x1140", "2.1"),  # GF117M
        ("0x102d", None),  # Tesla K80
        ("0x0fc6", None),  # GeForce GTX 650, GK107
        ("0x2330", None),
        (None, None),
    ],
)
def test_fermi_is_known_by_its_device_id(device, expected):
    assert shape.fermi_capability(device) == expected
    assert shape.architecture_of(expected) == (expected and "Fermi")


def test_processes_are_one_entry_for_each_process_and_instance():
    found = [(7, "C", None, None, None), (7, "MC", 5, None, None), (3, "G", 1, None, None), (3, "C", 1, 2, 0)]
    merged = shape.merge_processes(found)
    assert [(entry["pid"], entry["type"], entry["memory_used_bytes"]) for entry in merged] == [
        (3, "G", 1),
        (3, "C", 1),
        (7, "M+C", 5),
    ]
    assert [(entry["gpu_instance_id"], entry["compute_instance_id"]) for entry in merged] == [
        (None, None),
        (2, 0),
        (None, None),
    ]


def test_an_empty_gpu_is_a_new_one_each_time():
    shape.empty_gpu()["mig"]["instances"].append("left over")
    assert shape.empty_gpu()["mig"]["instances"] == []
