"""Reading nvidia-smi: XML of several driver generations, and the ways in which it fails."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import smi
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu
from tests.unit.plugins.module_utils.gpu import smi_samples as samples

MIB = 1024 * 1024
ADDRESSES = ("0000:19:00.0", "0000:3b:00.0")


def keys(value, prefix=""):
    """Every path of keys in nested dicts."""
    if not isinstance(value, dict):
        return {prefix}
    return {path for name, inner in value.items() for path in keys(inner, f"{prefix}/{name}")}


def test_an_h100_of_driver_550():
    result = smi.parse(samples.document(samples.h100_of_550(), driver="550.54.15", cuda="12.4"))
    (gpu,) = result.pop("gpus")
    assert result == {
        "driver_version": "550.54.15",
        "cuda_version": "12.4",
        "nvml_version": "12.550.54.15",
        "count": 1,
        "topology": None,
    }
    assert gpu == {
        "index": 0,
        "minor_number": 0,
        "uuid": "GPU-44ef75fb-52f8-512e-901f-0523b03c6b50",
        "name": "NVIDIA H100 80GB HBM3",
        "brand": "NVIDIA",
        "architecture": "Hopper",
        "compute_capability": None,
        "serial": "1650423010101",
        "vbios_version": "96.00.74.00.01",
        "board_part_number": None,
        "gsp_firmware_version": None,
        "memory_total_bytes": 81559 * MIB,
        "memory_used_bytes": 1024 * MIB,
        "memory_free_bytes": 79984 * MIB,
        "memory_reserved_bytes": 551 * MIB,
        "bar1_total_bytes": 131072 * MIB,
        "bar1_used_bytes": MIB,
        "pci": {
            "bus_id": "0000:19:00.0",
            "vendor_id": "0x10de",
            "device_id": "0x2330",
            "subsystem_vendor_id": "0x10de",
            "subsystem_device_id": "0x16c1",
            "numa_node": None,
            "link_generation_current": 1,
            "link_generation_max": 5,
            "link_width_current": 16,
            "link_width_max": 16,
        },
        "mig": {"capable": True, "mode": "disabled", "pending_mode": "disabled", "instances": []},
        "ecc": {
            "mode": "enabled",
            "pending_mode": "disabled",
            "volatile": {"corrected": 9, "uncorrected": 22},
            "aggregate": {"corrected": 100, "uncorrected": 200},
        },
        "retired_pages": {"single_bit": None, "double_bit": None, "pending": None},
        "remapped_rows": {
            "correctable": 0,
            "uncorrectable": 2,
            "pending": True,
            "failed": False,
            "spare_rows_banks": {"max": None, "high": None, "partial": None, "low": None, "none": None},
        },
        "persistence_mode": "enabled",
        "compute_mode": "exclusive_process",
        "performance_state": None,
        "virtualization_mode": None,
        "power": {
            "draw_watts": 68.51,
            "limit_watts": 700.0,
            "limit_default_watts": None,
            "limit_min_watts": None,
            "limit_max_watts": None,
        },
        "clocks": {
            "graphics_mhz": 345,
            "sm_mhz": 345,
            "memory_mhz": 2619,
            "video_mhz": None,
            "graphics_max_mhz": 1980,
            "sm_max_mhz": 1980,
            "memory_max_mhz": None,
            "video_max_mhz": None,
            "event_reasons": None,
        },
        "temperature": {
            "gpu_celsius": 31,
            "memory_celsius": 44,
            "gpu_max_celsius": None,
            "memory_max_celsius": None,
            "slowdown_celsius": None,
            "shutdown_celsius": None,
        },
        "fan_speed_percent": None,
        "utilization": {"gpu_percent": None, "memory_percent": None},
        "nvlink": {"links_total": None, "links_up": None, "link_megabytes_per_second": None, "peers": []},
        "fabric": {"state": None, "clique_id": None, "cluster_uuid": None},
        "process_count": 2,
        "processes": [
            {
                "pid": pid,
                "type": kind,
                "memory_used_bytes": None,
                "gpu_instance_id": None,
                "compute_instance_id": None,
            }
            for pid, kind in ((4711, "C+G"), (4712, "C"))
        ],
        "recovery_action": None,
        "health": None,
        "lost": False,
        "error": None,
    }


def test_a_v100_of_driver_384():
    result = smi.parse(samples.document(samples.v100_of_384(), driver="384.81", cuda=None, dtd="v9"))
    (gpu,) = result.pop("gpus")
    assert (result["driver_version"], result["cuda_version"], result["nvml_version"]) == ("384.81", None, None)
    assert gpu["mig"] == {"capable": False, "mode": None, "pending_mode": None, "instances": []}
    assert gpu["ecc"] == {
        "mode": "enabled",
        "pending_mode": "enabled",
        "volatile": {"corrected": 3, "uncorrected": 1},
        "aggregate": {"corrected": 3, "uncorrected": 7},
    }
    assert gpu["retired_pages"] == {"single_bit": 0, "double_bit": 7, "pending": True}
    assert gpu["remapped_rows"] == empty_gpu()["remapped_rows"]
    assert (gpu["power"]["draw_watts"], gpu["power"]["limit_watts"]) == (41.32, 250.0)
    assert (gpu["architecture"], gpu["brand"], gpu["process_count"]) == (None, "Tesla", 0)
    assert gpu["pci"]["link_generation_max"] == 3


def test_a_geforce_of_driver_575():
    (gpu,) = smi.parse(samples.document(samples.geforce_of_575(), driver="575.51.02", cuda="12.9"))["gpus"]
    assert gpu["serial"] is None
    assert gpu["memory_used_bytes"] is None
    assert gpu["mig"]["capable"] is False
    assert gpu["ecc"]["volatile"] == {"corrected": None, "uncorrected": None}
    assert (gpu["power"]["draw_watts"], gpu["power"]["limit_watts"]) == (11.15, 450.0)
    assert [gpu["clocks"][name] for name in ("graphics_mhz", "sm_mhz", "memory_mhz")] == [675, None, 810]
    assert gpu["process_count"] is None


@pytest.mark.parametrize("sample", [samples.h100_of_550, samples.v100_of_384, samples.geforce_of_575])
def test_every_generation_gives_the_same_keys(sample):
    (gpu,) = smi.parse(samples.document(sample(), driver="1", cuda="2"))["gpus"]
    assert keys(gpu) == keys(empty_gpu())


def test_mig_instances_and_their_names():
    instances = samples.mig_device(0, 1, 0, 40448) + samples.mig_device(2, 9, 1, 9984, uuid="MIG-known")
    text = samples.document(
        samples.h100_of_550(), samples.h100_of_550("00000000:3B:00.0", 1, instances, "Enabled"), driver="1", cuda="2"
    )
    gpus = smi.parse(text)["gpus"]
    listing = (
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-44ef75fb-52f8-512e-901f-0523b03c6b50)\n"
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-44ef75fb-52f8-512e-901f-0523b03c6b51)\n"
        "  MIG 3g.40gb     Device  0: (UUID: MIG-a)\n"
        "  MIG 1g.10gb+me  Device  2: (UUID: MIG-known)\n"
    )
    smi.add_mig_names(gpus, listing)
    assert gpus[0]["mig"]["instances"] == []
    assert gpus[1]["mig"]["instances"] == [
        {
            "index": 0,
            "uuid": "MIG-a",
            "profile": "3g.40gb",
            "gpu_instance_id": 1,
            "compute_instance_id": 0,
            "memory_total_bytes": 40448 * MIB,
        },
        {
            "index": 2,
            "uuid": "MIG-known",
            "profile": "1g.10gb+me",
            "gpu_instance_id": 9,
            "compute_instance_id": 1,
            "memory_total_bytes": 9984 * MIB,
        },
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param("00000000:06:00.0, 7.0\n", ("7.0", "Volta"), id="known"),
        pytest.param("00000000:07:00.0, 7.0\n", (None, None), id="another-gpu"),
        pytest.param('Field "compute_cap" is not a valid field to query.\n', (None, None), id="old-driver"),
        pytest.param("00000000:06:00.0, [N/A]\n", (None, None), id="not-available"),
    ],
)
def test_compute_capability_and_the_architecture_that_follows(table, expected):
    gpus = smi.parse(samples.document(samples.v100_of_384(), driver="384.81", cuda=None))["gpus"]
    smi.add_compute_capabilities(gpus, table)
    assert (gpus[0]["compute_capability"], gpus[0]["architecture"]) == expected


def test_a_lost_gpu_inside_the_document():
    text = samples.document(samples.h100_of_550(), driver="1", cuda="2")
    text = text.replace("<uuid>GPU-44ef75fb-52f8-512e-901f-0523b03c6b50", "<uuid>GPU is lost")
    (gpu,) = smi.parse(text)["gpus"]
    assert (gpu["lost"], gpu["error"], gpu["uuid"], gpu["mig"]["capable"]) == (
        True,
        "nvidia-smi: GPU is lost",
        None,
        None,
    )


def test_warnings_around_the_document():
    text = samples.document(samples.h100_of_550(), driver="550.54.15", cuda="12.4")
    noisy = f"Unable to load something\n{text}WARNING: infoROM is corrupted at gpu 0000:19:00.0\n"
    assert smi.parse(noisy) == smi.parse(text)


def test_a_document_that_is_cut_short_names_the_place():
    text = samples.document(samples.h100_of_550(), driver="550.54.15", cuda="12.4")
    with pytest.raises(SourceError, match=r"its output is no XML: .*line \d+, column \d+") as caught:
        smi.parse(text[: len(text) // 2])
    assert caught.value.kind == "unknown"


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        pytest.param(
            9,
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
            "NVIDIA driver is installed and running.\n",
            "driver_not_loaded",
            id="no-driver",
        ),
        pytest.param(
            18,
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.90\n",
            "version_mismatch",
            id="mismatch",
        ),
        pytest.param(
            12,
            "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n",
            "library_missing",
            id="library",
        ),
        pytest.param(4, "Failed to initialize NVML: Insufficient Permissions\n", "no_permission", id="permission"),
        pytest.param(15, "Failed to initialize NVML: GPU is lost\n", "gpu_lost", id="lost"),
        pytest.param(255, "Failed to initialize NVML: Unknown Error\n", "unknown", id="unknown"),
        pytest.param(9, "", "driver_not_loaded", id="status-alone"),
        pytest.param(1, "", "unknown", id="nothing"),
    ],
)
@pytest.mark.parametrize("stream", ["output", "errors"])
def test_failures(status, text, kind, stream):
    streams = {"output": "", "errors": "", stream: text}

    def run(arguments):
        return status, streams["output"], streams["errors"]

    with pytest.raises(SourceError) as caught:
        smi.read(run)
    assert caught.value.kind == kind
    assert caught.value.detail == "nvidia-smi: " + (" ".join(text.split()) or f"no output, exit status {status}")


def test_no_devices_is_an_answer():
    assert smi.read(lambda arguments: (6, "No devices were found\n", "")) == {
        "driver_version": None,
        "cuda_version": None,
        "nvml_version": None,
        "count": 0,
        "gpus": [],
        "topology": None,
    }


@pytest.mark.parametrize(
    "line",
    [
        "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.  Reboot the system",
        "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error",
        "Unable to determine the device handle for GPU1: 0000:3B:00.0: Unknown Error",
        "Unable to determine the device handle for GPU1: GPU is lost.  Reboot the system",
        "Unable to determine the device handle for GPU 1: Unknown Error",
    ],
)
def test_lost_gpus_are_found_in_every_wording(line):
    (lost,) = smi.lost_gpus(line + "\n", ADDRESSES).items()
    assert lost == ("0000:3b:00.0", line.rpartition(": ")[2])


def test_an_index_beyond_the_addresses_names_nobody():
    assert smi.lost_gpus("Unable to determine the device handle for GPU7: Unknown Error\n", ADDRESSES) == {}


class FakeSmi:
    """Answers by the first argument."""

    def __init__(self, **answers):
        self.answers = answers
        self.calls = []

    def __call__(self, arguments):
        self.calls.append(arguments)
        if "-x" in arguments and "-i" in arguments:
            return self.answers["others"]
        if "pci.bus_id,compute_cap" in arguments[0]:
            return self.answers.get("capabilities", (0, "", ""))
        if arguments[0] in ("nvlink", "topo"):
            return self.answers.get("_".join(arguments), (0, "", ""))
        return self.answers[{"-q": "query", "-L": "listing"}[arguments[0]]]


LOST = "Unable to determine the device handle for GPU0000:19:00.0: Unknown Error\n"
SECOND = samples.document(samples.h100_of_550("00000000:3B:00.0", 1), driver="550.54.15", cuda="12.4")


@pytest.mark.parametrize(
    "fake",
    [
        pytest.param(FakeSmi(query=(0, LOST + SECOND, "")), id="newer-goes-on"),
        pytest.param(
            FakeSmi(query=(255, LOST, ""), others=(0, SECOND, "")),
            id="older-stops",
        ),
    ],
)
def test_the_others_are_still_described_when_one_is_lost(fake):
    gpus = smi.read(fake, ADDRESSES)["gpus"]
    assert [(gpu["index"], gpu["pci"]["bus_id"], gpu["lost"], gpu["error"]) for gpu in gpus] == [
        (0, "0000:19:00.0", True, "nvidia-smi: Unknown Error"),
        (1, "0000:3b:00.0", False, None),
    ]
    assert gpus[1]["name"] == "NVIDIA H100 80GB HBM3"


def test_the_only_gpu_is_lost():
    gpus = smi.read(FakeSmi(query=(15, LOST, "")), ADDRESSES[:1])["gpus"]
    assert [(gpu["lost"], gpu["pci"]["bus_id"]) for gpu in gpus] == [(True, "0000:19:00.0")]


@pytest.mark.parametrize("addresses", [(), ADDRESSES])
def test_the_others_cannot_be_asked(addresses):
    fake = FakeSmi(query=(15, LOST.replace("Unknown Error", "GPU is lost"), ""), others=(2, "Invalid combination", ""))
    if not addresses:
        # The kernel knows of no GPU, so the lost one is all that there is to tell.
        assert [gpu["lost"] for gpu in smi.read(fake, addresses)["gpus"]] == [True]
        return
    with pytest.raises(SourceError) as caught:
        smi.read(fake, addresses)
    assert caught.value.kind == "gpu_lost"


def test_instances_are_listed_only_when_there_are_some():
    fake = FakeSmi(query=(0, SECOND, ""))
    smi.read(fake)
    assert fake.calls == [
        ["-q", "-x"],
        ["--query-gpu=pci.bus_id,compute_cap", "--format=csv,noheader"],
        ["nvlink", "-s"],
    ]


def test_links_and_topology_are_asked_only_where_they_are_wanted():
    fake = FakeSmi(query=(0, SECOND, ""))
    result = smi.read(fake, chosen=frozenset(("driver", "gpus")))
    assert [call[0] for call in fake.calls] == ["-q", "--query-gpu=pci.bus_id,compute_cap"]
    assert (result["topology"], result["count"]) == (None, 1)


def test_counting_needs_no_gpu():
    assert [
        smi.read(FakeSmi(query=(0, SECOND, "")), chosen=frozenset(("driver",)))[key] for key in ("count", "gpus")
    ] == [
        1,
        [],
    ]


@pytest.mark.parametrize("hanging", ["-L", "--query-gpu=pci.bus_id,compute_cap", "nvlink", "topo"])
def test_what_one_more_question_cannot_get_stays_empty_and_costs_nothing_else(hanging):
    mig = samples.mig_device(0, 1, 0, 40448)
    whole = samples.document(
        samples.h100_of_550(mig=mig, mig_mode="Enabled"),
        samples.h100_of_550("00000000:3B:00.0", 1),
        driver="550.54.15",
        cuda="12.4",
    )
    fake = FakeSmi(query=(0, whole, ""), listing=(0, "", ""))

    def run(arguments):
        if arguments[0] == hanging:
            raise SourceError("timeout", "nvidia-smi did not end within 1 s")
        return fake(arguments)

    result = smi.read(run)
    assert (result["count"], result["driver_version"]) == (2, "550.54.15")
    assert [gpu["name"] for gpu in result["gpus"]] == ["NVIDIA H100 80GB HBM3"] * 2
    assert [gpu["compute_capability"] for gpu in result["gpus"]] == [None, None]
    assert [gpu["nvlink"] for gpu in result["gpus"]] == [empty_gpu()["nvlink"]] * 2
    assert result["topology"] == [{"gpus": [0, 1], "connection": None, "nvlinks": None}]
    assert result["gpus"][0]["mig"]["instances"][0]["gpu_instance_id"] == 1
    assert result["unanswered"] == [f"nvidia-smi {hanging}: nvidia-smi did not end within 1 s"]


def test_the_first_question_must_be_answered():
    def run(arguments):
        raise SourceError("timeout", "nvidia-smi did not end within 1 s")

    with pytest.raises(SourceError) as caught:
        smi.read(run)
    assert caught.value.kind == "timeout"


LINKED = samples.document(
    samples.h100_of_550(), samples.h100_of_550("00000000:3B:00.0", 1), driver="550.54.15", cuda="12.4"
)
HEADS = [f"GPU {i}: NVIDIA H100 80GB HBM3 (UUID: GPU-44ef75fb-52f8-512e-901f-0523b03c6b5{i})\n" for i in (0, 1)]


@pytest.mark.parametrize(
    "end",
    [
        "\t Link {}: {}\n",
        "\t Link {}, {}\n",
        "\t Link {}: Remote info pci_dev: {}\n",
        "\t Link {}: Remote Device {}: Link 7\n",
    ],
)
def test_nvlinks_in_every_wording(end):
    gpus = smi.parse(LINKED)["gpus"]
    states = (
        HEADS[0] + "\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\n\t Link 2: 26.562 GB/s\n\t Link 3: 26.562 GB/s\n"
    )
    states += HEADS[1] + "Device does not have or support Nvlink\n"
    ends = HEADS[0] + "".join(
        end.format(link, address)
        for link, address in ((0, "00000000:3B:00.0"), (2, "00000000:3B:00.0"), (3, "00000000:05:00.0"))
    )
    smi.add_nvlinks(gpus, states, ends)
    assert gpus[0]["nvlink"] == {
        "links_total": 4,
        "links_up": 3,
        "link_megabytes_per_second": 26562,
        "peers": [
            {"bus_id": "0000:05:00.0", "kind": "switch", "links": 1},
            {"bus_id": "0000:3b:00.0", "kind": "gpu", "links": 2},
        ],
    }
    assert gpus[1]["nvlink"] == empty_gpu()["nvlink"]


@pytest.mark.parametrize(
    "states", ["", "Field is not valid\n", HEADS[0], HEADS[0] + "NVML: Unable to retrieve NVLink\n"]
)
def test_without_nvlinks(states):
    gpus = smi.parse(LINKED)["gpus"]
    smi.add_nvlinks(gpus, states, "")
    assert gpus[0]["nvlink"] == empty_gpu()["nvlink"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("clocks_event_reason", ["gpu_idle", "hw_slowdown"], id="from-535"),
        pytest.param("clocks_throttle_reason", ["gpu_idle", "hw_slowdown"], id="before-535"),
        pytest.param("something_else", None, id="neither"),
    ],
)
def test_reasons_for_low_clocks_under_both_names(name, expected):
    part = samples.element(
        f"{name}s",
        samples.element(f"{name}_gpu_idle", "Active"),
        samples.element(f"{name}_hw_slowdown", "Active"),
        samples.element(f"{name}_sw_power_cap", "Not Active"),
    )
    text = samples.document(samples.h100_of_550().replace("</gpu>", part + "</gpu>"), driver="1", cuda="2")
    assert smi.parse(text)["gpus"][0]["clocks"]["event_reasons"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("None", "none"), ("Drain and Reset", "drain_and_reset"), ("N/A", None), ("", None), ("Reboot", "reboot")],
)
def test_recovery_action(text, expected):
    part = samples.element("gpu_recovery_action", text)
    document = samples.document(samples.h100_of_550().replace("</gpu>", part + "</gpu>"), driver="1", cuda="2")
    assert smi.parse(document)["gpus"][0]["recovery_action"] == expected


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        pytest.param("46 C", {"gpu_max_celsius": 87, "slowdown_celsius": 89, "shutdown_celsius": 95}, id="distances"),
        pytest.param("N/A", dict.fromkeys(("gpu_max_celsius", "slowdown_celsius", "shutdown_celsius")), id="unknown"),
    ],
)
def test_thresholds_of_newer_gpus_are_told_as_distances(margin, expected):
    # As an H100 with driver 580.159.04 told them; NVML said 87, 89 and 95 for the same board.
    part = samples.element(
        "temperature",
        samples.element("gpu_temp", "41 C"),
        samples.element("gpu_temp_tlimit", margin),
        samples.element("gpu_temp_max_tlimit_threshold", "-8 C"),
        samples.element("gpu_temp_slow_tlimit_threshold", "-2 C"),
        samples.element("gpu_temp_max_gpu_tlimit_threshold", "0 C"),
        samples.element("memory_temp", "44 C"),
        samples.element("gpu_temp_max_mem_tlimit_threshold", "0 C"),
    )
    text = re.sub(r"<temperature>.*?</temperature>\n", part, samples.h100_of_550(), flags=re.DOTALL)
    (gpu,) = smi.parse(samples.document(text, driver="580.159.04", cuda="13.0", dtd="v13"))["gpus"]
    assert gpu["temperature"] == {
        "gpu_celsius": 41,
        "memory_celsius": 44,
        "memory_max_celsius": None,
        **expected,
    }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Completed", {"state": "completed", "clique_id": 3, "cluster_uuid": "a0000000-0000-0000-0000-000000000001"}),
        ("In Progress", {"state": "in_progress", "clique_id": None, "cluster_uuid": None}),
        ("N/A", {"state": None, "clique_id": None, "cluster_uuid": None}),
    ],
)
def test_fabric(state, expected):
    part = samples.element(
        "fabric",
        samples.element("state", state),
        samples.element("cliqueId", 3),
        samples.element("clusterUuid", "A0000000-0000-0000-0000-000000000001"),
    )
    document = samples.document(samples.h100_of_550().replace("</gpu>", part + "</gpu>"), driver="1", cuda="2")
    assert smi.parse(document)["gpus"][0]["fabric"] == expected


VALUES = st.one_of(
    st.sampled_from(["N/A", "[N/A]", "Unknown Error", "GPU is lost", "", "None", "Enabled", "12 MiB", "-3 C", "1.5 W"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=20),
)


@given(st.data())
def test_whatever_stands_in_the_fields_nothing_fails_and_the_keys_stay(data):
    text = samples.document(samples.h100_of_550(), driver="550.54.15", cuda="12.4")
    for old in ("81559 MiB", "Enabled", "233010DE", "16x", "345 MHz", "31 C", "Exclusive_Process", "4711"):
        text = text.replace(f">{old}<", f">{samples.escape(data.draw(VALUES))}<")
    (gpu,) = smi.parse(text)["gpus"]
    assert keys(gpu) == keys(empty_gpu())
    assert gpu["mig"]["mode"] in (None, "enabled", "disabled")
    assert gpu["memory_total_bytes"] is None or isinstance(gpu["memory_total_bytes"], int)
