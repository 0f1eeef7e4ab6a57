"""The nvidia-smi stand-in: what it prints, and how it fails."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.unit.sim.conftest import Machine


def test_list_with_mig(machine: Machine) -> None:
    machine.init("--count", 2, "--mig", "1:1g.10gb")
    lines = machine.smi("-L").stdout.splitlines()
    assert lines[0].startswith("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-")
    assert lines[2].startswith("  MIG 1g.10gb     Device  0: (UUID: MIG-")


def test_xml(machine: Machine) -> None:
    machine.init("--model", "H100", "--count", 2, "--mig", "1:3g.40gb", "--driver", "550.54.15")
    with machine.state.open("a") as state:
        state.write("process = pid=1 type=C memory_mib=512 gi=1 ci=0\n")  # of the last GPU
    root = ElementTree.fromstring(machine.smi("-q", "-x").stdout)  # noqa: S314 - our own output
    assert root.tag == "nvidia_smi_log"
    assert (root.findtext("driver_version"), root.findtext("cuda_version")) == ("550.54.15", "12.4")
    assert root.findtext("attached_gpus") == "2"
    first, second = root.findall("gpu")
    expected = {
        "product_name": "NVIDIA H100 80GB HBM3", "product_brand": "NVIDIA", "product_architecture": "Hopper",
        "minor_number": "0", "persistence_mode": "Enabled", "mig_mode/current_mig": "Disabled",
        "fb_memory_usage/total": "81559 MiB", "pci/pci_bus_id": "00000000:1B:00.0", "pci/pci_device_id": "233010DE",
        "pci/pci_gpu_link_info/link_widths/max_link_width": "16x", "fan_speed": "N/A", "compute_mode": "Default",
        "ecc_mode/current_ecc": "Enabled", "gpu_power_readings/max_power_limit": "700.00 W",
        "temperature/gpu_temp": "31 C", "max_clocks/sm_clock": "1980 MHz",
        "remapped_rows/remapped_row_failure": "No", "retired_pages/pending_retirement": "N/A",
    }  # fmt: skip
    assert {path: first.findtext(path) for path in expected} == expected
    assert first.get("id") == "00000000:1B:00.0"
    device = second.find("mig_devices/mig_device")
    assert device is not None
    assert (device.findtext("gpu_instance_id"), device.findtext("fb_memory_usage/total")) == ("1", "40448 MiB")
    assert second.findtext("processes/process_info/used_memory") == "512 MiB"
    assert second.findtext("utilization/gpu_util") == "N/A"


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ("csv", "name, memory.total [MiB], fan.speed [%]\nTesla T4, 15360 MiB, [N/A]\n"),
        ("csv,noheader", "Tesla T4, 15360 MiB, [N/A]\n"),
        ("csv,noheader,nounits", "Tesla T4, 15360, [N/A]\n"),
    ],
)
def test_query_gpu(machine: Machine, format_: str, expected: str) -> None:
    machine.init("--model", "T4")
    assert machine.smi("--query-gpu=name,memory.total,fan.speed", f"--format={format_}").stdout == expected


def test_table_and_text_report(machine: Machine) -> None:
    machine.init("--model", "T4", "--driver", "535.183.01")
    table, report = machine.smi().stdout, machine.smi("-q").stdout
    assert "Driver Version: 535.183.01" in table
    assert "|   0  Tesla T4" in table
    assert {len(line) for line in table.splitlines() if line.startswith(("|", "+"))} == {91}
    assert "    Product Name                              : Tesla T4" in report


@pytest.mark.parametrize(
    ("happens", "arguments", "status", "message"),
    [
        pytest.param(["unload"], [], 9, "couldn't communicate with the NVIDIA driver", id="unloaded"),
        pytest.param(["library-mismatch", "550.90.07"], [], 18,
                     "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.90.07",
                     id="mismatch"),
        pytest.param(["lose", 0], ["-L"], 15, "Unable to determine the device handle for GPU0: GPU is lost", id="lost"),
        pytest.param(["show"], ["--query-gpu=nope", "--format=csv"], 2, 'Field "nope" is not a valid', id="field"),
        pytest.param(["show"], ["--nope"], 2, "Invalid combination", id="option"),
        pytest.param(["init", "--count", 0, "--device-nodes", "off"], [], 6, "No devices were found", id="none"),
    ],
)  # fmt: skip
def test_failures(machine: Machine, happens: list[object], arguments: list[str], status: int, message: str) -> None:
    machine.init("--driver", "550.54.15")
    machine.sim(*happens)
    done = machine.smi(*arguments)
    assert (done.returncode, message in done.stdout) == (status, True), done.stdout


def test_no_library(machine: Machine) -> None:
    machine.init()
    copy = machine.directory / "nvidia-smi"
    copy.write_bytes((machine.library / "nvidia-smi").read_bytes())
    copy.chmod(0o755)
    done = Machine(machine.directory, machine.directory).smi()  # a directory without the library
    assert done.returncode == 12
    assert "couldn't find libnvidia-ml.so library" in done.stdout


def test_nvlink_states_and_ends(machine: Machine) -> None:
    machine.init("--model", "V100", "--count", 4)
    states = machine.smi("nvlink", "-s").stdout.splitlines()
    assert states[0].startswith("GPU 0: Tesla V100-SXM2-16GB (UUID: GPU-")
    assert states[1:7] == [f"\t Link {link}: 25.781 GB/s" for link in range(6)]
    ends = machine.smi("nvlink", "-p").stdout.splitlines()
    assert ends[1:4] == ["\t Link 0: 00000000:43:00.0", "\t Link 1: 00000000:43:00.0", "\t Link 2: 00000000:52:00.0"]


def test_links_that_are_down_or_not_there(machine: Machine) -> None:
    machine.init("--model", "H100-PCIe")
    assert machine.smi("nvlink", "-s").stdout.splitlines()[1] == "\t Link 0: <inactive>"
    assert machine.smi("nvlink", "-p").stdout.count("\n") == 1
    machine.init("--model", "T4")
    assert "Device does not have or support Nvlink" in machine.smi("nvlink", "-s").stdout


def test_topology_matrix(machine: Machine) -> None:
    machine.init("--model", "H100-PCIe", "--count", 4)
    rows = [line.split("\t") for line in machine.smi("topo", "-m").stdout.splitlines()]
    assert [cell.replace("\x1b[4m", "") for cell in rows[0][1:5]] == ["GPU0", "GPU1", "GPU2", "GPU3"]
    assert rows[1][:5] == ["GPU0", " X ", "NV12", "SYS", "SYS"]
    assert rows[4][:5] == ["GPU3", "SYS", "SYS", "NV12", " X "]


def test_recovery_action_and_fabric_in_the_xml(machine: Machine) -> None:
    machine.init()
    machine.sim("set", 0, "recovery_action", 1)
    machine.sim("set", 0, "fabric", "state=completed clique=2 cluster=000102030405060708090a0b0c0d0e0f")
    root = ElementTree.fromstring(machine.smi("-q", "-x").stdout)  # noqa: S314 - our own output
    expected = {
        "gpu/gpu_recovery_action": "Reset", "gpu/fabric/state": "Completed", "gpu/fabric/status": "Success",
        "gpu/fabric/cliqueId": "2", "gpu/fabric/clusterUuid": "00010203-0405-0607-0809-0a0b0c0d0e0f",
    }  # fmt: skip
    assert {path: root.findtext(path) for path in expected} == expected


def test_some_gpus_by_index_address_and_uuid(machine: Machine) -> None:
    machine.init("--count", 4)
    machine.sim("lose", 1)
    assert machine.smi("-q", "-x").returncode == 15
    uuid = machine.smi("-L", "-i", "3").stdout.partition("UUID: ")[2].rstrip(")\n")
    table = machine.smi("--query-gpu=index", "--format=csv,noheader", "-i", f"0,0000:52:00.0,{uuid}")
    assert (table.returncode, table.stdout) == (0, "0\n2\n3\n")
    assert machine.smi("nvlink", "-s", "-i", "2").stdout.count("\t Link ") == 18
    assert machine.smi("-L", "-i", "1").returncode == 15
