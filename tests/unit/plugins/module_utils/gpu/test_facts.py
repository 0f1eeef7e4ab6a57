"""Which source is believed, and what the PCI bus adds to it."""

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import facts, host
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu

ANSWER = {
    "driver_version": "550.54.15",
    "cuda_version": "12.4",
    "nvml_version": "12.550.54.15",
    "count": 0,
    "gpus": [],
    "topology": None,
}


def fails(kind):
    def reader():
        raise SourceError(kind, f"{kind} it is")

    return reader


def never():
    raise AssertionError("this source must not be asked")


@pytest.mark.parametrize("kind", ["unavailable", "library_missing", "unknown"])
def test_the_next_source_is_asked(kind):
    source, answer, errors = facts.ask([("nvml", fails(kind)), ("nvidia-smi", lambda: ANSWER)])
    assert (source, answer) == ("nvidia-smi", ANSWER)
    assert [(error.kind, error.detail) for error in errors] == [(kind, f"{kind} it is")]


@pytest.mark.parametrize("kind", ["driver_not_loaded", "version_mismatch", "no_permission", "gpu_lost", "timeout"])
def test_the_next_source_is_not_asked_when_the_driver_itself_refused(kind):
    source, answer, errors = facts.ask([("nvml", fails(kind)), ("nvidia-smi", never)])
    assert (source, answer, [error.kind for error in errors]) == (None, None, [kind])


def test_the_first_answer_ends_it():
    assert facts.ask([("nvml", lambda: ANSWER), ("nvidia-smi", never)]) == ("nvml", ANSWER, [])


def device(address, driver="nvidia", kind="gpu", node=0):
    return {
        "bus_id": address,
        "vendor_id": "0x10de",
        "device_id": "0x2330",
        "subsystem_vendor_id": "0x10de",
        "subsystem_device_id": "0x16c1",
        "class": "0x030200",
        "kind": kind,
        "driver": driver,
        "numa_node": node,
    }


def machine(tmp_path, *devices, **changes):
    return {**host.read(str(tmp_path), machine="x86_64"), "devices_on_pci": list(devices), **changes}


def gpu(index, address=None, **changes):
    made = {**empty_gpu(), "index": index, **changes}
    made["pci"]["bus_id"] = address
    return made


def build(host_facts, gpus, *errors, source="nvml"):
    return facts.build(
        host_facts, {"version": None}, source, {**ANSWER, "count": len(gpus), "gpus": gpus}, list(errors)
    )


def test_the_bus_completes_what_the_driver_tells(tmp_path):
    known = gpu(0, "0000:3b:00.0", compute_capability="8.9")
    known["pci"]["device_id"] = "0x26b9"
    built = build(machine(tmp_path, device("0000:3b:00.0", node=1)), [known])
    (found,) = built["gpus"]
    assert (found["pci"]["numa_node"], found["pci"]["device_id"], found["pci"]["subsystem_device_id"]) == (
        1,
        "0x26b9",
        "0x16c1",
    )
    assert found["architecture"] == "Ada Lovelace"
    assert (built["present"], built["driver_loaded"], built["count"], built["problem"]) == (True, True, 1, None)


def test_a_lost_gpu_gets_the_address_that_is_left(tmp_path):
    built = build(
        machine(
            tmp_path,
            device("0000:07:00.0", kind="nvswitch"),
            device("0000:19:00.0"),
            device("0000:3b:00.0"),
            device("0000:5c:00.0", driver="vfio-pci"),
        ),
        [gpu(0, "0000:19:00.0"), gpu(1, lost=True)],
    )
    assert built["gpus"][1]["pci"]["bus_id"] == "0000:3b:00.0"
    assert built["problem"]["code"] == "gpu_lost"


def test_a_lost_gpu_gets_no_address_when_several_could_be_it(tmp_path):
    built = build(
        machine(tmp_path, device("0000:19:00.0"), device("0000:3b:00.0")),
        [gpu(0, lost=True)],
    )
    assert built["gpus"][0]["pci"]["bus_id"] is None


def test_the_kernel_alone_describes_gpus(tmp_path):
    built = facts.build(
        machine(
            tmp_path,
            device("0000:19:00.0", node=None),
            module_loaded=True,
            kernel_module={"version": "550.54.15", "flavor": "open"},
            library={"path": "/usr/lib64/libnvidia-ml.so.1", "version": "550.54.15"},
            proc_gpus=[
                {
                    "bus_id": "0000:19:00.0",
                    "name": "NVIDIA L4",
                    "uuid": "GPU-a",
                    "vbios_version": "95",
                    "minor_number": 0,
                }
            ],
        ),
        {"version": None},
        None,
        None,
        [SourceError("unavailable", "no nvidia-smi")],
    )
    assert (built["source"], built["count"], built["driver_version"], built["problem"]) == (
        "sysfs",
        1,
        "550.54.15",
        None,
    )
    assert (built["gpus"][0]["name"], built["gpus"][0]["pci"]["device_id"]) == ("NVIDIA L4", "0x2330")


def test_a_mismatch_needs_a_reboot(tmp_path):
    built = facts.build(
        machine(tmp_path, device("0000:19:00.0"), module_loaded=True),
        {"version": None},
        None,
        None,
        [SourceError("version_mismatch", "NVML: mismatch")],
    )
    assert (built["reboot_required"], built["problem"]["code"]) == (True, "version_mismatch")


def test_a_machine_without_gpu_has_the_same_keys(tmp_path):
    nothing = facts.build(machine(tmp_path), {"version": None}, None, None, [])
    something = build(machine(tmp_path, device("0000:19:00.0")), [gpu(0, "0000:19:00.0")])
    assert nothing.keys() == something.keys()
    assert (nothing["present"], nothing["driver_loaded"], nothing["problem"]["code"]) == (False, False, "no_device")
