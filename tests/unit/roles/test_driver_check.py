"""What driver_check says of machines that nobody has at hand: its own expressions on made-up facts, in one play."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import facts, toolkit
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu

REPOSITORY = Path(__file__).parents[3]
ROLE = REPOSITORY / "roles/driver_check"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
CHECKS = list(yaml.safe_load((ROLE / "vars/main.yml").read_text())["__driver_check_messages"])
BOUNDS = {"min_driver_version", "min_cuda_version", "min_cuda_version_by_driver"}

HOST = {
    "devices_on_pci": [
        {
            "bus_id": "0000:19:00.0",
            "vendor_id": "0x10de",
            "device_id": "0x2330",
            "subsystem_vendor_id": "0x10de",
            "subsystem_device_id": "0x16c1",
            "class": "0x030200",
            "kind": "gpu",
            "driver": "nvidia",
            "numa_node": 0,
        }
    ],
    "kernel_module": {"version": "550.54.15", "flavor": "open"},
    "module_loaded": True,
    "nouveau_loaded": False,
    "kernel": {"release": "6.1.0-18-amd64", "machine": "x86_64"},
    "cgroup_version": 2,
    "secure_boot": False,
    "library": {"path": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "version": "550.54.15"},
    "control_node": True,
    "proc_gpus": [],
    "device_nodes": {"control": True, "uvm": True, "minors": [0]},
}
UNLOADED = {
    "module_loaded": False,
    "kernel_module": {"version": None, "flavor": None},
    "library": {"path": None, "version": None},
    "control_node": False,
    "device_nodes": {"control": False, "uvm": False, "minors": []},
}
UNAVAILABLE = SourceError("unavailable", "nvidia-smi is not installed")


def machine(*errors, driver="550.54.15", cuda="12.4", capability="9.0", **host):
    """Facts of a good machine with one GPU and these changes; with errors nobody answered."""
    gpu = empty_gpu()
    gpu.update(index=0, minor_number=0, name="NVIDIA H100 80GB HBM3", compute_capability=capability)
    gpu["pci"]["bus_id"] = "0000:19:00.0"
    answer = {
        "driver_version": driver,
        "cuda_version": cuda,
        "nvml_version": None,
        "count": 1,
        "gpus": [gpu],
        "topology": None,
    }
    source = None if errors else "nvml"
    return facts.build(
        {**copy.deepcopy(HOST), **host}, toolkit.unknown(), source, None if errors else answer, list(errors)
    )


def kernel(release="6.1.0-18-amd64", hardware="x86_64"):
    return {"release": release, "machine": hardware}


# Name -> (facts, the role's variables, names of the findings, what the message says)
CASES = {
    "good": (machine(), {}, [], ""),
    "good-arm64": (machine(kernel=kernel(hardware="aarch64")), {}, [], ""),
    "power": (
        machine(kernel=kernel(hardware="ppc64le")),
        {},
        ["architecture"],
        "The machine is ppc64le; NVIDIA Container Toolkit exists for x86_64 and aarch64. "
        "Take this host out of the group.",
    ),
    "power-switched-off": (machine(kernel=kernel(hardware="ppc64le")), {"architecture": False}, [], ""),
    "kernel-of-el6": (
        machine(kernel=kernel("2.6.32-754.el6.x86_64")),
        {},
        ["kernel"],
        "Kernel 2.6.32-754.el6.x86_64 is too old: it must be newer than 3.10. Update the distribution.",
    ),
    "kernel-at-the-bound": (machine(kernel=kernel("3.10")), {}, ["kernel"], "Kernel 3.10 is too old"),
    # NVIDIA supports the toolkit on these.
    "kernel-of-el7": (machine(kernel=kernel("3.10.0-1160.el7.x86_64")), {}, [], ""),
    "kernel-of-el8": (machine(kernel=kernel("4.18.0-553.el8_10.x86_64")), {}, [], ""),
    "kernel-switched-off": (machine(kernel=kernel("2.6.32")), {"kernel": False}, [], ""),
    "nouveau": (
        machine(UNAVAILABLE, nouveau_loaded=True, **UNLOADED),
        {"gpu": False},
        ["nouveau"],
        'Put "blacklist nouveau" and "options nouveau modeset=0" into /etc/modprobe.d/blacklist-nouveau.conf, '
        "rebuild the initramfs and reboot.",
    ),
    "nouveau-switched-off": (
        machine(UNAVAILABLE, nouveau_loaded=True, **UNLOADED),
        {"nouveau": False},
        ["gpu"],
        "The nouveau driver is loaded in its place: blacklist it",
    ),
    "no-driver": (machine(UNAVAILABLE, **UNLOADED), {}, ["gpu"], "Install the NVIDIA driver, or load it with modprobe"),
    "no-driver-secure-boot": (
        machine(UNAVAILABLE, secure_boot=True, **UNLOADED),
        {},
        ["gpu"],
        "Secure Boot is on: the module must be signed with a key that the machine knows.",
    ),
    "no-gpu": (
        machine(UNAVAILABLE, devices_on_pci=[], **UNLOADED),
        {},
        ["gpu"],
        "There is no NVIDIA GPU on the PCI bus. Nothing to do on a machine without a GPU.",
    ),
    "library-missing": (
        machine(UNAVAILABLE, library={"path": None, "version": None}),
        {},
        ["gpu"],
        "Install the driver's user-space part in the version of the kernel module",
    ),
    "no-permission": (
        machine(SourceError("no_permission", "NVML: Insufficient Permissions")),
        {},
        ["gpu"],
        "This user may not talk to the driver (NVML: Insufficient Permissions). Run the task with become: true",
    ),
    "mismatch": (
        machine(
            SourceError("version_mismatch", "NVML: mismatch"),
            library={"path": "/usr/lib64/libnvidia-ml.so.1", "version": "550.90.07"},
        ),
        {},
        ["module_match"],
        "The loaded kernel module (550.54.15) and the driver's library (550.90.07) differ, as after an unattended "
        "upgrade. Reboot, or drain the node",
    ),
    "mismatch-of-unknown-version": (
        machine(SourceError("version_mismatch", "NVML: mismatch"), library={"path": "/x", "version": None}),
        {},
        ["module_match"],
        "the driver's library (unknown version) differ",
    ),
    "fermi": (
        machine(capability="2.1"),
        {},
        ["compute_capability"],
        "has compute capability 2.1: at least 3.0 is needed. Take the card out or leave this host out of the group.",
    ),
    "kepler": (machine(capability="3.0"), {}, [], ""),
    # nvidia-smi before 510 does not tell the capability, the PCI bus does.
    "fermi-of-an-old-driver": (
        machine(
            driver="390.157",
            cuda=None,
            capability=None,
            devices_on_pci=[{**HOST["devices_on_pci"][0], "device_id": "0x1091"}],
        ),
        {"toolkit_driver": False},
        ["compute_capability"],
        "has compute capability 2.0: at least 3.0 is needed.",
    ),
    "unknown-capability": (machine(capability=None), {}, [], ""),
    "old-driver": (
        machine(driver="418.67", cuda="10.1"),
        {},
        ["toolkit_driver"],
        "Driver 418.67 is older than 418.81.07",
    ),
    "driver-at-the-bound": (machine(driver="418.81.07", cuda="10.1"), {}, [], ""),
    "own-driver-bound": (
        machine(),
        {"min_driver_version": "570.86.15"},
        ["min_driver_version"],
        "Driver 550.54.15 is older than 570.86.15 (driver_check_min_driver_version). Update the driver or lower",
    ),
    "cuda": (
        machine(),
        {"min_cuda_version": "12.8"},
        ["min_cuda_version"],
        "Driver 550.54.15 supports CUDA up to 12.4, wanted is 12.8 (driver_check_min_cuda_version). "
        "Update the driver to 570.26 or newer.",
    ),
    "cuda-that-no-table-knows": (
        machine(),
        {"min_cuda_version": "99.9"},
        ["min_cuda_version"],
        "wanted is 99.9 (driver_check_min_cuda_version). Update the driver.",
    ),
    "cuda-of-a-driver-that-does-not-tell": (
        machine(driver="390.157", cuda=None),
        {"min_cuda_version": "12.4", "toolkit_driver": False},
        ["min_cuda_version_by_driver"],
        "CUDA 12.4 (driver_check_min_cuda_version) needs driver 550.54.14 or newer, and this is 390.157. "
        "Update the driver.",
    ),
    "nodes-missing": (
        machine(device_nodes={"control": False, "uvm": False, "minors": []}),
        {},
        ["device_nodes"],
        'The driver answers, but /dev/nvidiactl, /dev/nvidia0 are missing. Run "nvidia-modprobe -c 0 -u" as root',
    ),
    "persistenced": (
        machine(),
        {"persistenced": True},
        ["persistenced"],
        'Run "systemctl enable --now nvidia-persistenced"',
    ),
    "fabric-manager": (
        machine(devices_on_pci=[*HOST["devices_on_pci"], {**HOST["devices_on_pci"][0], "kind": "nvswitch"}]),
        {},
        ["fabric_manager"],
        'Install it in exactly the driver\'s version (550.54.15) and run "systemctl enable --now nvidia-fabricmanager"',
    ),
    "several": (
        machine(driver="375.66", cuda=None, kernel=kernel("2.6.32", "i686")),
        {},
        ["architecture", "kernel", "toolkit_driver", "plugin_driver"],
        "Driver 375.66 is older than 384.81, the least that the device plugin supports. Update the driver.",
    ),
}


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """Case -> (names of the findings, the message), each case a host of one play."""
    folder = tmp_path_factory.mktemp("driver_check")
    hosts = {
        name: {"case": told, **{f"driver_check_{key}": value for key, value in variables.items()}}
        for name, (told, variables, dummy, words) in CASES.items()
    }
    inventory = {"all": {"vars": {**DEFAULTS, "ansible_connection": "local"}, "hosts": hosts}}
    (folder / "inventory.yml").write_text(json.dumps(inventory))
    tasks = [
        {"ansible.builtin.set_fact": {"nvidia_gpu": "{{ case }}", "cacheable": True}},
        {"ansible.builtin.debug": {"msg": ["{{ __driver_check_findings }}", "{{ __driver_check_text }}"]}},
    ]
    play = {"hosts": "all", "gather_facts": False, "vars_files": [str(ROLE / "vars/main.yml")], "tasks": tasks}
    (folder / "play.yml").write_text(json.dumps([play]))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache/collections"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    environment.pop("ANSIBLE_CONFIG", None)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory.yml", "play.yml"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    answers = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"][1]["hosts"]
    return {host: (answer["msg"][0], " ".join(answer["msg"][1].split())) for host, answer in answers.items()}


@pytest.mark.parametrize("case", CASES)
def test_findings(findings, case):
    expected, words = CASES[case][2:]
    names, message = findings[case]
    assert names == expected
    assert words in message
    assert not names or message.startswith(f"{case} is not ready for GPU containers. ")


def test_every_check_has_failed_in_one_of_the_cases():
    assert {name for case in CASES.values() for name in case[2]} == set(CHECKS)


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in BOUNDS])
def test_every_check_has_a_switch_of_its_own_that_is_documented(check):
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert DEFAULTS[f"driver_check_{check}"] is options[f"driver_check_{check}"]["default"]
    assert f"| `{check}`" in (ROLE / "README.md").read_text()
