# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One word on each GPU, and why: from the facts that were gathered, so that both sources judge alike.

It is a look at this moment. What happened before (XIDs) is in the kernel's log, and the device plugin follows it.
"""

from __future__ import annotations

from typing import Any, Iterator

# Codes are an interface: playbooks compare them. Add, never rename.
UNHEALTHY = ("gpu_lost", "not_readable", "row_remap_failed", "recovery_needed")
DEGRADED = (
    "row_remap_pending",
    "page_retirement_pending",
    "uncorrected_ecc_errors",
    "nvlink_down",
    "fabric_not_ready",
    "hardware_slowdown",
    "too_hot",
    "pcie_link_narrow",
)


def judge(gpu: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with a GPU.

    Args:
        gpu (dict): as ``shape.empty_gpu``, filled.

    Returns:
        dict: ``state`` (``healthy``; ``degraded``: works, but somebody should look; ``unhealthy``: must not get work)
        and ``reasons``, a list of ``code`` (of UNHEALTHY and DEGRADED) and ``message``.
    """
    reasons = [{"code": code, "message": message} for code, message in _reasons(gpu)]
    codes = {reason["code"] for reason in reasons}
    state = "unhealthy" if codes.intersection(UNHEALTHY) else "degraded" if codes else "healthy"
    return {"state": state, "reasons": reasons}


def _reasons(gpu: dict[str, Any]) -> list[tuple[str, str]]:
    if gpu["lost"]:
        # Nothing else that such a GPU says can be believed.
        return [("gpu_lost", f"The GPU no longer answers ({gpu['error']}).")]
    found = []
    if gpu["error"]:
        found.append(("not_readable", f"The driver refuses to describe the GPU ({gpu['error']})."))
    found += _of_the_driver(gpu)
    found += _of_memory(gpu)
    found += _of_links(gpu)
    found += _of_heat(gpu)
    return found


def _of_the_driver(gpu: dict[str, Any]) -> list[tuple[str, str]]:
    action = gpu["recovery_action"]
    if action in (None, "none"):
        return []
    return [("recovery_needed", f"The driver asks for this to recover the GPU: {action.replace('_', ' ')}.")]


def _of_memory(gpu: dict[str, Any]) -> Iterator[tuple[str, str]]:
    rows, pages = gpu["remapped_rows"], gpu["retired_pages"]
    errors = gpu["ecc"]["volatile"]["uncorrected"]
    if rows["failed"]:
        yield "row_remap_failed", "A faulty row of memory could not be remapped: the board should be replaced."
    if rows["pending"]:
        yield "row_remap_pending", "Rows of memory wait to be remapped: reset the GPU when it is idle."
    if pages["pending"]:
        yield "page_retirement_pending", "Pages of memory wait to be retired: reset the GPU when it is idle."
    if errors:
        yield "uncorrected_ecc_errors", f"{errors} uncorrected ECC error(s) since the driver was loaded."


def _of_links(gpu: dict[str, Any]) -> Iterator[tuple[str, str]]:
    links, pci = gpu["nvlink"], gpu["pci"]
    # A bridge may use some of a board's links; on a switch board every link has to be up.
    if any(peer["kind"] == "switch" for peer in links["peers"]) and links["links_up"] < links["links_total"]:
        yield "nvlink_down", f"{links['links_up']} of {links['links_total']} NVLinks are up."
    if gpu["fabric"]["state"] in ("not_started", "in_progress"):
        words = gpu["fabric"]["state"].replace("_", " ")
        yield "fabric_not_ready", f"Its registration with the NVLink fabric is {words}: CUDA will not start on it."
    current, highest = pci["link_width_current"], pci["link_width_max"]
    # The link's generation falls when a GPU idles, its width does not.
    if current and highest and current < highest:
        yield "pcie_link_narrow", f"PCI Express runs with {current} of {highest} lanes: reseat the board or its riser."


def _of_heat(gpu: dict[str, Any]) -> Iterator[tuple[str, str]]:
    slow = [
        reason
        for reason in gpu["clocks"]["event_reasons"] or ()
        if reason in ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
    ]
    if slow:
        yield "hardware_slowdown", f"The hardware holds the clocks down ({', '.join(slow)}): check cooling and power."
    degrees, limit = gpu["temperature"]["gpu_celsius"], gpu["temperature"]["slowdown_celsius"]
    if degrees is not None and limit is not None and degrees >= limit:
        yield "too_hot", f"{degrees} degrees Celsius; from {limit} on the GPU slows itself down."
