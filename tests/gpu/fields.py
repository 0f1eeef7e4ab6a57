"""What nvidia-smi calls the facts: in --query-gpu, and in the XML of -q -x. Read from its help, not from our reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MIB = 1024 * 1024
NOTHING = {"", "n/a", "[n/a]", "[not supported]", "not supported", "requested functionality has been deprecated"}

Value = str | int | float | bool | None


def text(value: str) -> Value:
    return value


def lower(value: str) -> Value:
    return value.lower().replace(" ", "_")


def whole(value: str) -> Value:
    return int(re.sub(r"\D.*$", "", value))


def watts(value: str) -> Value:
    return round(float(value.split()[0]), 2)


def mebibytes(value: str) -> Value:
    return int(value.split()[0]) * MIB


def yes(value: str) -> Value:
    return value.lower() == "yes"


def address(value: str) -> Value:
    return value.lower()[-12:]


def upper_half(value: str) -> Value:
    return "0x" + value.lower().replace("0x", "")[:4]


@dataclass(frozen=True)
class Field:
    """A fact by its path, how nvidia-smi names it (None: it does not), and how its text becomes our value.

    ``moves``: by how much two looks may differ, as a part of the value; None: not at all.
    """

    fact: str
    query: str | None
    xml: str | None
    convert: Callable[[str], Value] = text
    moves: float | None = None
    hidden: bool = False


LINK = "pci/pci_gpu_link_info/"
POWER = "gpu_power_readings/"
ROWS = "remapped_rows/remapped_row_"
FIELDS = (
    Field("index", "index", None, whole),
    Field("minor_number", None, "minor_number", whole),
    Field("uuid", "uuid", "uuid", hidden=True),
    Field("serial", "serial", "serial", hidden=True),
    Field("name", "name", "product_name"),
    Field("brand", None, "product_brand"),
    Field("architecture", None, "product_architecture"),
    Field("compute_capability", "compute_cap", None),
    Field("vbios_version", "vbios_version", "vbios_version"),
    Field("board_part_number", None, "board_part_number"),
    Field("gsp_firmware_version", None, "gsp_firmware_version"),
    Field("memory_total_bytes", "memory.total", "fb_memory_usage/total", mebibytes),
    Field("memory_reserved_bytes", "memory.reserved", "fb_memory_usage/reserved", mebibytes, 0.05),
    Field("memory_used_bytes", "memory.used", "fb_memory_usage/used", mebibytes, 0.2),
    Field("memory_free_bytes", "memory.free", "fb_memory_usage/free", mebibytes, 0.2),
    Field("bar1_total_bytes", None, "bar1_memory_usage/total", mebibytes),
    Field("pci.bus_id", "pci.bus_id", "pci/pci_bus_id", address),
    Field("pci.device_id", "pci.device_id", "pci/pci_device_id", upper_half),
    Field("pci.subsystem_device_id", "pci.sub_device_id", "pci/pci_sub_system_id", upper_half),
    Field("pci.link_generation_max", "pcie.link.gen.max", LINK + "pcie_gen/max_link_gen", whole),
    Field("pci.link_generation_current", "pcie.link.gen.current", LINK + "pcie_gen/current_link_gen", whole, 1),
    Field("pci.link_width_max", "pcie.link.width.max", LINK + "link_widths/max_link_width", whole),
    Field("pci.link_width_current", "pcie.link.width.current", LINK + "link_widths/current_link_width", whole),
    Field("mig.mode", "mig.mode.current", "mig_mode/current_mig", lower),
    Field("mig.pending_mode", "mig.mode.pending", "mig_mode/pending_mig", lower),
    Field("ecc.mode", "ecc.mode.current", "ecc_mode/current_ecc", lower),
    Field("ecc.pending_mode", "ecc.mode.pending", "ecc_mode/pending_ecc", lower),
    Field("ecc.volatile.corrected", "ecc.errors.corrected.volatile.total", None, whole),
    Field("ecc.volatile.uncorrected", "ecc.errors.uncorrected.volatile.total", None, whole),
    Field("ecc.aggregate.corrected", "ecc.errors.corrected.aggregate.total", None, whole),
    Field("ecc.aggregate.uncorrected", "ecc.errors.uncorrected.aggregate.total", None, whole),
    Field(
        "retired_pages.single_bit",
        "retired_pages.single_bit_ecc.count",
        "retired_pages/multiple_single_bit_retirement/retired_count",
        whole,
    ),
    Field(
        "retired_pages.double_bit",
        "retired_pages.double_bit.count",
        "retired_pages/double_bit_retirement/retired_count",
        whole,
    ),
    Field("retired_pages.pending", "retired_pages.pending", "retired_pages/pending_retirement", yes),
    Field("remapped_rows.correctable", None, ROWS + "corr", whole),
    Field("remapped_rows.uncorrectable", None, ROWS + "unc", whole),
    Field("remapped_rows.pending", None, ROWS + "pending", yes),
    Field("remapped_rows.failed", None, ROWS + "failure", yes),
    Field("persistence_mode", "persistence_mode", "persistence_mode", lower),
    Field("compute_mode", "compute_mode", "compute_mode", lower),
    Field("performance_state", "pstate", "performance_state", moves=1),
    Field("power.draw_watts", "power.draw", POWER + "power_draw", watts, 0.5),
    Field("power.limit_watts", "enforced.power.limit", POWER + "current_power_limit", watts),
    Field("power.limit_default_watts", "power.default_limit", POWER + "default_power_limit", watts),
    Field("power.limit_min_watts", "power.min_limit", POWER + "min_power_limit", watts),
    Field("power.limit_max_watts", "power.max_limit", POWER + "max_power_limit", watts),
    Field("clocks.graphics_mhz", "clocks.gr", "clocks/graphics_clock", whole, 1),
    Field("clocks.sm_mhz", "clocks.sm", "clocks/sm_clock", whole, 1),
    Field("clocks.memory_mhz", "clocks.mem", "clocks/mem_clock", whole, 1),
    Field("clocks.video_mhz", "clocks.video", "clocks/video_clock", whole, 1),
    Field("clocks.graphics_max_mhz", "clocks.max.gr", "max_clocks/graphics_clock", whole),
    Field("clocks.sm_max_mhz", "clocks.max.sm", "max_clocks/sm_clock", whole),
    Field("clocks.memory_max_mhz", "clocks.max.mem", "max_clocks/mem_clock", whole),
    Field("clocks.video_max_mhz", None, "max_clocks/video_clock", whole),
    Field("temperature.gpu_celsius", "temperature.gpu", "temperature/gpu_temp", whole, 0.2),
    Field("temperature.memory_celsius", "temperature.memory", "temperature/memory_temp", whole, 0.2),
    # From Ada on sums of the temperature and the distance to it, which are not read in one moment.
    Field("temperature.gpu_max_celsius", None, "temperature/gpu_temp_max_gpu_threshold", whole, 0.03),
    Field("temperature.slowdown_celsius", None, "temperature/gpu_temp_slow_threshold", whole, 0.03),
    Field("temperature.shutdown_celsius", None, "temperature/gpu_temp_max_threshold", whole, 0.03),
    Field("fan_speed_percent", "fan.speed", "fan_speed", whole, 0.5),
    Field("utilization.gpu_percent", "utilization.gpu", "utilization/gpu_util", whole, 1),
    Field("utilization.memory_percent", "utilization.memory", "utilization/memory_util", whole, 1),
)


def value_of(field: Field, raw: str | None) -> Value:
    """nvidia-smi's text as the fact's value; None where it has none."""
    if raw is None or raw.strip().lower() in NOTHING:
        return None
    try:
        return field.convert(raw.strip())
    except ValueError:
        return raw.strip()  # no value that we know, so that it differs and is seen


def look_up(facts: dict[str, object], path: str) -> Value:
    """The fact at a path like ``pci.bus_id``."""
    value: object = facts
    for key in path.split("."):
        assert isinstance(value, dict)
        value = value[key]
    assert value is None or isinstance(value, (str, int, float, bool))
    return value


def agree(field: Field, one: Value, other: Value) -> bool:
    """Whether two looks at the same thing may both be true."""
    if one == other:
        return True
    if one is None or other is None or field.moves is None:
        return False
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        # Small numbers move by steps: a degree, a MiB.
        slack = 2 * MIB if field.convert is mebibytes else 3
        return abs(one - other) <= max(field.moves * max(abs(one), abs(other)), slack)
    return field.moves >= 1
