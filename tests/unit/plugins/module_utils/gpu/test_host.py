"""What the kernel says, read from recorded trees of /proc and /sys."""

from pathlib import Path

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import host

PROPRIETARY = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (builder@host)  Sun Jul 27 2025
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def pci_device(root: Path, address: str, *, driver: str | None = None, **fields: str) -> None:
    folder = f"sys/bus/pci/devices/{address}"
    for name, value in fields.items():
        write(root, f"{folder}/{'class' if name == 'class_' else name}", value + "\n")
    if driver:
        (root / folder / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")


H100 = {
    "vendor": "0x10de",
    "device": "0x2330",
    "class_": "0x030200",
    "subsystem_vendor": "0x10de",
    "subsystem_device": "0x16c1",
    "numa_node": "1",
}


def test_devices_on_pci(tmp_path):
    pci_device(tmp_path, "0000:9b:00.0", driver="nvidia", **H100)
    pci_device(tmp_path, "0000:19:00.0", driver="vfio-pci", **{**H100, "numa_node": "-1"})
    pci_device(tmp_path, "0000:07:00.0", vendor="0x10de", device="0x22a3", class_="0x068000")
    pci_device(tmp_path, "0000:01:00.1", vendor="0x10de", device="0x22ba", class_="0x040300")  # a card's sound
    pci_device(tmp_path, "0000:00:02.0", vendor="0x8086", device="0x3e92", class_="0x030000")  # Intel's graphics
    pci_device(tmp_path, "0000:01:00.0", vendor="0x10de", device="0x1b80", class_="0x030000")  # VGA
    found = host.devices_on_pci(str(tmp_path))
    assert [(device["bus_id"], device["kind"], device["driver"], device["numa_node"]) for device in found] == [
        ("0000:01:00.0", "gpu", None, None),
        ("0000:07:00.0", "nvswitch", None, None),
        ("0000:19:00.0", "gpu", "vfio-pci", None),
        ("0000:9b:00.0", "gpu", "nvidia", 1),
    ]
    assert found[3] == {
        "bus_id": "0000:9b:00.0",
        "vendor_id": "0x10de",
        "device_id": "0x2330",
        "subsystem_vendor_id": "0x10de",
        "subsystem_device_id": "0x16c1",
        "class": "0x030200",
        "kind": "gpu",
        "driver": "nvidia",
        "numa_node": 1,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(PROPRIETARY, {"version": "550.54.15", "flavor": "proprietary"}, id="proprietary"),
        pytest.param(OPEN, {"version": "580.65.06", "flavor": "open"}, id="open"),
        pytest.param("NVRM version: something else\n", {"version": None, "flavor": None}, id="unknown-text"),
    ],
)
def test_kernel_module(tmp_path, text, expected):
    write(tmp_path, "proc/driver/nvidia/version", text)
    assert host.kernel_module(str(tmp_path)) == expected


def test_kernel_module_of_sysfs_where_proc_has_none(tmp_path):
    write(tmp_path, "sys/module/nvidia/version", "470.223.02\n")
    assert host.kernel_module(str(tmp_path)) == {"version": "470.223.02", "flavor": None}


def test_proc_gpus(tmp_path):
    write(
        tmp_path,
        "proc/driver/nvidia/gpus/0000:9b:00.0/information",
        "Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t GPU-44ef75fb-52f8-512e-901f-0523b03c6b5f\n"
        "Video BIOS: \t 96.00.89.00.01\nBus Location: \t 0000:9b:00.0\nDevice Minor: \t 3\n",
    )
    write(
        tmp_path,
        "proc/driver/nvidia/gpus/0000:19:00.0/information",
        "Model: \t\t Unknown\nGPU UUID: \t GPU-????????-????-????-????-????????????\n"
        "Video BIOS: \t ??.??.??.??.??\nBus Location: \t 0000:19:00.0\nDevice Minor: \t 0\n",
    )
    assert host.proc_gpus(str(tmp_path)) == [
        {"bus_id": "0000:19:00.0", "name": None, "uuid": None, "vbios_version": None, "minor_number": 0},
        {
            "bus_id": "0000:9b:00.0",
            "name": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-44ef75fb-52f8-512e-901f-0523b03c6b5f",
            "vbios_version": "96.00.89.00.01",
            "minor_number": 3,
        },
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(["cgroup.controllers"], 2, id="unified"),
        pytest.param(["devices/devices.list"], 1, id="legacy"),
        pytest.param(["devices/devices.list", "unified/cgroup.controllers"], 1, id="hybrid"),
        pytest.param([], None, id="none"),
    ],
)
def test_cgroup_version(tmp_path, files, expected):
    for file in files:
        write(tmp_path, f"sys/fs/cgroup/{file}", "")
    assert host.cgroup_version(str(tmp_path)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"\x06\x00\x00\x00\x01", True, id="on"),
        pytest.param(b"\x06\x00\x00\x00\x00", False, id="off"),
        pytest.param(b"\x06\x00", None, id="cut-short"),
        pytest.param(None, None, id="no-uefi"),
    ],
)
def test_secure_boot(tmp_path, content, expected):
    if content is not None:
        variable = tmp_path / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
        variable.parent.mkdir(parents=True)
        variable.write_bytes(content)
    assert host.secure_boot(str(tmp_path)) is expected


def test_library_behind_debians_alternatives(tmp_path):
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    (libraries / "nvidia/current").mkdir(parents=True)
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (libraries / "nvidia/current/libnvidia-ml.so.535.183.01").write_bytes(b"")
    (libraries / "nvidia/current/libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.535.183.01")
    (tmp_path / "etc/alternatives/ml").symlink_to("/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1")
    (libraries / "libnvidia-ml.so.1").symlink_to("/etc/alternatives/ml")
    assert host.library(str(tmp_path)) == {
        "path": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
        "version": "535.183.01",
    }


def test_library_without_version_in_its_name(tmp_path):
    write(tmp_path, "usr/lib64/libnvidia-ml.so.1", "")
    assert host.library(str(tmp_path)) == {"path": "/usr/lib64/libnvidia-ml.so.1", "version": None}


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "usr/lib64").mkdir(parents=True)
    (tmp_path / "usr/lib64/libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.2")
    (tmp_path / "usr/lib64/libnvidia-ml.so.2").symlink_to("libnvidia-ml.so.1")
    assert host.library(str(tmp_path))["version"] is None


def test_a_machine_without_anything(tmp_path):
    assert host.read(str(tmp_path), machine="aarch64") == {
        "devices_on_pci": [],
        "kernel_module": {"version": None, "flavor": None},
        "module_loaded": False,
        "nouveau_loaded": False,
        "kernel": {"release": None, "machine": "aarch64"},
        "cgroup_version": None,
        "secure_boot": None,
        "library": {"path": None, "version": None},
        "control_node": False,
        "proc_gpus": [],
        "device_nodes": {"control": False, "uvm": False, "minors": []},
    }


def test_nouveau_module_and_kernel_release(tmp_path):
    write(tmp_path, "sys/module/nouveau/refcnt", "1\n")
    write(tmp_path, "proc/sys/kernel/osrelease", "6.1.0-18-amd64\n")
    facts = host.read(str(tmp_path), machine="x86_64")
    assert (facts["nouveau_loaded"], facts["kernel"]["release"]) == (True, "6.1.0-18-amd64")
