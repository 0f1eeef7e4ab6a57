#!/usr/bin/env python3
"""Describe the simulated GPUs of a machine and make things happen to them.

The simulated libnvidia-ml.so.1 reads what this writes: a state file (what the GPUs are) and an events file (what
happens to them). Both take effect in running processes at once. Standard library only; Python >= 3.9.

Names, memory sizes, PCI ids, clocks and power limits are those that the boards report; MIG profiles are those of
NVIDIA's MIG user guide (https://docs.nvidia.com/datacenter/tesla/mig-user-guide/).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_STATE = Path("/etc/nvml-sim/state")
DRIVER_FILES = Path("/usr/lib/nvml-sim")  # of a simulated node: the driver's libraries, which no loader looks for here
LIBRARIES = Path(f"/usr/lib/{os.uname().machine}-linux-gnu")
NVIDIA_MAJOR = 195  # Linux: Documentation/admin-guide/devices.txt
CAPS_MAJOR = 120  # the real one is assigned at boot; Linux reserves this one for local use
MIG_CONFIG, MIG_MONITOR, FIRST_INSTANCE = 1, 2, 3  # minors of nvidia-caps
ECC_EVENTS = 0x1F  # single bit, double bit, P-state, XID, clock
NO_ECC_EVENTS = 0x1C
XID_FELL_OFF_THE_BUS = 79

CUDA_OF_BRANCH = {
    470: "11.4", 510: "11.6", 515: "11.7", 520: "11.8", 525: "12.0", 530: "12.1", 535: "12.2", 545: "12.3",
    550: "12.4", 555: "12.5", 560: "12.6", 565: "12.7", 570: "12.8", 575: "12.9", 580: "13.0", 590: "13.1",
}  # fmt: skip


class SimError(Exception):
    """What was asked cannot be done; the text says what and what to do."""


@dataclass(frozen=True)
class Profile:
    """One MIG GPU instance profile; memory in MiB, starts are first memory slices."""

    name: str
    index: int  # NVML_GPU_INSTANCE_PROFILE_*
    id: int
    slices: int
    memory_slices: int
    instances: int
    memory_mib: int
    sm: int
    ce: int
    dec: int
    jpeg: int
    ofa: int
    starts: tuple[int, ...]

    def line(self) -> str:
        names = ("name", "index", "id", "slices", "memory_slices", "instances", "memory_mib", "sm", "ce", "dec",
                 "jpeg", "ofa")  # fmt: skip
        fields = " ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{fields} enc=0 starts={','.join(map(str, self.starts))}"


# Shape of the profiles of a GPU with 7 compute and 8 memory slices:
# slices, memory slices, index, id, instances, suffix, starts
SEVEN_SLICES = (
    (1, 1, 0x0, 19, 7, "", (0, 1, 2, 3, 4, 5, 6)),
    (1, 1, 0x7, 20, 1, "+me", (0, 1, 2, 3, 4, 5, 6)),
    (1, 2, 0x9, 15, 4, "", (0, 2, 4, 6)),
    (2, 2, 0x1, 14, 3, "", (0, 2, 4)),
    (3, 4, 0x2, 9, 2, "", (0, 4)),
    (4, 4, 0x3, 5, 1, "", (0,)),
    (7, 8, 0x4, 0, 1, "", (0,)),
)
FOUR_SLICES = (
    (1, 1, 0x0, 14, 4, "", (0, 1, 2, 3)),
    (1, 1, 0x7, 21, 1, "+me", (0, 1, 2, 3)),
    (2, 2, 0x1, 5, 2, "", (0, 2)),
    (4, 4, 0x3, 0, 1, "", (0,)),
)


def profiles(shape, sizes: str, memory: str, sm: str, dec: str, ce: str, jpeg: str, ofa: str) -> tuple[Profile, ...]:
    """Join a shape with one value per profile: `sizes` are the gigabytes in the names, the rest as reported."""
    columns = [[int(cell) for cell in text.split()] for text in (sizes, memory, sm, dec, ce, jpeg, ofa)]
    return tuple(
        Profile(f"{slices}g.{gb}gb{suffix}", index, id_, slices, memory_slices, instances, mib, n_sm, n_ce, n_dec,
                n_jpeg, n_ofa, starts)
        for (slices, memory_slices, index, id_, instances, suffix, starts), gb, mib, n_sm, n_dec, n_ce, n_jpeg, n_ofa
        in zip(shape, *columns)  # noqa: B905 - strict= needs Python 3.10
    )  # fmt: skip


A100_ENGINES = {"sm": "14 14 14 28 42 56 98", "dec": "0 1 1 1 2 2 5", "ce": "1 1 1 2 3 4 7", "jpeg": "0 1 0 0 0 0 1",
                "ofa": "0 1 0 0 0 0 1"}  # fmt: skip
H100_ENGINES = {"sm": "16 16 26 32 60 64 132", "dec": "1 1 1 2 3 4 7", "ce": "1 1 1 2 3 4 8", "jpeg": "1 1 1 2 3 4 7",
                "ofa": "0 1 0 0 0 0 1"}  # fmt: skip
MIG_A100_40 = profiles(SEVEN_SLICES, "5 5 10 10 20 20 40", "4864 4864 9984 9984 20096 20096 40448", **A100_ENGINES)
MIG_A100_80 = profiles(SEVEN_SLICES, "10 10 20 20 40 40 80", "9728 9728 19968 19968 40192 40192 80640", **A100_ENGINES)
MIG_A30 = profiles(FOUR_SLICES, "6 6 12 24", "5952 5952 12032 24192", sm="14 14 28 56", dec="0 1 2 4", ce="1 1 2 4",
                   jpeg="0 1 0 1", ofa="0 1 0 1")  # fmt: skip
MIG_H100_80 = profiles(SEVEN_SLICES, "10 10 20 20 40 40 80", "9984 9984 20096 20096 40448 40448 81152", **H100_ENGINES)
MIG_H200 = profiles(SEVEN_SLICES, "18 18 35 35 71 71 141", "16384 16384 33280 33280 71168 71168 143360", **H100_ENGINES)
MIG_B200 = profiles(
    SEVEN_SLICES,
    "23 23 45 45 90 90 180",
    "22144 22144 45056 45056 91136 91136 182272",
    sm="18 18 30 36 70 74 148",
    dec="1 1 1 2 3 4 7",
    ce="2 2 2 4 6 8 16",
    jpeg="1 1 1 2 3 4 7",
    ofa="0 1 0 0 0 0 1",
)


@dataclass(frozen=True)
class Model:
    """One board as NVML reports it. Memory and BAR1 in MiB, power in W, clocks in MHz, NVLink speed in MB/s."""

    name: str
    architecture: str
    capability: str
    device_id: int
    subsystem_id: int
    memory_mib: int
    bar1_mib: int
    cores: int
    bus_width: int
    power: tuple[int, int, int]  # default, min, max
    clocks: tuple[int, int, int]  # max SM, memory, video
    pcie_gen: int
    vbios: str
    part_number: str = ""
    brand: str = "NVIDIA"
    ecc: str = "on"
    row_remapping: bool = True  # since Ampere; before, pages are retired
    mig: tuple[Profile, ...] = ()
    nvlinks: int = 0
    nvlink_version: int = 0  # NVML_NVLINK_VERSION_*
    nvlink_mbps: int = 0
    nvswitch: bool = False
    fan: bool = False
    graphics: bool = False
    memory_reserved_mib: int = 600


MODELS = {
    "V100": Model("Tesla V100-SXM2-16GB", "Volta", "7.0", 0x1DB110DE, 0x121210DE, 16384, 16384, 5120, 4096,
                  (300, 150, 300), (1530, 877, 1372), 3, "88.00.4F.00.09", "900-2G503-0000-000", row_remapping=False,
                  nvlinks=6, nvlink_version=2, nvlink_mbps=25781, memory_reserved_mib=254),
    "T4": Model("Tesla T4", "Turing", "7.5", 0x1EB810DE, 0x12A210DE, 15360, 256, 2560, 256, (70, 60, 70),
                (1590, 5001, 1470), 3, "90.04.A7.00.01", "900-2G183-0000-001", row_remapping=False,
                memory_reserved_mib=442),
    "A10": Model("NVIDIA A10", "Ampere", "8.6", 0x223610DE, 0x148210DE, 23028, 32768, 9216, 384, (150, 100, 150),
                 (1695, 6251, 1545), 4, "94.02.75.00.01", "900-2G133-0000-100", memory_reserved_mib=512),
    "A30": Model("NVIDIA A30", "Ampere", "8.0", 0x20B710DE, 0x153210DE, 24576, 32768, 3584, 3072, (165, 100, 165),
                 (1440, 1215, 1305), 4, "92.00.66.00.02", "900-21001-0040-100", mig=MIG_A30, nvlinks=4,
                 nvlink_version=4, nvlink_mbps=25781),
    "A100-40": Model("NVIDIA A100-SXM4-40GB", "Ampere", "8.0", 0x20B010DE, 0x134F10DE, 40960, 65536, 6912, 5120,
                     (400, 100, 400), (1410, 1215, 1290), 4, "92.00.45.00.03", "692-2G506-0200-002", mig=MIG_A100_40,
                     nvlinks=12, nvlink_version=4, nvlink_mbps=25781, nvswitch=True),
    "A100-80": Model("NVIDIA A100-SXM4-80GB", "Ampere", "8.0", 0x20B210DE, 0x146310DE, 81920, 131072, 6912, 5120,
                     (400, 100, 400), (1410, 1593, 1290), 4, "92.00.9E.00.05", "692-2G506-0210-002", mig=MIG_A100_80,
                     nvlinks=12, nvlink_version=4, nvlink_mbps=25781, nvswitch=True),
    "RTX-A6000": Model("NVIDIA RTX A6000", "Ampere", "8.6", 0x223010DE, 0x145910DE, 49140, 256, 10752, 384,
                       (300, 100, 300), (2100, 8001, 1950), 4, "94.02.5C.00.02", "900-5G133-0300-000",
                       brand="NVIDIA RTX", ecc="off", nvlinks=4, nvlink_version=5, nvlink_mbps=14062, fan=True,
                       graphics=True),
    "L4": Model("NVIDIA L4", "Ada", "8.9", 0x27B810DE, 0x16EE10DE, 23034, 32768, 7424, 192, (72, 40, 72),
                (2040, 6251, 1770), 4, "95.04.29.00.06", "900-2G193-0000-000", memory_reserved_mib=493),
    "L40S": Model("NVIDIA L40S", "Ada", "8.9", 0x26B910DE, 0x185110DE, 46068, 65536, 18176, 384, (350, 100, 350),
                  (2520, 9001, 1965), 4, "95.02.66.00.02", "900-2G133-0080-000"),
    "RTX-4090": Model("NVIDIA GeForce RTX 4090", "Ada", "8.9", 0x268410DE, 0x16F410DE, 24564, 32768, 16384, 384,
                      (450, 150, 600), (3105, 10501, 2415), 4, "95.02.3C.00.94", brand="GeForce", ecc="off",
                      row_remapping=False, fan=True, graphics=True, memory_reserved_mib=422),
    "H100": Model("NVIDIA H100 80GB HBM3", "Hopper", "9.0", 0x233010DE, 0x16C110DE, 81559, 131072, 16896, 5120,
                  (700, 200, 700), (1980, 2619, 1545), 5, "96.00.89.00.01", "692-2G520-0200-000", mig=MIG_H100_80,
                  nvlinks=18, nvlink_version=6, nvlink_mbps=26562, nvswitch=True),
    "H100-PCIe": Model("NVIDIA H100 PCIe", "Hopper", "9.0", 0x233110DE, 0x162610DE, 81559, 131072, 14592, 5120,
                       (350, 200, 350), (1755, 1593, 1665), 5, "96.00.74.00.1A", "900-21010-0000-000",
                       mig=MIG_H100_80, nvlinks=12, nvlink_version=6, nvlink_mbps=26562),
    "H200": Model("NVIDIA H200", "Hopper", "9.0", 0x233510DE, 0x18BE10DE, 143771, 262144, 16896, 6144,
                  (700, 200, 700), (1980, 3201, 1545), 5, "96.00.A5.00.01", "692-2G520-0280-000", mig=MIG_H200,
                  nvlinks=18, nvlink_version=6, nvlink_mbps=26562, nvswitch=True),
    "B200": Model("NVIDIA B200", "Blackwell", "10.0", 0x290110DE, 0x199910DE, 183359, 262144, 18944, 7680,
                  (1000, 200, 1000), (1965, 3996, 1965), 5, "97.00.82.00.12", "692-2G525-0220-000", mig=MIG_B200,
                  nvlinks=18, nvlink_version=7, nvlink_mbps=53125, nvswitch=True),
}  # fmt: skip
ALIASES = {"A100": "A100-40", "H100-SXM": "H100", "RTX4090": "RTX-4090", "RTXA6000": "RTX-A6000"}

# PCI buses of an eight-GPU server, then of its twin in a second PCI segment.
BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)


def find_model(name: str) -> Model:
    """The board called `name` ("H100", "a100-80", "RTX 4090"); SimError lists what there is."""
    wanted = name.replace(" ", "-").upper()
    known = {key.upper(): key for key in MODELS}
    aliases = {key.upper(): value for key, value in ALIASES.items()}
    key = known.get(wanted) or aliases.get(wanted)
    if key is None:
        raise SimError(f"no model {name!r}; there are {', '.join(sorted(MODELS))}")
    return MODELS[key]


# --- the state file -------------------------------------------------------------------------------------------------


@dataclass
class Section:
    """One `[name]` with its `key = value` lines, in order; keys may repeat."""

    name: str
    pairs: list[tuple[str, str]] = field(default_factory=list)

    def get(self, key: str, default: str | None = None) -> str | None:
        return next((value for name, value in self.pairs if name == key), default)

    def set(self, key: str, value: object) -> None:
        for at, (name, _) in enumerate(self.pairs):
            if name == key:
                self.pairs[at] = (key, str(value))
                return
        self.pairs.append((key, str(value)))

    def drop(self, key: str) -> None:
        self.pairs = [pair for pair in self.pairs if pair[0] != key]

    def values(self, key: str) -> list[str]:
        return [value for name, value in self.pairs if name == key]


@dataclass
class State:
    sections: list[Section]

    def section(self, name: str) -> Section:
        for section in self.sections:
            if section.name == name:
                return section
        raise SimError(f"the state has no [{name}]; it has {', '.join(s.name for s in self.sections)}")

    @property
    def system(self) -> Section:
        return self.section("system")

    def gpu(self, number: int) -> Section:
        return self.section(f"gpu {number}")

    @property
    def faults(self) -> Section:
        """What functions were told to answer; made where it is missing."""
        if not any(section.name == "faults" for section in self.sections):
            self.sections.append(Section("faults"))
        return self.section("faults")

    def gpus(self) -> list[Section]:
        return [section for section in self.sections if section.name.startswith("gpu ")]

    def text(self) -> str:
        blocks = ("\n".join([f"[{s.name}]", *(f"{key} = {value}" for key, value in s.pairs)]) for s in self.sections)
        return "\n\n".join(blocks) + "\n"


def parse_state(text: str) -> State:
    """Read a state file's text; SimError names the line that is wrong."""
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip()))
        elif equals and sections:
            sections[-1].pairs.append((key.strip(), value.strip()))
        else:
            raise SimError(f"line {number}: want [section], key = value or # comment, got {line!r}")
    return State(sections)


def load(path: Path) -> State:
    try:
        return parse_state(path.read_text())
    except FileNotFoundError:
        raise SimError(f"no state file {path}: make one with `nvml-sim init`") from None
    except SimError as error:
        raise SimError(f"{path}: {error}") from None


def save(state: State, path: Path) -> None:
    """Write atomically: a reader sees the old state or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(state.text())
    temporary.chmod(0o644)
    temporary.replace(path)
    count_up(path)


def count_up(state_path: Path) -> None:
    """Tell running processes, which have this file mapped, to look again. It is never replaced and never empty."""
    descriptor = os.open(state_path.parent / "generation", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, struct.pack("=Q", time.time_ns()), 0)
    finally:
        os.close(descriptor)


def events_path(state_path: Path) -> Path:
    given = os.environ.get("NVML_SIM_EVENTS")
    return Path(given) if given else state_path.parent / "events"


def append_event(state_path: Path, line: str) -> None:
    with events_path(state_path).open("a") as events:
        events.write(line + "\n")


# --- making a machine -----------------------------------------------------------------------------------------------


def cuda_of(driver: str) -> str:
    """CUDA version that a driver supports: that of the newest branch not newer than the driver's."""
    branch = int(driver.split(".", maxsplit=1)[0])
    known = [number for number in CUDA_OF_BRANCH if number <= branch]
    return CUDA_OF_BRANCH[max(known)] if known else "11.0"


def nvml_version_of(library: str) -> str:
    """NVML's own version: CUDA's major version, then the driver's version."""
    return f"{cuda_of(library).split('.', maxsplit=1)[0]}.{library}"


def make_system(driver: str, device_nodes: bool, flavor: str) -> Section:
    return Section("system", [
        ("driver_version", driver),
        ("library_version", driver),
        ("nvml_version", nvml_version_of(driver)),
        ("cuda_version", cuda_of(driver)),
        ("module_flavor", flavor),
        ("loaded", "yes"),
        ("generation", "1"),
        ("device_nodes", "on" if device_nodes else "off"),
    ])  # fmt: skip


def pci_address(index: int) -> str:
    return f"{index // len(BUSES):08X}:{BUSES[index % len(BUSES)]:02X}:00.0"


def cpu_list(node: int, nodes: int) -> str:
    if nodes == 1:
        return f"0-{(os.cpu_count() or 1) - 1}" if (os.cpu_count() or 1) > 1 else "0"
    return f"{32 * node}-{32 * node + 31}"


def fixed_uuid(*parts: object) -> str:
    """The same machine has the same UUIDs every time."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, "/".join(["nvml-sim", *map(str, parts)])))


def make_gpu(model: Model, index: int, driver: str, seed: str, numa: int, cpus: str) -> Section:
    section = Section(f"gpu {index}")
    put = section.set
    identity = fixed_uuid(seed, model.name, index)
    put("name", model.name)
    put("uuid", f"GPU-{identity}")
    if model.brand != "GeForce":  # consumer boards report neither
        put("serial", f"165{int(identity[:8], 16) % 10**10:010d}")
        put("board_part_number", model.part_number)
    put("minor", index)
    put("brand", model.brand)
    put("architecture", model.architecture)
    put("compute_capability", model.capability)
    put("cuda_cores", model.cores)
    put("pci_bus_id", pci_address(index))
    put("pci_device_id", f"0x{model.device_id:08X}")
    put("pci_subsystem_id", f"0x{model.subsystem_id:08X}")
    put("board_id", f"0x{BUSES[index % len(BUSES)] << 8:x}")
    put("multi_gpu_board", 0)
    if model.nvswitch:
        put("module_id", index + 1)
    put("numa_node", numa)
    put("cpus", cpus)
    put("vbios_version", model.vbios)
    put("inforom_image_version", "G520.0200.00.05" if model.nvswitch else "G001.0000.03.03")
    put("inforom_oem", "2.1")
    put("inforom_ecc", "7.16" if model.row_remapping else "5.0")
    if model.brand == "NVIDIA":
        put("gsp_firmware_version", driver)
    put("virtualization_mode", "None")
    put_memory(section, model)
    put_load(section, model)
    put_driver(section, model, driver)
    put_ecc(section, model)
    put_mig(section, model)
    return section


def put_memory(section: Section, model: Model) -> None:
    section.set("memory_mib", model.memory_mib)
    section.set("memory_reserved_mib", model.memory_reserved_mib)
    section.set("memory_used_mib", 0)
    section.set("memory_bus_width", model.bus_width)
    section.set("bar1_mib", model.bar1_mib)
    section.set("bar1_used_mib", 1)


def put_load(section: Section, model: Model) -> None:
    """An idle board: power in mW, clocks in MHz, temperatures in °C, utilisation in %."""
    put = section.set
    default, lowest, highest = model.power
    sm, memory, video = model.clocks
    put("power_draw_mw", default * 100)
    put("power_limit_mw", default * 1000)
    put("power_default_mw", default * 1000)
    put("power_min_mw", lowest * 1000)
    put("power_max_mw", highest * 1000)
    put("energy_mj", 123456789)
    for name, now, top in (("graphics", 345, sm), ("sm", 345, sm), ("memory", memory, memory), ("video", 765, video)):
        put(f"clock_{name}", now)
        put(f"clock_{name}_max", top)
    put("clocks_event_reasons", 1)
    put("pstate", 0 if model.nvswitch else 8)
    put("temperature", 31)
    put("temperature_shutdown", 95 if model.architecture == "Hopper" else 92)
    put("temperature_slowdown", 89)
    put("temperature_gpu_max", 87)
    if not model.graphics:
        put("temperature_memory", 40)
        put("temperature_memory_max", 95)
    if model.fan:
        put("fan_speed", 30)
        put("fans", 2)
    for name in ("gpu", "memory", "encoder", "decoder", "jpeg", "ofa"):
        put(f"utilization_{name}", 0)
    put("pcie_gen_current", model.pcie_gen)
    put("pcie_gen_max", model.pcie_gen)
    put("pcie_gen_gpu_max", model.pcie_gen)
    put("pcie_width_current", 16)
    put("pcie_width_max", 16)
    put("pcie_replay_counter", 0)
    put("pcie_tx_kbps", 0)
    put("pcie_rx_kbps", 0)
    put("persistence_mode", "off" if model.graphics else "on")
    put("accounting_mode", "off")
    put("display_mode", "on" if model.graphics else "off")
    put("display_active", "off")
    put("compute_mode", "Default")


def put_driver(section: Section, model: Model, driver: str) -> None:
    """What a GPU tells through newer drivers."""
    branch = int(driver.split(".")[0])
    if branch >= 550 and tuple(map(int, model.capability.split("."))) >= (8, 9):
        section.set("temperature_margin", "yes")  # nvidia-smi then tells thresholds as distances ("T.Limit")
    if branch >= 570:
        section.set("recovery_action", 0)


def put_ecc(section: Section, model: Model) -> None:
    put = section.set
    put("event_types", f"0x{ECC_EVENTS if model.ecc == 'on' else NO_ECC_EVENTS:x}")
    put("ecc_mode", model.ecc)
    put("ecc_mode_pending", model.ecc)
    put("ecc_mode_default", model.ecc)
    if model.ecc == "on":
        for when in ("volatile", "aggregate"):
            for what in ("corrected", "uncorrected"):
                for where in ("dram", "sram"):
                    put(f"ecc_{when}_{what}_{where}", 0)
    if model.row_remapping:
        for name in ("corrected", "uncorrected"):
            put(f"remapped_rows_{name}", 0)
        put("remapped_rows_pending", "no")
        put("remapped_rows_failure", "no")
        put("row_remapper_banks", "max=2560 high=0 partial=0 low=0 none=0")
    elif model.ecc == "on":
        put("retired_pages_pending", "no")


def put_mig(section: Section, model: Model) -> None:
    if not model.mig:
        return
    section.set("mig_mode", "off")
    section.set("mig_mode_pending", "off")
    section.set("mig_max_devices", max(profile.instances for profile in model.mig))
    section.pairs += [("mig_profile", profile.line()) for profile in model.mig]


def put_nvlinks(sections: list[Section], model: Model, wiring: str) -> None:
    """Wire the links: `switch` all to NVSwitch, `mesh` evenly to every other GPU, `pairs` a bridge per two, `none`."""
    if not model.nvlinks or wiring == "none":
        return
    count = len(sections)
    for index, section in enumerate(sections):
        section.set("nvlink_version", model.nvlink_version)
        section.set("nvlink_mbps", model.nvlink_mbps)
        others = [other for other in range(count) if other != index]
        partner = index ^ 1
        for link in range(model.nvlinks):
            if wiring == "switch":
                remote = "switch"
            elif wiring == "mesh":
                each = model.nvlinks // max(len(others), 1)
                remote = str(others[link // each]) if each and link // each < len(others) else "none"
            else:
                remote = str(partner) if partner < count else "none"
            section.pairs.append(("link", f"id={link} remote={remote} state={'off' if remote == 'none' else 'on'}"))


def default_wiring(model: Model, count: int) -> str:
    if model.nvswitch:
        return "switch" if count > 4 or model.architecture != "Ampere" else "mesh"
    return "mesh" if model.name.startswith("Tesla V100") else "pairs"


def make_topology(sections: list[Section], model: Model) -> Section:
    """Path between two GPUs, in nvidia-smi's words: PIX, PXB, PHB, NODE, SYS."""
    topology = Section("topology")
    for one, a in enumerate(sections):
        for two in range(one + 1, len(sections)):
            same_node = a.get("numa_node") == sections[two].get("numa_node")
            same_switch = one // 2 == two // 2 and not model.nvswitch
            topology.set(f"{one} {two}", "PIX" if same_node and same_switch else "NODE" if same_node else "SYS")
    return topology


def make_state(
    model: str = "H100", count: int = 1, driver: str = "550.54.15", *, seed: str | None = None,
    device_nodes: bool = True, numa: int | None = None, nvlink: str | None = None, flavor: str = "proprietary",
) -> State:  # fmt: skip
    """A machine with `count` boards of one model. `numa`: NUMA nodes, default 2 from four GPUs on."""
    if not 0 <= count <= 2 * len(BUSES) * 4:
        raise SimError(f"count {count}: want 0 to {2 * len(BUSES) * 4}")
    board = find_model(model)
    nodes = numa or (2 if count >= 4 else 1)
    seed = socket.gethostname() if seed is None else seed
    sections = []
    for index in range(count):
        node = index * nodes // count
        sections.append(make_gpu(board, index, driver, seed, node, cpu_list(node, nodes)))
    put_nvlinks(sections, board, nvlink or default_wiring(board, count))
    system = make_system(driver, device_nodes, flavor)
    return State([system, make_topology(sections, board), *sections])


# --- MIG ------------------------------------------------------------------------------------------------------------


def fields_of(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split())


def place(profile: dict[str, str], taken: set[int]) -> int:
    """First start at which the profile's memory slices are free, as the driver's own first fit; -1 if none."""
    size = int(profile["memory_slices"])
    for start in map(int, profile["starts"].split(",")):
        if not taken & set(range(start, start + size)):
            return start
    return -1


def instance_id(profile: dict[str, str], start: int) -> int:
    """GPU instance ids as the driver numbers them: 0 the whole, 1-2 halves, 3-6 quarters, 7-14 eighths."""
    size = int(profile["memory_slices"])
    first = {8: 0, 4: 1, 2: 3, 1: 7}[size]
    return first + start // size


def set_mig(section: Section, wanted: list[str]) -> None:
    """Turn MIG on with one GPU instance (and one compute instance) per profile name; [] leaves it on and empty."""
    known = {fields_of(line)["name"]: fields_of(line) for line in section.values("mig_profile")}
    if not known:
        raise SimError(f"[{section.name}] {section.get('name')} has no MIG")
    section.drop("mig")
    taken: set[int] = set()
    for name in wanted:
        if name not in known:
            raise SimError(f"[{section.name}] has no MIG profile {name!r}; it has {', '.join(known)}")
        start = place(known[name], taken)
        if start < 0:
            raise SimError(f"[{section.name}] no room for {name} after {wanted[: wanted.index(name)]}")
        taken |= set(range(start, start + int(known[name]["memory_slices"])))
        number = instance_id(known[name], start)
        identity = fixed_uuid(section.get("uuid"), number, 0, name)
        section.pairs.append(("mig", f"gi={number} ci=0 start={start} profile={name} uuid=MIG-{identity}"))
    section.set("mig_mode", "on")
    section.set("mig_mode_pending", "on")


def clear_mig(section: Section) -> None:
    section.drop("mig")
    if section.values("mig_profile"):
        section.set("mig_mode", "off")
        section.set("mig_mode_pending", "off")


def apply_mig(state: State, text: str) -> None:
    """`on` | `off` | [GPU:]PROFILE,PROFILE…; without a GPU number it goes for all of them."""
    number, colon, rest = text.partition(":")
    targets, layout = ([state.gpu(int(number))], rest) if colon else (state.gpus(), text)
    for section in targets:
        if layout == "off":
            clear_mig(section)
        else:
            set_mig(section, [] if layout == "on" else layout.split(","))


# --- what else a driver puts on a machine ---------------------------------------------------------------------------


def device_numbers(state: State) -> dict[str, tuple[int, int]]:
    """Names below /dev and their (major, minor)."""
    nodes = {
        "nvidiactl": (NVIDIA_MAJOR, 255),
        "nvidia-modeset": (NVIDIA_MAJOR, 254),
        # A real driver takes a free major number for these two; one that is free here may belong to another driver on
        # the machine below, so they get minor numbers that no GPU uses.
        "nvidia-uvm": (NVIDIA_MAJOR, 253),
        "nvidia-uvm-tools": (NVIDIA_MAJOR, 252),
    }
    for section in state.gpus():
        minor = int(section.get("minor", "0") or 0)
        nodes[f"nvidia{minor}"] = (NVIDIA_MAJOR, minor)
    return nodes


def make_node(path: Path, number: tuple[int, int], mode: int) -> None:
    if path.exists():
        return
    try:
        os.mknod(path, mode | stat.S_IFCHR, os.makedev(*number))
    except PermissionError:
        raise SimError(f"{path}: mknod is not permitted: needs root with CAP_MKNOD") from None
    path.chmod(mode)


def make_nodes(state: State, directory: Path) -> None:
    """Make the device nodes that are missing, and remove those of GPUs and MIG instances that are gone."""
    wanted = device_numbers(state)
    for name, number in wanted.items():
        make_node(directory / name, number, 0o666)
    for path in directory.glob("nvidia[0-9]*"):
        if path.name not in wanted:
            path.unlink()
    make_capability_nodes(state, directory / "nvidia-caps")


def capability_minors(state: State) -> dict[str, int]:
    """The minors of nvidia-caps under the names of mig-minors: for every instance that a GPU could have."""
    minors = {"config": MIG_CONFIG, "monitor": MIG_MONITOR}
    for section in state.gpus():
        if not section.values("mig_profile"):
            continue
        gpu = int(section.get("minor", "0") or 0)
        for gi in range(15):
            first = FIRST_INSTANCE + (gpu * 15 + gi) * 9
            minors[f"gpu{gpu}/gi{gi}/access"] = first
            minors.update({f"gpu{gpu}/gi{gi}/ci{ci}/access": first + 1 + ci for ci in range(8)})
    return minors


def capabilities(state: State) -> dict[str, tuple[int, int]]:
    """The capability files below /proc/driver/nvidia/capabilities: (minor of nvidia-caps, mode of its node)."""
    minors = capability_minors(state)
    files = {"mig/config": (minors["config"], 0o400), "mig/monitor": (minors["monitor"], 0o444)}
    for section in state.gpus():
        gpu = section.get("minor", "0")
        for line in section.values("mig") if section.get("mig_mode") == "on" else []:
            instance = fields_of(line)
            for names in ((f"gi{instance['gi']}",), (f"gi{instance['gi']}", f"ci{instance.get('ci', 0)}")):
                minor = minors["/".join([f"gpu{gpu}", *names, "access"])]
                files["/".join([f"gpu{gpu}", "mig", *names, "access"])] = (minor, 0o444)
    return files


def make_capability_nodes(state: State, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    wanted = {f"nvidia-cap{minor}": (minor, mode) for minor, mode in capabilities(state).values()}
    for name, (minor, mode) in wanted.items():
        make_node(directory / name, (CAPS_MAJOR, minor), mode)
    for path in directory.glob("nvidia-cap*"):
        if path.name not in wanted:
            path.unlink()


def proc_version(system: Section) -> str:
    driver, built = system.get("driver_version"), "Tue Mar  5 22:23:56 UTC 2024"
    if system.get("module_flavor") == "open":
        module = f"NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build  (builder@localhost)"
    else:
        module = f"NVIDIA UNIX x86_64 Kernel Module  {driver}"
    return f"NVRM version: {module}  {built}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1) \n"


def linux_address(section: Section) -> str:
    """NVML's 00000000:1B:00.0 as Linux writes it: 0000:1b:00.0."""
    return (section.get("pci_bus_id") or "").lower()[4:]


def proc_information(section: Section, driver: str) -> str:
    lines = {
        "Model": section.get("name"), "IRQ": 18, "GPU UUID": section.get("uuid"),
        "Video BIOS": (section.get("vbios_version") or "").lower(), "Bus Type": "PCIe", "DMA Size": "52 bits",
        "DMA Mask": "0xfffffffffffff", "Bus Location": linux_address(section), "Device Minor": section.get("minor"),
        "GPU Firmware": (section.get("gsp_firmware_version") and driver) or "N/A", "GPU Excluded": "No",
    }  # fmt: skip
    return "".join(f"{name + ':':<16}\t {value}\n" for name, value in lines.items())


def write_capabilities(state: State, directory: Path) -> None:
    """What /proc/driver/nvidia/capabilities holds: for each capability which node below /dev/nvidia-caps it is."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, (minor, mode) in capabilities(state).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n")
        path.chmod(mode)


def write_minors(state: State, directory: Path) -> None:
    """What /proc/driver/nvidia-caps holds."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} {minor}\n" for name, minor in capability_minors(state).items()]
    (directory / "mig-minors").write_text("".join(lines))


def write_proc(state: State, directory: Path) -> None:
    """What /proc/driver/nvidia and /proc/driver/nvidia-caps hold; an unloaded driver leaves nothing there."""
    caps = directory.with_name("nvidia-caps")
    shutil.rmtree(caps, ignore_errors=True)
    if directory.exists():
        for child in directory.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    if state.system.get("loaded") != "yes":
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "version").write_text(proc_version(state.system))
    (directory / "params").write_text(
        "EnableMSI: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\nModifyDeviceFiles: 1\n"
        "PreserveVideoMemoryAllocations: 0\nEnableGpuFirmware: 18\n"
    )
    write_capabilities(state, directory / "capabilities")
    write_minors(state, caps)
    for section in state.gpus():
        place_ = directory / "gpus" / linux_address(section)
        place_.mkdir(parents=True)
        (place_ / "information").write_text(proc_information(section, state.system.get("driver_version") or ""))


def write_nvswitch(place_: Path) -> None:
    """An NVSwitch of the third generation (HGX H100), which is a bridge on the PCI bus."""
    place_.mkdir(parents=True, exist_ok=True)
    files = {"vendor": "0x10de", "device": "0x22a3", "subsystem_vendor": "0x10de", "subsystem_device": "0x1796",
             "class": "0x068000", "revision": "0xa1", "numa_node": "0"}  # fmt: skip
    for name, value in files.items():
        (place_ / name).write_text(f"{value}\n")


def write_sysfs(state: State, directory: Path) -> None:
    """GPUs and NVSwitches as /sys/bus/pci/devices shows them, with a driver link while the driver is loaded."""
    for number in range(int(state.system.get("nvswitches", "0") or 0)):
        write_nvswitch(directory / f"0000:{5 + number:02x}:00.0")
    for section in state.gpus():
        place_ = directory / linux_address(section)
        place_.mkdir(parents=True, exist_ok=True)
        device = int(section.get("pci_device_id") or "0", 16)
        subsystem = int(section.get("pci_subsystem_id") or "0", 16)
        graphics = section.get("display_mode") == "on"
        files = {
            "vendor": f"0x{device & 0xFFFF:04x}", "device": f"0x{device >> 16:04x}",
            "subsystem_vendor": f"0x{subsystem & 0xFFFF:04x}", "subsystem_device": f"0x{subsystem >> 16:04x}",
            "class": "0x030000" if graphics else "0x030200", "revision": "0xa1",
            "numa_node": section.get("numa_node"), "local_cpulist": section.get("cpus"),
            "modalias": f"pci:v{device & 0xFFFF:08X}d{device >> 16:08X}sv{subsystem & 0xFFFF:08X}"
                        f"sd{subsystem >> 16:08X}bc03sc{'00' if graphics else '02'}i00",
        }  # fmt: skip
        for name, value in files.items():
            (place_ / name).write_text(f"{value}\n")
        link = place_ / "driver"
        if link.is_symlink():
            link.unlink()
        if state.system.get("loaded") == "yes":
            link.symlink_to("../../../bus/pci/drivers/nvidia")


def follow_mig(state: State, path: Path) -> None:
    """On a simulated node the files of MIG instances come and go with them, as `nvidia-smi mig` sees to it."""
    if path != DEFAULT_STATE or state.system.get("device_nodes") != "on":
        return
    dev, proc = Path("/dev/nvidia-caps"), Path("/proc/driver/nvidia/capabilities")
    if dev.is_dir():
        make_capability_nodes(state, dev)
    if proc.is_dir():
        write_capabilities(state, proc)


# --- things that happen ---------------------------------------------------------------------------------------------


def lose(state: State, number: int) -> None:
    state.gpu(number).set("lost", "yes")


def restore(state: State, number: int) -> None:
    state.gpu(number).set("lost", "no")


def target(state: State, wanted: str) -> str:
    """The fields that stand for a GPU, by its number or UUID, or for a MIG device, by its UUID."""
    for section in state.gpus():
        number = section.name.split()[1]
        if wanted in (number, section.get("uuid")):
            return f" gpu={number}"
        for line in section.values("mig"):
            instance = fields_of(line)
            if instance["uuid"] == wanted:
                return f" gpu={number} gi={instance['gi']} ci={instance.get('ci', 0)}"
    raise SimError(f"no GPU and no MIG device {wanted!r}")


def fail(state: State, arguments: argparse.Namespace) -> None:
    """Tell a function to answer an error, or take back what was told."""
    faults = state.faults
    if arguments.clear:
        kept = [(key, line) for key, line in faults.pairs if key == "fault" and not cleared(line, arguments.function)]
        faults.pairs = [pair for pair in faults.pairs if pair[0] != "fault"] + kept
        return
    if not arguments.function or not re.fullmatch(r"[\w*?]+", arguments.function):
        raise SimError(f"{arguments.function!r} is no function of NVML, nor a pattern such as nvmlDeviceGet*")
    if arguments.code is None or not 0 < arguments.code < 2**31:
        raise SimError("--code: want an error of NVML (nvmlReturn_t), such as 15 for a lost GPU")
    if arguments.calls is not None and arguments.calls < 1:
        raise SimError(f"--calls {arguments.calls}: want 1 or more")
    number = int(faults.get("last") or 0) + 1  # never used again: processes count the calls by it
    faults.set("last", number)
    where = target(state, arguments.gpu) if arguments.gpu else ""
    calls = f" calls={arguments.calls}" if arguments.calls else ""
    faults.pairs.append(("fault", f"id={number} function={arguments.function} code={arguments.code}{where}{calls}"))


def cleared(line: str, function: str | None) -> bool:
    return function is None or fields_of(line)["function"] == function


def unload(state: State) -> None:
    state.system.set("loaded", "no")


def load_driver(state: State) -> None:
    """Load the module that fits the installed library; processes of before must initialise NVML again."""
    system = state.system
    system.set("driver_version", system.get("library_version"))
    system.set("loaded", "yes")
    system.set("generation", int(system.get("generation", "0") or 0) + 1)


def library_mismatch(state: State, version: str | None) -> None:
    """The packages were upgraded, the loaded module was not."""
    major, minor, *patch = (state.system.get("driver_version") or "0.0").split(".")
    library = version or ".".join([major, str(int(minor) + 1), *patch])
    state.system.set("library_version", library)
    state.system.set("nvml_version", nvml_version_of(library))


def install_libraries(state: State, path: Path) -> None:
    """On a simulated node: the libraries under the names that the installed driver's version gives them."""
    if path != DEFAULT_STATE or not DRIVER_FILES.is_dir():
        return
    version = state.system.get("library_version")
    for source in DRIVER_FILES.glob("*.so.1"):
        name = source.name[: -len(".1")]
        if (LIBRARIES / f"{name}.{version}").exists():
            continue
        for old in LIBRARIES.glob(f"{name}.*"):
            old.unlink()
        shutil.copy2(source, LIBRARIES / f"{name}.{version}")
        (LIBRARIES / source.name).symlink_to(f"{name}.{version}")
    subprocess.run(["ldconfig"], check=True)


# --- the command line -----------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="nvml-sim", description="Simulated NVIDIA GPUs: describe them, break them.")
    default = os.environ.get("NVML_SIM_STATE") or str(DEFAULT_STATE)
    root.add_argument("--state", type=Path, default=Path(default), help=f"state file (default {default})")
    commands = root.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        command.add_argument("--state", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return command

    init = add("init", "describe a machine")
    init.add_argument("--model", default="H100", help=", ".join(sorted(MODELS)))
    init.add_argument("--count", type=int, default=1)
    init.add_argument("--driver", default="550.54.15")
    init.add_argument("--flavor", choices=("proprietary", "open"), default="proprietary", help="kernel module")
    init.add_argument("--mig", action="append", default=[], help="on | off | [GPU:]PROFILE,PROFILE… (repeatable)")
    init.add_argument("--device-nodes", choices=("on", "off"), default="on")
    init.add_argument("--numa", type=int, help="NUMA nodes (default 2 from four GPUs on)")
    init.add_argument("--nvswitches", type=int, default=0, help="on the PCI bus (up to 22)")
    init.add_argument("--nvlink", choices=("switch", "mesh", "pairs", "none"))
    init.add_argument("--seed", help="UUIDs and serial numbers follow from it (default: host name)")
    xid = add("xid", "report a critical XID")
    xid.add_argument("gpu", type=int)
    xid.add_argument("code", type=int)
    xid.add_argument("instance", type=int, nargs="*", help="GPU instance id and compute instance id")
    event = add("event", "report any other event")
    event.add_argument("gpu", type=int)
    event.add_argument("type", help="event type as in nvml.h: 1, 0x100")
    event.add_argument("data", help="event data", nargs="?", default="0")
    for name, text in (("lose", "a GPU falls off the bus (with XID 79)"), ("restore", "and comes back")):
        add(name, text).add_argument("gpu", type=int)
    add("unload", "unload the driver")
    add("load", "load it again")
    mismatch = add("library-mismatch", "the library is newer than the loaded module")
    mismatch.add_argument("version", nargs="?")
    mig = add("mig", "change MIG: on | off | [GPU:]PROFILE,PROFILE…")
    mig.add_argument("layout")
    setter = add("set", "set one value of a GPU, or of `system`")
    setter.add_argument("where", help="GPU number or system")
    setter.add_argument("key")
    setter.add_argument("value", help="`-` removes the key: not supported")
    failing = add("fail", "have a function answer an error until it is taken back")
    failing.add_argument("function", nargs="?", help="such as nvmlDeviceGetMemoryInfo, or a pattern: 'nvmlDeviceGet*'")
    failing.add_argument("--code", type=int, help="nvmlReturn_t: 4 no permission, 15 lost, 999 unknown")
    failing.add_argument("--gpu", help="number or UUID of a GPU, or UUID of a MIG device (default: all)")
    failing.add_argument("--calls", type=int, help="how many calls of each process (default: all)")
    failing.add_argument("--clear", action="store_true", help="take back what was told to this function, or to all")
    add("show", "print the state")
    nodes = add("nodes", "make /dev/nvidia*")
    nodes.add_argument("directory", type=Path, nargs="?", default=Path("/dev"))
    add("proc", "write what /proc/driver/nvidia holds").add_argument("directory", type=Path)
    add("sysfs", "write the GPUs as /sys/bus/pci/devices shows them").add_argument("directory", type=Path)
    return root


def init_from(arguments: argparse.Namespace) -> State:
    state = make_state(
        arguments.model, arguments.count, arguments.driver, seed=arguments.seed,
        device_nodes=arguments.device_nodes == "on", numa=arguments.numa, nvlink=arguments.nvlink,
        flavor=arguments.flavor,
    )  # fmt: skip
    if arguments.nvswitches:
        state.system.set("nvswitches", arguments.nvswitches)
    for layout in arguments.mig:
        apply_mig(state, layout)
    return state


def change(state: State, arguments: argparse.Namespace) -> None:
    """The commands that change the state file."""
    command = arguments.command
    if command == "lose":
        lose(state, arguments.gpu)
    elif command == "restore":
        restore(state, arguments.gpu)
    elif command == "unload":
        unload(state)
    elif command == "load":
        load_driver(state)
    elif command == "library-mismatch":
        library_mismatch(state, arguments.version)
    elif command == "mig":
        apply_mig(state, arguments.layout)
    elif command == "fail":
        fail(state, arguments)
    elif command == "set":
        where = state.system if arguments.where == "system" else state.gpu(int(arguments.where))
        where.drop(arguments.key) if arguments.value == "-" else where.set(arguments.key, arguments.value)


def report(state: State, arguments: argparse.Namespace) -> None:
    """The commands that leave the state as it is."""
    command = arguments.command
    if command == "show":
        print(state.text(), end="")
    elif command == "xid":
        state.gpu(arguments.gpu)
        words = ["xid", arguments.gpu, arguments.code, *arguments.instance]
        append_event(arguments.state, " ".join(map(str, words)))
    elif command == "event":
        state.gpu(arguments.gpu)
        append_event(arguments.state, f"event {arguments.gpu} {arguments.type} {arguments.data}")
    elif command == "nodes":
        make_nodes(state, arguments.directory)
    elif command == "proc":
        write_proc(state, arguments.directory)
    elif command == "sysfs":
        write_sysfs(state, arguments.directory)


def run(arguments: argparse.Namespace) -> None:
    if arguments.command == "init":
        state = init_from(arguments)
        install_libraries(state, arguments.state)
        save(state, arguments.state)
        events_path(arguments.state).touch()
        return
    state = load(arguments.state)
    if arguments.command in {"show", "xid", "event", "nodes", "proc", "sysfs"}:
        report(state, arguments)
        return
    change(state, arguments)
    install_libraries(state, arguments.state)
    if arguments.command == "mig":  # before the state: who sees an instance may use it
        follow_mig(state, arguments.state)
    if arguments.command == "lose":  # before the state: who waits gets the XID first, then the error
        append_event(arguments.state, f"xid {arguments.gpu} {XID_FELL_OFF_THE_BUS}")
    save(state, arguments.state)


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        run(arguments)
    except SimError as error:
        print(f"nvml-sim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
