"""What makes a GPU degraded or unhealthy."""

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import health
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu

SWITCH = [{"bus_id": "0000:05:00.0", "kind": "switch", "links": 17}]
BRIDGE = [{"bus_id": "0000:43:00.0", "kind": "gpu", "links": 4}]


def gpu(**changes):
    made = empty_gpu()
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = made
        for name in parents:
            place = place[name]
        place[last] = value
    return made


@pytest.mark.parametrize(
    ("changes", "state", "codes"),
    [
        pytest.param({}, "healthy", [], id="nothing-known"),
        pytest.param({"lost": True, "error": "NVML: GPU is lost"}, "unhealthy", ["gpu_lost"], id="lost"),
        pytest.param(
            {"lost": True, "error": "gone", "remapped_rows__failed": True}, "unhealthy", ["gpu_lost"], id="lost-only"
        ),
        pytest.param({"error": "NVML: No permission"}, "unhealthy", ["not_readable"], id="not-readable"),
        pytest.param({"recovery_action": "none"}, "healthy", [], id="no-action"),
        pytest.param({"recovery_action": "drain_and_reset"}, "unhealthy", ["recovery_needed"], id="action"),
        pytest.param({"remapped_rows__failed": True}, "unhealthy", ["row_remap_failed"], id="remap-failed"),
        pytest.param({"remapped_rows__pending": True}, "degraded", ["row_remap_pending"], id="remap-pending"),
        pytest.param({"retired_pages__pending": True}, "degraded", ["page_retirement_pending"], id="pages"),
        pytest.param({"ecc__volatile__uncorrected": 3}, "degraded", ["uncorrected_ecc_errors"], id="ecc"),
        pytest.param({"ecc__aggregate__uncorrected": 3}, "healthy", [], id="ecc-of-long-ago"),
        pytest.param(
            {"nvlink__links_total": 18, "nvlink__links_up": 17, "nvlink__peers": SWITCH},
            "degraded",
            ["nvlink_down"],
            id="a-link-to-a-switch-is-down",
        ),
        pytest.param(
            {"nvlink__links_total": 12, "nvlink__links_up": 4, "nvlink__peers": BRIDGE}, "healthy", [], id="one-bridge"
        ),
        pytest.param({"nvlink__links_total": 12, "nvlink__links_up": 0}, "healthy", [], id="no-bridge"),
        pytest.param({"fabric__state": "in_progress"}, "degraded", ["fabric_not_ready"], id="fabric"),
        pytest.param({"fabric__state": "completed"}, "healthy", [], id="fabric-ready"),
        pytest.param({"clocks__event_reasons": ["gpu_idle", "sw_power_cap"]}, "healthy", [], id="idle"),
        pytest.param(
            {"clocks__event_reasons": ["hw_power_brake_slowdown"]}, "degraded", ["hardware_slowdown"], id="power-brake"
        ),
        pytest.param(
            {"temperature__gpu_celsius": 90, "temperature__slowdown_celsius": 90}, "degraded", ["too_hot"], id="hot"
        ),
        pytest.param({"temperature__gpu_celsius": 99}, "healthy", [], id="no-threshold"),
        pytest.param(
            {"pci__link_width_current": 8, "pci__link_width_max": 16}, "degraded", ["pcie_link_narrow"], id="narrow"
        ),
        pytest.param({"pci__link_generation_current": 1, "pci__link_generation_max": 5}, "healthy", [], id="idle-link"),
        pytest.param(
            {"remapped_rows__failed": True, "ecc__volatile__uncorrected": 1},
            "unhealthy",
            ["row_remap_failed", "uncorrected_ecc_errors"],
            id="the-worst-counts",
        ),
    ],
)
def test_judge(changes, state, codes):
    judged = health.judge(gpu(**changes))
    assert (judged["state"], [reason["code"] for reason in judged["reasons"]]) == (state, codes)
    assert set(codes) <= {*health.UNHEALTHY, *health.DEGRADED}
    assert all(reason["message"].endswith(".") for reason in judged["reasons"])
