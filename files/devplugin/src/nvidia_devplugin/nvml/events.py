"""The driver's events: XIDs and double-bit ECC errors.

GPUs are served without events where the driver has none; the checks that poll go on.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from typing import Any

import pynvml

from ..log import Logger, worth_a_line
from ..model import EccEvent, Fault, XidEvent
from .errors import ReadError, read

log = Logger("nvml")

_WANTED = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
_NO_INSTANCE = 0xFFFFFFFF  # in an event: the GPU as a whole


class Events:
    """NVML's set of events within one session, which is made at need."""

    def __init__(self) -> None:
        self._set: Any = None
        self._failures = 0
        self._uuids: dict[int, str] = {}
        self._watched: set[str] = set()
        self._told: set[str] = set()

    def watch(self, handles: Mapping[str, Any]) -> dict[str, Fault]:
        """Have the driver report the events of these GPUs, by UUID; faults of those that should report and cannot.

        A GPU that left and came back must be registered again: it is forgotten once it is missing.
        """
        self._uuids.update((address(handle), uuid) for uuid, handle in handles.items())
        self._watched &= handles.keys()
        if self._set is None and not self._make():
            return {}
        faults = {}
        for uuid in handles.keys() - self._watched:
            try:
                wanted = (read(pynvml.nvmlDeviceGetSupportedEventTypes, handles[uuid]) or 0) & _WANTED
                if wanted:
                    read(pynvml.nvmlDeviceRegisterEvents, handles[uuid], wanted, self._set)
                elif uuid not in self._told:
                    self._told.add(uuid)
                    log.warning("xid_events_unsupported", gpu=uuid)
                self._watched.add(uuid)
            except ReadError as error:
                faults[uuid] = Fault("events_unavailable", f"XIDs cannot be watched: {error}")
        return faults

    def wait(self, seconds: float) -> XidEvent | EccEvent | None:
        """The next event; None after `seconds`, or where there are no events."""
        if self._set is None or not self._watched:  # NVML does not promise that it waits on an empty set
            time.sleep(seconds)
            return None
        began = time.monotonic()
        try:
            data = pynvml.nvmlEventSetWait_v2(self._set, max(1, int(seconds * 1000)))
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return None
            self._failed("event_wait_failed", error)
            self.close()
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))
            return None
        self._failures = 0
        uuid = self._uuids.get(address(data.device))
        gi, ci = _instance(data.gpuInstanceId), _instance(data.computeInstanceId)
        if data.eventType == pynvml.nvmlEventTypeXidCriticalError:
            return XidEvent(uuid, int(data.eventData), gi, ci)
        return EccEvent(uuid, gi, ci) if data.eventType == pynvml.nvmlEventTypeDoubleBitEccError else None

    def close(self) -> None:
        """Free the set; the next watch() makes another."""
        events, self._set = self._set, None
        self._watched.clear()
        if events is not None:
            try:
                pynvml.nvmlEventSetFree(events)
            except pynvml.NVMLError as error:
                log.debug("event_set_free_failed", error=error)

    def _make(self) -> bool:
        try:
            self._set = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError as error:
            self._failed("events_unavailable", error)
            return False
        return True

    def _failed(self, event: str, error: pynvml.NVMLError) -> None:
        self._failures += 1
        if worth_a_line(self._failures):
            log.warning(
                event, error=error, attempt=self._failures,
                hint="XIDs are not seen until this succeeds; GPUs are served and checked all the same",
            )  # fmt: skip


def _instance(number: int) -> int | None:
    return None if number == _NO_INSTANCE else int(number)


def address(handle: Any) -> int:
    """NVML's handle as a number: it stays the same for a GPU between init and shutdown."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
