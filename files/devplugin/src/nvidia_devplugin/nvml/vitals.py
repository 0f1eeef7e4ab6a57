"""A GPU's own counters and sensors, as health judges them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pynvml

from ..model import Vitals
from .errors import read_or

_FIELDS = {
    "row_remap_failed": pynvml.NVML_FI_DEV_REMAPPED_FAILURE,
    "row_remap_pending": pynvml.NVML_FI_DEV_REMAPPED_PENDING,
    "page_retirement_pending": pynvml.NVML_FI_DEV_RETIRED_PENDING,
    "recovery_action": pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
}
_QUERIES = (
    (
        "uncorrected",
        pynvml.nvmlDeviceGetTotalEccErrors,
        (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC),
    ),
    ("temperature", pynvml.nvmlDeviceGetTemperature, (pynvml.NVML_TEMPERATURE_GPU,)),
    ("shutdown_at", pynvml.nvmlDeviceGetTemperatureThreshold, (pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,)),
    ("slowdown_at", pynvml.nvmlDeviceGetTemperatureThreshold, (pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,)),
)


def read_vitals(handle: Any, last: Vitals) -> Vitals:
    """What the GPU says now; each value that it does not say, or that cannot be read, as it was in `last`."""
    values = read_or(None, pynvml.nvmlDeviceGetFieldValues, handle, list(_FIELDS.values())) or ()
    found = {
        name: int(value.value.uiVal)
        for name, value in zip(_FIELDS, values, strict=False)
        if value.nvmlReturn == pynvml.NVML_SUCCESS
    }
    for name, query, arguments in _QUERIES:
        value = read_or(None, query, handle, *arguments)
        if value is not None:
            found[name] = int(value)
    return replace(last, **found)
