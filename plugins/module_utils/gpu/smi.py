# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GPU facts from ``nvidia-smi -q -x``: the same dict as from NVML, as far as that output goes.

What that output lacks comes from elsewhere: ``uuid`` and ``profile`` of MIG instances from ``nvidia-smi -L``, the
compute capability from ``--query-gpu=compute_cap`` (which drivers before 510 do not know), NVLinks from ``nvlink -s``
and ``nvlink -p``, topology from ``topo -m``. Memory is cut to whole MiB, and ``nvml_version`` is composed of CUDA's
major and the driver's version, as NVML composes it.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Sequence
from xml.etree import ElementTree

from . import topology
from .errors import NVML_KINDS, SourceError
from .shape import (
    CLOCK_EVENT_REASONS,
    FABRIC_STATES,
    architecture_of,
    bus_id,
    empty_gpu,
    empty_mig_instance,
    merge_processes,
    nvlink_peers,
    pci_ids,
)
from .subsets import SUBSETS

# "… for GPU 0000:3B:00.0: GPU is lost." of older, "… for GPU1: 0000:3B:00.0: Unknown Error" of newer drivers; some name
# only the index.
_LOST = re.compile(
    r"Unable to determine the device handle for GPU\s*"
    r"(?:(?P<index>\d{1,3})(?=:))?(?::?\s*(?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]))?"
    r":\s*(?P<why>.*)"
)
# What nvidia-smi writes in the place of a value that it could not get.
_NO_VALUE = {
    "",
    "n/a",
    "[n/a]",
    "none",
    "not supported",
    "[not supported]",
    "not available",
    "unknown error",
    "[unknown error]",
    "err!",
    "gpu is lost",
    "[gpu is lost]",
    "insufficient permissions",
    "requested functionality has been deprecated",
}
_LOST_VALUES = {"gpu is lost", "[gpu is lost]"}
_MIG_LINE = re.compile(r"^\s+MIG\s+(?P<profile>\S+)\s+Device\s+(?P<index>\d+):\s+\(UUID:\s+(?P<uuid>[^)\s]+)\)")
_GPU_LINE = re.compile(r"^GPU\s+\d+:\s.*\(UUID:\s+(?P<uuid>[^)\s]+)\)")
# " Link 3: 26.562 GB/s" and " Link 3: <inactive>" of nvlink -s; what nvlink -p puts before the address varies.
_LINK_STATE = re.compile(r"^\s+Link\s+(?P<link>\d+):\s*(?P<state>\S.*)$")
_LINK_END = re.compile(r"^\s+Link\s+(?P<link>\d+)[:,].*?(?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])")
_SPEED = re.compile(r"^(\d+(?:\.\d+)?)\s*GB/s$")
_MIB = 1024 * 1024


def read(
    run: Callable[..., tuple[int, str, str]], addresses: Sequence[str] = (), chosen: frozenset[str] = frozenset(SUBSETS)
) -> dict[str, Any]:
    """What nvidia-smi tells of the chosen subsets.

    Args:
        run (Callable[[list[str]], tuple[int, str, str]]): runs ``nvidia-smi`` with these arguments; answers exit
            status, standard output and standard error. Raises SourceError when it cannot.
        addresses (Sequence[str]): PCI addresses of the GPUs as sysfs writes and sorts them, to go round a lost one.
        chosen (frozenset[str]): subsets; see ``subsets.choose``.

    Returns:
        dict: as ``nvml.read``.

    Raises:
        SourceError: ``-q -x`` failed, or wrote what is no XML. What the other calls would add stays None where they
            fail; ``unanswered`` of the result then says which.
    """
    status, output, errors = run(["-q", "-x"])
    lost = lost_gpus(output + "\n" + errors, addresses)
    selection = []
    if "<nvidia_smi_log" not in output:
        if "no devices were found" in (output + errors).lower():
            # The driver answers, and has no GPU: NVML counts zero in this case.
            return _result([])
        # Older nvidia-smi give up at the first GPU that is lost; ask for the others by name.
        others = [address for address in addresses if address not in lost]
        selection = ["-i", ",".join(others)]
        again = run(["-q", "-x", *selection])[1] if lost and others else ""
        if "<nvidia_smi_log" not in again:
            if lost and not others:
                return _result(_with_lost([], lost))
            raise failure(status, output, errors)
        output = again
    result = parse(output)
    result["gpus"] = _with_lost(result["gpus"], lost)
    result["count"] = len(result["gpus"])
    if "gpus" not in chosen:
        result["gpus"] = []
    unanswered = []

    def more(*arguments: str) -> str:
        """Standard output of a call that adds to what is known; empty where it hangs or cannot be started."""
        try:
            return run([*arguments, *selection])[1]
        except SourceError as error:
            unanswered.append(f"nvidia-smi {arguments[0]}: {error.detail}")
            return ""

    if "mig" in chosen and any(gpu["mig"]["instances"] for gpu in result["gpus"]):
        add_mig_names(result["gpus"], more("-L"))
    if result["gpus"]:
        add_compute_capabilities(result["gpus"], more("--query-gpu=pci.bus_id,compute_cap", "--format=csv,noheader"))
    if "nvlink" in chosen:
        states = more("nvlink", "-s")
        # Nobody answers at the other end of links that are all down.
        ends = more("nvlink", "-p") if "GB/s" in states else ""
        add_nvlinks(result["gpus"], states, ends)
    if "topology" in chosen:
        selection = []  # topo takes no selection
        result["topology"] = topology.parse(more("topo", "-m") if len(result["gpus"]) > 1 else "", result["gpus"])
    result["unanswered"] = unanswered
    return result


def failure(status: int, output: str, errors: str) -> SourceError:
    """Why nvidia-smi failed.

    Args:
        status (int): its exit status, one of NVML's numbers, or 255.
        output (str): its standard output, where it also writes its errors.
        errors (str): its standard error.

    Returns:
        SourceError: with the cause and nvidia-smi's own words.
    """
    words = " ".join((output + "\n" + errors).split())
    detail = f"nvidia-smi: {words or f'no output, exit status {status}'}"
    lower = words.lower()
    for sign, kind in (
        ("driver/library version mismatch", "version_mismatch"),
        ("couldn't communicate with the nvidia driver", "driver_not_loaded"),
        ("driver not loaded", "driver_not_loaded"),
        ("couldn't find libnvidia-ml", "library_missing"),
        ("insufficient permissions", "no_permission"),
        ("gpu is lost", "gpu_lost"),
        ("unable to determine the device handle", "gpu_lost"),
    ):
        if sign in lower:
            return SourceError(kind, detail)
    return SourceError(NVML_KINDS.get(status, "unknown"), detail)


def lost_gpus(text: str, addresses: Sequence[str] = ()) -> dict[str, str]:
    """The GPUs that nvidia-smi had to leave out.

    Args:
        text (str): what nvidia-smi wrote beside its XML.
        addresses (Sequence[str]): PCI addresses of all GPUs in the order of the bus, for those named by index alone.

    Returns:
        dict[str, str]: PCI address as sysfs writes it -> nvidia-smi's reason.
    """
    lost = {}
    for match in _LOST.finditer(text):
        address = bus_id(match.group("bus"))
        index = int(match.group("index") or len(addresses))
        if address is None and index < len(addresses):
            address = addresses[index]
        if address is not None:
            lost[address] = match.group("why").strip()
    return lost


def parse(text: str) -> dict[str, Any]:
    """GPU facts from the XML alone.

    Args:
        text (str): output of ``nvidia-smi -q -x``, with warnings before or after the document.

    Returns:
        dict: as ``nvml.read``.

    Raises:
        SourceError: ``unknown``, when the document is no XML; names line and column.
    """
    start = max(text.find("<nvidia_smi_log"), 0)
    end = text.rfind("</nvidia_smi_log>")
    document = text[start : end + len("</nvidia_smi_log>")] if end >= 0 else text[start:]
    try:
        # The output of a tool of root's on this very machine, without the DTD that it names.
        root = ElementTree.fromstring(document)  # noqa: S314
    except ElementTree.ParseError as error:
        raise SourceError("unknown", f"nvidia-smi -q -x: its output is no XML: {error}") from error
    gpus = [_gpu(element) for element in root.findall("gpu")]
    for index, gpu in enumerate(gpus):
        gpu["index"] = index
    return _result(gpus, _text(root, "driver_version"), _text(root, "cuda_version"))


def add_mig_names(gpus: list[dict[str, Any]], listing: str) -> None:
    """Adds UUID and profile of MIG instances.

    Args:
        gpus (list[dict]): as ``parse`` returns them; changed in place.
        listing (str): output of ``nvidia-smi -L``.
    """
    instances = {}
    parent = None
    for line in listing.splitlines():
        head, mig = _GPU_LINE.match(line), _MIG_LINE.match(line)
        if head:
            parent = head.group("uuid")
        elif mig:
            instances[parent, int(mig.group("index"))] = mig
    for gpu in gpus:
        for instance in gpu["mig"]["instances"]:
            named = instances.get((gpu["uuid"], instance["index"]))
            if named:
                instance["uuid"] = instance["uuid"] or named.group("uuid")
                instance["profile"] = named.group("profile")


def add_compute_capabilities(gpus: list[dict[str, Any]], table: str) -> None:
    """Adds compute capabilities, and the architectures that follow from them where nvidia-smi prints none.

    Args:
        gpus (list[dict]): as ``parse`` returns them; changed in place.
        table (str): output of ``nvidia-smi --query-gpu=pci.bus_id,compute_cap --format=csv,noheader``.
    """
    known = {}
    for line in table.splitlines():
        address, comma, capability = line.partition(",")
        if comma and re.match(r"^\d+\.\d+$", capability.strip()):
            known[bus_id(address)] = capability.strip()
    for gpu in gpus:
        if gpu["pci"]["bus_id"] and not gpu["lost"]:
            gpu["compute_capability"] = known.get(gpu["pci"]["bus_id"])
            gpu["architecture"] = gpu["architecture"] or architecture_of(gpu["compute_capability"])


def add_nvlinks(gpus: list[dict[str, Any]], states: str, ends: str) -> None:
    """Adds NVLinks.

    Args:
        gpus (list[dict]): as ``parse`` returns them; changed in place.
        states (str): output of ``nvidia-smi nvlink -s``.
        ends (str): output of ``nvidia-smi nvlink -p``.
    """
    addresses = {gpu["pci"]["bus_id"] for gpu in gpus}
    speeds = _by_gpu(states, _LINK_STATE, lambda match: _SPEED.match(match.group("state").strip()))
    others = _by_gpu(ends, _LINK_END, lambda match: bus_id(match.group("bus")))
    for gpu in gpus:
        links = speeds.get(gpu["uuid"])
        if not links:
            continue
        # A link without a speed is down; whatever else it says, it carries nothing.
        active = [link for link, speed in sorted(links.items()) if speed]
        first = links[active[0]] if active else None
        gpu["nvlink"] = {
            "links_total": len(links),
            "links_up": len(active),
            "link_megabytes_per_second": round(float(first.group(1)) * 1000) if first else None,
            "peers": nvlink_peers([others.get(gpu["uuid"], {}).get(link) for link in active], addresses),
        }


def _by_gpu(text: str, pattern: re.Pattern[str], value: Callable[[re.Match[str]], Any]) -> dict[str, Any]:
    """UUID -> number of the link -> value, from one of ``nvidia-smi nvlink``'s reports."""
    found: dict[str, Any] = {}
    uuid = None
    for line in text.splitlines():
        head, match = _GPU_LINE.match(line), pattern.match(line)
        if head:
            uuid = head.group("uuid")
        elif match and uuid:
            found.setdefault(uuid, {})[int(match.group("link"))] = value(match)
    return found


def _result(gpus: list[dict[str, Any]], driver: str | None = None, cuda: str | None = None) -> dict[str, Any]:
    return {
        "driver_version": driver,
        "cuda_version": cuda,
        "nvml_version": f"{cuda.partition('.')[0]}.{driver}" if driver and cuda else None,
        "count": len(gpus),
        "gpus": gpus,
        "topology": None,
    }


def _with_lost(gpus: list[dict[str, Any]], lost: dict[str, str]) -> list[dict[str, Any]]:
    """The GPUs with the lost ones among them, numbered in the order of the PCI bus, as NVML numbers them."""
    known = {gpu["pci"]["bus_id"] for gpu in gpus}
    for address, why in lost.items():
        if address not in known:
            gpu = empty_gpu()
            gpu["pci"]["bus_id"] = address
            gpu["lost"] = True
            gpu["error"] = f"nvidia-smi: {why}"
            gpus.append(gpu)
    if lost:
        gpus.sort(key=lambda gpu: gpu["pci"]["bus_id"] or "")
        for index, gpu in enumerate(gpus):
            gpu["index"] = index
    return gpus


def _text(element: ElementTree.Element, path: str) -> str | None:
    """The text at ``path``; None where it is missing or stands for "no value"."""
    value = (element.findtext(path) or "").strip()
    return None if value.lower() in _NO_VALUE else value


def _number(element: ElementTree.Element, *paths: str) -> float | None:
    """The first number (with its unit cut off) that one of the paths has; int where it is whole, else float."""
    for path in paths:
        match = re.match(r"^(-?\d+(?:\.\d+)?)", _text(element, path) or "")
        if match:
            return float(match.group(1)) if "." in match.group(1) else int(match.group(1))
    return None


def _watts(element: ElementTree.Element, *paths: str) -> float | None:
    value = _number(element, *paths)
    return None if value is None else round(float(value), 2)


def _flag(element: ElementTree.Element, *paths: str) -> bool | None:
    for path in paths:
        value = _text(element, path)
        if value is not None:
            return value.lower() in ("yes", "enabled", "active")
    return None


def _mode(element: ElementTree.Element, path: str) -> str | None:
    value = (_text(element, path) or "").lower()
    return value if value in ("enabled", "disabled") else None


def _bytes(element: ElementTree.Element, path: str) -> int | None:
    mebibytes = _number(element, path)
    return None if mebibytes is None else int(mebibytes * _MIB)


def _gpu(element: ElementTree.Element) -> dict[str, Any]:
    gpu = empty_gpu()
    gpu["minor_number"] = _number(element, "minor_number")
    gpu["uuid"] = _text(element, "uuid")
    gpu["name"] = _text(element, "product_name")
    gpu["brand"] = _text(element, "product_brand")
    gpu["architecture"] = _text(element, "product_architecture")
    gpu["serial"] = _text(element, "serial")
    gpu["vbios_version"] = _text(element, "vbios_version")
    gpu["board_part_number"] = _text(element, "board_part_number")
    gpu["gsp_firmware_version"] = _text(element, "gsp_firmware_version")
    for field in ("total", "used", "free", "reserved"):
        gpu[f"memory_{field}_bytes"] = _bytes(element, f"fb_memory_usage/{field}")
    gpu["bar1_total_bytes"] = _bytes(element, "bar1_memory_usage/total")
    gpu["bar1_used_bytes"] = _bytes(element, "bar1_memory_usage/used")
    _pci(element, gpu["pci"])
    lost = [value.strip() for value in element.itertext() if value.strip().lower() in _LOST_VALUES]
    if lost:
        gpu["lost"] = True
        gpu["error"] = f"nvidia-smi: {lost[0]}"
    gpu["mig"] = _mig(element, gpu["lost"])
    _errors(element, gpu)
    _state(element, gpu)
    _power(element, gpu["power"])
    _clocks(element, gpu["clocks"])
    _temperature(element, gpu)
    _processes(element, gpu)
    return gpu


def _pci(element: ElementTree.Element, pci: dict[str, Any]) -> None:
    pci["bus_id"] = bus_id(_text(element, "pci/pci_bus_id") or element.get("id") or "")
    for path, vendor, device in (
        ("pci/pci_device_id", "vendor_id", "device_id"),
        ("pci/pci_sub_system_id", "subsystem_vendor_id", "subsystem_device_id"),
    ):
        digits = _text(element, path)
        if digits and re.match(r"^(0x)?[0-9A-Fa-f]{1,8}$", digits) and int(digits, 16):
            pci[vendor], pci[device] = pci_ids(int(digits, 16))
    link = "pci/pci_gpu_link_info/"
    pci["link_generation_current"] = _number(element, link + "pcie_gen/current_link_gen")
    pci["link_generation_max"] = _number(element, link + "pcie_gen/max_link_gen")
    pci["link_width_current"] = _number(element, link + "link_widths/current_link_width")
    pci["link_width_max"] = _number(element, link + "link_widths/max_link_width")


def _mig(element: ElementTree.Element, lost: bool) -> dict[str, Any]:
    current = _mode(element, "mig_mode/current_mig")
    return {
        "capable": None if lost else current is not None,
        "mode": current,
        "pending_mode": _mode(element, "mig_mode/pending_mig"),
        "instances": [_mig_instance(device) for device in element.findall("mig_devices/mig_device")],
    }


def _mig_instance(device: ElementTree.Element) -> dict[str, Any]:
    instance = empty_mig_instance()
    instance["index"] = _number(device, "index")
    instance["uuid"] = _text(device, "uuid")
    instance["gpu_instance_id"] = _number(device, "gpu_instance_id")
    instance["compute_instance_id"] = _number(device, "compute_instance_id")
    instance["memory_total_bytes"] = _bytes(device, "fb_memory_usage/total")
    return instance


def _errors(element: ElementTree.Element, gpu: dict[str, Any]) -> None:
    gpu["ecc"]["mode"] = _mode(element, "ecc_mode/current_ecc")
    gpu["ecc"]["pending_mode"] = _mode(element, "ecc_mode/pending_ecc")
    for name in ("volatile", "aggregate"):
        counters = element.find("ecc_errors/" + name)
        if counters is not None and gpu["ecc"]["mode"] == "enabled":
            # Turing and later count by memory; before it, by single and double bit with a total.
            gpu["ecc"][name]["corrected"] = _sum(counters, ("sram_correctable", "dram_correctable"), "single_bit/total")
            gpu["ecc"][name]["uncorrected"] = _sum(
                counters,
                (
                    "sram_uncorrectable",
                    "sram_uncorrectable_parity",
                    "sram_uncorrectable_secded",
                    "dram_uncorrectable",
                ),
                "double_bit/total",
            )
    pages, rows = "retired_pages/", "remapped_rows/"
    gpu["retired_pages"] = {
        "single_bit": _number(element, pages + "multiple_single_bit_retirement/retired_count"),
        "double_bit": _number(element, pages + "double_bit_retirement/retired_count"),
        "pending": _flag(element, pages + "pending_retirement", pages + "pending_blacklist"),
    }
    gpu["remapped_rows"] = {
        "correctable": _number(element, rows + "remapped_row_corr"),
        "uncorrectable": _number(element, rows + "remapped_row_unc"),
        "pending": _flag(element, rows + "remapped_row_pending"),
        "failed": _flag(element, rows + "remapped_row_failure"),
        "spare_rows_banks": {
            field: _number(element, f"{rows}row_remapper_histogram/row_remapper_histogram_{field}")
            for field in ("max", "high", "partial", "low", "none")
        },
    }


def _sum(counters: ElementTree.Element, parts: tuple[str, ...], total: str) -> float | None:
    values = [value for value in (_number(counters, part) for part in parts) if value is not None]
    return sum(values) if values else _number(counters, total)


def _state(element: ElementTree.Element, gpu: dict[str, Any]) -> None:
    gpu["persistence_mode"] = _mode(element, "persistence_mode")
    gpu["compute_mode"] = _words(element, "compute_mode")
    state = _text(element, "performance_state") or ""
    gpu["performance_state"] = state if re.match(r"^P\d+$", state) else None
    # "None" is a mode here, not a value that is missing.
    virtualization = (element.findtext("gpu_virtualization_mode/virtualization_mode") or "").strip().lower()
    gpu["virtualization_mode"] = {
        "none": "none",
        "pass-through": "pass_through",
        "vgpu": "vgpu",
        "host vgpu": "host_vgpu",
        "host vsga": "host_vsga",
    }.get(virtualization)
    action = (element.findtext("gpu_recovery_action") or "").strip().lower()
    gpu["recovery_action"] = action.replace(" ", "_") if action == "none" or action not in _NO_VALUE else None
    _fabric(element, gpu["fabric"])
    gpu["utilization"] = {
        "gpu_percent": _number(element, "utilization/gpu_util"),
        "memory_percent": _number(element, "utilization/memory_util"),
    }


def _words(element: ElementTree.Element, path: str) -> str | None:
    value = _text(element, path)
    return value.lower().replace(" ", "_") if value else None


def _fabric(element: ElementTree.Element, fabric: dict[str, Any]) -> None:
    part = element.find("fabric")
    # Its tags are the only ones with capitals, which drivers write differently.
    values = {} if part is None else {child.tag.lower().replace("_", ""): (child.text or "").strip() for child in part}
    state = values.get("state", "").lower().replace(" ", "_")
    if state in FABRIC_STATES.values():
        fabric["state"] = state
    if state == "completed":
        fabric["clique_id"] = int(values["cliqueid"]) if values.get("cliqueid", "").isdigit() else None
        fabric["cluster_uuid"] = values.get("clusteruuid", "").lower() or None


def _power(element: ElementTree.Element, power: dict[str, Any]) -> None:
    # 535 renamed power_readings to gpu_power_readings, 545 split the draw in two.
    new, old = "gpu_power_readings/", "power_readings/"
    power["draw_watts"] = _watts(
        element, new + "power_draw", new + "average_power_draw", new + "instant_power_draw", old + "power_draw"
    )
    power["limit_watts"] = _watts(
        element, new + "current_power_limit", old + "enforced_power_limit", old + "power_limit"
    )
    for field in ("default", "min", "max"):
        path = f"{field}_power_limit"
        power[f"limit_{field}_watts"] = _watts(element, new + path, old + path)


def _clocks(element: ElementTree.Element, clocks: dict[str, Any]) -> None:
    for field, tag in (("graphics", "graphics_clock"), ("sm", "sm_clock"), ("memory", "mem_clock")):
        clocks[field + "_mhz"] = _number(element, "clocks/" + tag)
        clocks[field + "_max_mhz"] = _number(element, "max_clocks/" + tag)
    clocks["video_mhz"] = _number(element, "clocks/video_clock")
    clocks["video_max_mhz"] = _number(element, "max_clocks/video_clock")
    # Renamed in driver 535.
    for name in ("clocks_event_reason", "clocks_throttle_reason"):
        states = {reason: _text(element, f"{name}s/{name}_{reason}") for dummy, reason in CLOCK_EVENT_REASONS}
        if any(state is not None for state in states.values()):
            clocks["event_reasons"] = [
                reason for dummy, reason in CLOCK_EVENT_REASONS if (states[reason] or "").lower() == "active"
            ]


def _temperature(element: ElementTree.Element, gpu: dict[str, Any]) -> None:
    for field, tag in (
        ("gpu_celsius", "gpu_temp"),
        ("memory_celsius", "memory_temp"),
        ("gpu_max_celsius", "gpu_temp_max_gpu_threshold"),
        ("memory_max_celsius", "gpu_temp_max_mem_threshold"),
        ("slowdown_celsius", "gpu_temp_slow_threshold"),
        ("shutdown_celsius", "gpu_temp_max_threshold"),
    ):
        gpu["temperature"][field] = _number(element, "temperature/" + tag)
    _limits(element, gpu["temperature"])
    gpu["fan_speed_percent"] = _number(element, "fan_speed")


def _limits(element: ElementTree.Element, temperature: dict[str, Any]) -> None:
    """Thresholds from Ada on: how far each is below the temperature at which the clocks go down ("T.Limit").

    Of that of the memory nothing is told but the distance, so its maximum stays unknown.
    """
    now, left = temperature["gpu_celsius"], _number(element, "temperature/gpu_temp_tlimit")
    if now is None or left is None:
        return
    for field, tag in (
        ("gpu_max_celsius", "gpu_temp_max_gpu_tlimit_threshold"),
        ("slowdown_celsius", "gpu_temp_slow_tlimit_threshold"),
        ("shutdown_celsius", "gpu_temp_max_tlimit_threshold"),
    ):
        distance = _number(element, "temperature/" + tag)
        if temperature[field] is None and distance is not None:
            temperature[field] = now + left - distance


def _processes(element: ElementTree.Element, gpu: dict[str, Any]) -> None:
    processes = element.find("processes")
    if processes is None or (processes.text or "").strip().lower() == "n/a":
        return
    gpu["processes"] = merge_processes(
        (
            _number(process, "pid"),
            # "C", "G", "C+G" or "M+C".
            [letter for letter in (_text(process, "type") or "") if letter in "MCG"],
            _bytes(process, "used_memory"),
            _number(process, "gpu_instance_id"),
            _number(process, "compute_instance_id"),
        )
        for process in processes.findall("process_info")
        if _number(process, "pid") is not None
    )
    gpu["process_count"] = len({process["pid"] for process in gpu["processes"]})
