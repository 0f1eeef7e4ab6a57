"""The same machine gives the same facts, whether NVML or nvidia-smi describes it."""

import pytest

from tests.unit.plugins.module_utils.gpu.simulated import SimulatedMachine

MACHINES = [
    pytest.param(["--model", "T4", "--driver", "470.223.02"], 1, "7.5", "Turing", id="t4"),
    pytest.param(["--model", "V100", "--count", "4", "--driver", "535.183.01"], 4, "7.0", "Volta", id="v100-4"),
    pytest.param(["--model", "A100-40", "--mig", "1g.5gb,2g.10gb,3g.20gb"], 1, "8.0", "Ampere", id="a100-mig"),
    pytest.param(
        ["--model", "H100", "--count", "2", "--mig", "1:1g.10gb,1g.20gb"], 2, "9.0", "Hopper", id="h100-one-with-mig"
    ),
    pytest.param(["--model", "H200", "--count", "8", "--flavor", "open"], 8, "9.0", "Hopper", id="h200-8"),
    pytest.param(["--model", "B200", "--driver", "570.86.15"], 1, "10.0", "Blackwell", id="b200"),
    pytest.param(["--model", "L40S", "--count", "2"], 2, "8.9", "Ada Lovelace", id="l40s"),
    pytest.param(["--model", "RTX-4090"], 1, "8.9", "Ada Lovelace", id="geforce"),
    pytest.param(["--model", "A30", "--count", "5"], 5, "8.0", "Ampere", id="a30-with-bridges"),
    pytest.param(["--model", "A100-80", "--count", "4"], 4, "8.0", "Ampere", id="a100-mesh"),
    pytest.param(["--model", "H100", "--count", "16"], 16, "9.0", "Hopper", id="h100-16"),
    pytest.param(["--model", "H100", "--driver", "580.159.04"], 1, "9.0", "Hopper", id="h100-580"),
    pytest.param(["--model", "H100", "--driver", "535.129.03"], 1, "9.0", "Hopper", id="h100-535"),
]


def as_nvidia_smi_tells(facts):
    """From Ada on it leaves out how hot the memory may get, if the driver is one that tells distances."""
    for gpu in facts["gpus"]:
        if facts["driver_version"] > "550" and gpu["architecture"] in ("Ada Lovelace", "Hopper", "Blackwell"):
            assert gpu["temperature"]["memory_max_celsius"] in (95, None)  # GeForce boards have none
            gpu["temperature"]["memory_max_celsius"] = None
    return facts


@pytest.mark.parametrize(("init", "count", "capability", "architecture"), MACHINES)
def test_both_sources_give_equal_facts(tmp_path, init, count, capability, architecture):
    machine = SimulatedMachine(tmp_path, *init)
    nvml, smi = machine.facts("nvml"), machine.facts("nvidia-smi")
    assert (nvml.pop("source"), smi.pop("source")) == ("nvml", "nvidia-smi")
    as_nvidia_smi_tells(nvml)
    assert nvml == smi
    assert (nvml["count"], nvml["problem"], nvml["driver_loaded"]) == (count, None, True)
    assert [gpu["index"] for gpu in nvml["gpus"]] == list(range(count))
    for gpu in nvml["gpus"]:
        assert (gpu["compute_capability"], gpu["architecture"]) == (capability, architecture)
        assert gpu["uuid"].startswith("GPU-")
        assert gpu["memory_total_bytes"] > 8 * 2**30
        assert gpu["power"]["limit_watts"] > 0
    assert [gpu["pci"]["bus_id"] for gpu in nvml["gpus"]] == [
        device["bus_id"] for device in nvml["devices_on_pci"] if device["kind"] == "gpu"
    ]


@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_mig_instances(tmp_path, source):
    machine = SimulatedMachine(tmp_path, "--model", "A100-40", "--mig", "1g.5gb,3g.20gb")
    (gpu,) = machine.facts(source)["gpus"]
    assert (gpu["mig"]["capable"], gpu["mig"]["mode"], gpu["mig"]["pending_mode"]) == (True, "enabled", "enabled")
    instances = gpu["mig"]["instances"]
    assert sorted(instance["profile"] for instance in instances) == ["1g.5gb", "3g.20gb"]
    assert len({instance["uuid"] for instance in instances}) == 2
    assert all(instance["uuid"].startswith("MIG-") and instance["memory_total_bytes"] > 4e9 for instance in instances)


def test_a_lost_gpu_among_others(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "H100", "--count", "4")
    whole = machine.facts("nvml")["gpus"]
    machine.sim("lose", "2")
    facts = machine.facts("nvml")
    assert (facts["count"], facts["problem"]["code"]) == (4, "gpu_lost")
    assert [gpu["lost"] for gpu in facts["gpus"]] == [False, False, True, False]
    assert "GPU 2 at " + whole[2]["pci"]["bus_id"] in facts["problem"]["message"]
    for index in (0, 1, 3):
        assert facts["gpus"][index] == whole[index]


def test_a_lost_gpu_that_nvidia_smi_stumbles_over(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "H100", "--count", "4")
    machine.sim("lose", "2")
    facts = machine.facts("nvidia-smi")
    assert (facts["count"], facts["problem"]["code"]) == (4, "gpu_lost")
    assert [gpu["pci"]["bus_id"] for gpu in facts["gpus"]] == [device["bus_id"] for device in facts["devices_on_pci"]]
    # nvidia-smi stops at the lost one, and describes the others when asked for them by name.
    through_nvml = as_nvidia_smi_tells(machine.facts("nvml"))["gpus"]
    assert [facts["gpus"][index] for index in (0, 1, 3)] == [through_nvml[index] for index in (0, 1, 3)]
    assert facts["gpus"][2]["health"]["state"] == "unhealthy"


@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_a_driver_that_is_unloaded(tmp_path, source):
    machine = SimulatedMachine(tmp_path, "--model", "L40S", "--count", "2")
    machine.sim("unload")
    (machine.root / "proc/driver/nvidia/version").unlink()
    facts = machine.facts(source)
    assert (facts["present"], facts["driver_loaded"], facts["source"]) == (True, False, "sysfs")
    assert facts["problem"]["code"] == "driver_not_loaded"
    assert [device["device_id"] for device in facts["devices_on_pci"]] == ["0x26b9"] * 2


@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_a_module_that_is_loaded_without_device_nodes(tmp_path, source):
    machine = SimulatedMachine(tmp_path, "--model", "L40S")
    machine.sim("unload")
    (machine.root / "dev/nvidiactl").unlink()
    assert machine.facts(source)["problem"]["code"] == "device_nodes_missing"


@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_a_library_that_is_newer_than_the_module(tmp_path, source):
    machine = SimulatedMachine(tmp_path, "--model", "T4", "--driver", "550.54.15")
    machine.sim("library-mismatch")
    facts = machine.facts(source)
    assert (facts["problem"]["code"], facts["reboot_required"]) == ("version_mismatch", True)
    assert (facts["driver_loaded"], facts["driver_version"]) == (True, "550.54.15")
    # The kernel module alone still describes the GPU.
    assert (facts["source"], facts["gpus"][0]["name"]) == ("sysfs", "Tesla T4")


@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_a_library_that_is_missing(tmp_path, source):
    machine = SimulatedMachine(tmp_path, "--model", "T4")
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.symlink_to(machine.environment["LD_LIBRARY_PATH"] + "/nvidia-smi")
    machine.environment["PATH"] = f"{program.parent}:{machine.environment['PATH']}"
    machine.environment["LD_LIBRARY_PATH"] = str(tmp_path)
    facts = machine.facts(source)
    assert facts["problem"]["code"] == "library_missing"
    assert facts["reboot_required"] is False


def test_nvidia_smi_is_asked_when_the_binding_is_missing(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "L40S")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/pynvml.py").write_text("raise ImportError('hidden by the test')\n")
    machine.environment["PYTHONPATH"] = f"{tmp_path / 'hidden'}:{machine.environment['PYTHONPATH']}"
    facts = machine.facts("nvml", "nvidia-smi")
    assert (facts["source"], facts["count"], facts["problem"]) == ("nvidia-smi", 1, None)


def test_the_kernel_alone(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "H100", "--count", "2", "--flavor", "open")
    told, alone = machine.facts("nvml"), machine.facts()
    assert (alone["source"], alone["count"]) == ("sysfs", 2)
    assert alone["kernel_module"] == {"version": told["driver_version"], "flavor": "open"}
    for one, other in zip(alone["gpus"], told["gpus"], strict=True):
        for field in ("index", "minor_number", "uuid", "name", "vbios_version"):
            assert one[field] == other[field]
        for field in ("bus_id", "vendor_id", "device_id", "numa_node"):
            assert one["pci"][field] == other["pci"][field]


TROUBLE = {
    "recovery_action": "4",
    "fabric": "state=in-progress clique=0",
    "clocks_event_reasons": "73",
    "temperature": "91",
    "remapped_rows_pending": "yes",
    "pcie_width_current": "8",
}


def test_both_sources_see_the_same_trouble(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "H100", "--count", "2", "--nvswitches", "4")
    for key, value in TROUBLE.items():
        machine.sim("set", "1", key, value)
    text = machine.state.read_text().replace("id=3 remote=switch state=on", "id=3 remote=switch state=off")
    machine.state.write_text(text + "process = pid=41 type=C memory_mib=7\nprocess = pid=41 type=G memory_mib=7\n")
    nvml, smi = machine.facts("nvml"), machine.facts("nvidia-smi")
    assert (nvml.pop("source"), smi.pop("source")) == ("nvml", "nvidia-smi")
    as_nvidia_smi_tells(nvml)
    assert nvml == smi
    gpu = nvml["gpus"][1]
    assert gpu["health"]["state"] == "unhealthy"
    assert {reason["code"] for reason in gpu["health"]["reasons"]} == {
        "recovery_needed",
        "row_remap_pending",
        "nvlink_down",
        "fabric_not_ready",
        "pcie_link_narrow",
        "hardware_slowdown",
        "too_hot",
    }
    assert [(process["pid"], process["type"]) for process in gpu["processes"]] == [(41, "C+G")]
    assert nvml["fabric_manager"]["needed"] is True
    assert nvml["fabric_manager"]["fabric_state"] == "in_progress"
    assert nvml["topology"] == [{"gpus": [0, 1], "connection": "NV17", "nvlinks": 17}]


def test_a_complete_fabric(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "B200", "--driver", "570.86.15")
    machine.sim("set", "0", "fabric", "state=completed clique=7 cluster=00112233445566778899aabbccddeeff")
    expected = {"state": "completed", "clique_id": 7, "cluster_uuid": "00112233-4455-6677-8899-aabbccddeeff"}
    assert [machine.facts(source)["gpus"][0]["fabric"] for source in ("nvml", "nvidia-smi")] == [expected] * 2


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (["--model", "T4", "--count", "4", "--numa", "2"], ["PIX", "SYS", "SYS", "SYS", "SYS", "PIX"]),
        (["--model", "V100", "--count", "4"], ["NV2"] * 6),
        (["--model", "H100-PCIe", "--count", "4"], ["NV12", "SYS", "SYS", "SYS", "SYS", "NV12"]),
        (["--model", "H200", "--count", "3"], ["NV18"] * 3),
    ],
)
@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_topology(tmp_path, init, expected, source):
    facts = SimulatedMachine(tmp_path, *init).facts(source)
    assert [pair["connection"] for pair in facts["topology"]] == expected


def test_a_lost_gpu_is_connected_to_nobody_we_know_of(tmp_path):
    machine = SimulatedMachine(tmp_path, "--model", "H100", "--count", "3")
    machine.sim("lose", "1")
    facts = machine.facts("nvml")
    assert {tuple(pair["gpus"]): pair["nvlinks"] for pair in facts["topology"]} == {
        (0, 1): None,
        (0, 2): 18,
        (1, 2): None,
    }
    assert [gpu["health"]["state"] for gpu in facts["gpus"]] == ["healthy", "unhealthy", "healthy"]
