"""The GPU instances and compute instances of a GPU, whether this process may use them or not.

A container has the files of the MIG devices that existed when it was made, and NVML shows it no other MIG devices. Who
may configure MIG (CAP_SYS_ADMIN) can list the instances all the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pynvml

from .errors import ReadError, require


def existing_instances(gpu: Any) -> frozenset[tuple[int, int]] | None:
    """Numbers of GPU instance and compute instance of all MIG devices; None where they cannot be listed."""
    try:
        return frozenset(_instances(gpu))
    except ReadError:
        return None


def _instances(gpu: Any) -> Iterator[tuple[int, int]]:
    for profile in _profiles(
        pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT,
        lambda at: pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu, at, version=1),
    ):
        for gi in _handles(pynvml.c_nvmlGpuInstance_t, profile, pynvml.nvmlDeviceGetGpuInstances, gpu):
            number = int(require(pynvml.nvmlGpuInstanceGetInfo, gi).id)
            for part in _profiles(
                pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT,
                lambda at, gi=gi: pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(  # type: ignore[misc]
                    gi, at, pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, version=1
                ),
            ):
                query = pynvml.nvmlGpuInstanceGetComputeInstances
                for ci in _handles(pynvml.c_nvmlComputeInstance_t, part, query, gi):
                    yield number, int(require(pynvml.nvmlComputeInstanceGetInfo, ci).id)


def _profiles(count: int, info: Callable[[int], Any]) -> Iterator[Any]:
    """The profiles that this GPU has, of those that NVML numbers. Raises ReadError."""
    for at in range(count):
        try:
            yield require(info, at)
        except ReadError as error:
            if error.code not in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT):
                raise


def _handles(kind: Any, profile: Any, query: Callable[..., Any], parent: Any) -> Any:
    found = (kind * max(1, int(profile.instanceCount)))()
    count = ctypes.c_uint(0)
    require(query, parent, profile.id, found, ctypes.byref(count))
    return found[: count.value]
