"""What a GPU's own counters and sensors say against handing it out: numbers read from the driver in, a fault out. Pure.

Each rule holds as long as the driver says so: the driver itself clears a pending remapping or retirement, the volatile
ECC counters and a recommended action when the GPU was reset.
"""

from __future__ import annotations

from ..model import Fault, Vitals

# nvmlDeviceGpuRecoveryAction_t in nvml.h; what is not listed (none, an IMEX domain's recovery) is not about this GPU
_ACTIONS = {
    1: Fault("reset_required", "the driver asks for a reset of this GPU"),
    2: Fault("reboot_required", "the driver asks for a reboot of the node because of this GPU"),
    3: Fault("reset_required", "the driver asks to end peer-to-peer work on this GPU and to reset it"),
    4: Fault("reset_required", "the driver asks to drain this GPU and to reset it"),
    6: Fault("reset_required", "the driver asks for a bus reset of this GPU"),
    7: Fault("reboot_required", "the driver asks for a reboot of the whole system because of this GPU"),
}


def is_hot(vitals: Vitals, was_hot: bool) -> bool:
    """Whether it is too hot to be given work: from the shutdown temperature until it is below the slowdown one."""
    if not vitals.shutdown_at or vitals.temperature is None:
        return was_hot  # a sensor that says nothing does not cool a GPU down
    return vitals.temperature >= (vitals.slowdown_at or vitals.shutdown_at if was_hot else vitals.shutdown_at)


def examine(vitals: Vitals, hot: bool = False) -> Fault | None:
    """The worst of what is wrong with a GPU; None if nothing is. hot: what is_hot() says."""
    if vitals.row_remap_failed == 1:
        return Fault("row_remap_failed", "a row of its memory could not be remapped; have the GPU examined")
    if vitals.recovery_action in _ACTIONS:
        return _ACTIONS[vitals.recovery_action]
    if vitals.uncorrected:
        count = vitals.uncorrected
        message = f"{count} uncorrectable ECC error{'s' if count > 1 else ''} since its last reset; reset the GPU"
        return Fault("ecc_double_bit", message)
    if vitals.row_remap_pending == 1:
        return Fault("row_remap_pending", "a row of its memory is to be remapped at the next reset; reset the GPU")
    if vitals.page_retirement_pending == 1:
        return Fault("page_retirement_pending", "memory pages are to be retired at the next reset; reset the GPU")
    if hot:
        return Fault("thermal_shutdown", "it reached its shutdown temperature; check cooling and airflow")
    return None
