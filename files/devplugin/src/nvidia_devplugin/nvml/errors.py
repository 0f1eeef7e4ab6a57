"""What NVML's errors mean to the daemon: for the driver as a whole, and for one reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from ..model import DriverGone, Fault

ABSENT = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
"""Answers that say that the GPU or the driver has no such thing: a value, not a failed reading."""

_TEGRA_RELEASE = Path("/etc/nv_tegra_release")

DRIVER_ERRORS: dict[int, tuple[str, str, str]] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "library_missing",
        "libnvidia-ml.so.1 was not found",
        "in a pod: the NVIDIA container runtime puts it there, so set runtimeClassName: nvidia (or make nvidia the "
        "default runtime), check the driver and nvidia-container-toolkit on the node, then let the pod be recreated",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "driver_not_loaded",
        "the NVIDIA kernel module is not loaded",
        "on the node: modprobe nvidia, then nvidia-smi; if the module is missing, (re)install the driver for the "
        "running kernel; in a pod also check that /dev/nvidiactl is there",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "version_mismatch",
        "the driver's library and the loaded kernel module have different versions",
        "the driver was upgraded while the old module was loaded: reboot the node, or drain it and reload the "
        "modules, then recreate the pod; hold the driver's packages against unattended upgrades",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "no_permission",
        "the driver refuses access",
        "the daemon needs /dev/nvidiactl and NVIDIA_DRIVER_CAPABILITIES with utility",
    ),
}
"""Error code: the fault's code, its message, and a hint for the operator."""


class NvmlUnavailableError(Exception):
    """NVML as a whole does not work; `gone` says it in terms of model."""

    def __init__(self, error: pynvml.NVMLError) -> None:
        code, message, hint = DRIVER_ERRORS.get(
            error.value, (f"nvml_error_{error.value}", f"NVML: {error}", "look at nvidia-smi and the kernel's log")
        )
        if code == "library_missing" and _TEGRA_RELEASE.exists():
            code, message = "tegra_unsupported", "this is a Tegra system without NVML"
            hint = "GPUs of Tegra systems are served from JetPack 6 on, whose driver has NVML; use NVIDIA's plugin here"
        super().__init__(message)
        self.gone = DriverGone(Fault(code, message), hint)


class ReadError(Exception):
    """One value could not be read. code: NVML's error code; None for an answer that cannot be a value."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def fault(self) -> Fault:
        """What it says about the GPU that was asked."""
        if self.code == pynvml.NVML_ERROR_GPU_IS_LOST:
            return Fault("gpu_lost", str(self))
        if self.code == pynvml.NVML_ERROR_RESET_REQUIRED:
            return Fault("reset_required", "the driver asks for a reset of this GPU")
        return Fault("unreadable" if self.code is None else f"nvml_error_{self.code}", f"it cannot be read: {self}")

    @property
    def final(self) -> bool:
        """Whether the driver said what is wrong with the GPU: there is nothing to wait for then."""
        return self.code in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)


def require(query: Callable[..., Any], *arguments: Any) -> Any:
    """What NVML answers. Raises ReadError."""
    try:
        return query(*arguments)
    except pynvml.NVMLError as error:
        raise ReadError(error.value, f"NVML: {error} ({query.__name__})") from error
    except ValueError as error:  # text that is not text, for example
        raise ReadError(None, f"{error} ({query.__name__})") from error


def read(query: Callable[..., Any], *arguments: Any) -> Any:
    """What NVML answers; None where this GPU or driver has no such thing. Raises ReadError."""
    try:
        return require(query, *arguments)
    except ReadError as error:
        if error.code in ABSENT:
            return None
        raise


def read_or(default: Any, query: Callable[..., Any], *arguments: Any) -> Any:
    """As read(), and `default` where it cannot be read."""
    try:
        return read(query, *arguments)
    except ReadError:
        return default


def text(value: Any) -> str:
    """NVML's strings, which older versions of the binding give as bytes. Raises ReadError."""
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except ValueError as error:
        raise ReadError(None, str(error)) from error


def uuid_of(handle: Any) -> str:
    """The UUID of a GPU or MIG device, which becomes a device's id. Raises ReadError."""
    uuid = text(require(pynvml.nvmlDeviceGetUUID, handle))
    if not uuid or len(uuid) > 63 or not uuid.isascii() or not uuid.isprintable() or " " in uuid:
        raise ReadError(None, f"its UUID is not one: {uuid[:80]!r}")
    return uuid
