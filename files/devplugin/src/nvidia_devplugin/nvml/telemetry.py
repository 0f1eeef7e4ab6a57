"""Utilisation, memory, temperature and power of each GPU, read from NVML while somebody waits for them.

Off by default: DCGM's exporter does more, and a query can wake a GPU that sleeps.

NVML counts how often it was initialised, so the initialisation here neither needs nor disturbs the one that follows
events, and nothing is held between two readings: the kernel module can be unloaded at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pynvml

from .errors import ReadError, read_or, require, text


class TelemetryError(Exception):
    """Nothing could be read; the message tells why."""


@dataclass(frozen=True)
class Reading:
    """What one GPU says now; None for what it does not. Ratios 0 to 1, bytes, degrees Celsius, watts."""

    uuid: str
    index: int
    model: str
    utilization: float | None
    memory_used: int | None
    memory_total: int | None
    temperature: int | None
    power: float | None


def read() -> list[Reading]:
    """All GPUs that answer. Raises TelemetryError. It may block for as long as the driver does."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise TelemetryError(f"NVML: {error}") from error
    try:
        found = [_reading(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise TelemetryError(f"NVML: {error}") from error
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return [reading for reading in found if reading is not None]


def _reading(index: int) -> Reading | None:
    try:
        handle = require(pynvml.nvmlDeviceGetHandleByIndex, index)
        uuid, model = (text(require(query, handle)) for query in (pynvml.nvmlDeviceGetUUID, pynvml.nvmlDeviceGetName))
    except ReadError:
        return None  # lost; its health says so
    # Version 2 leaves out what the driver keeps for itself, as nvidia-smi does; before 510 there is only version 1.
    memory = read_or(None, pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) or read_or(
        None, pynvml.nvmlDeviceGetMemoryInfo, handle
    )
    rates = read_or(None, pynvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = read_or(None, pynvml.nvmlDeviceGetPowerUsage, handle)
    return Reading(
        uuid=uuid,
        index=index,
        model=model,
        utilization=None if rates is None else rates.gpu / 100,
        memory_used=None if memory is None else int(memory.used),
        memory_total=None if memory is None else int(memory.total),
        temperature=read_or(None, pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power=None if milliwatts is None else milliwatts / 1000,
    )


class Telemetry:
    """Reads in a thread of its own, one at a time, so that a driver that hangs costs one thread and holds up nobody."""

    def __init__(self, query: Callable[[], list[Reading]] = read) -> None:
        self._query = query
        self._thread: threading.Thread | None = None

    async def readings(self, seconds: float) -> list[Reading]:
        """Raises TelemetryError, also when the driver does not answer within `seconds`."""
        if self._thread is not None and self._thread.is_alive():
            raise TelemetryError("the driver has not answered the last query yet")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Reading]] = loop.create_future()

        def settle(found: list[Reading], error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def work() -> None:
            found: list[Reading] = []
            failed: Exception | None = None
            try:
                found = self._query()
            except Exception as error:
                failed = error if isinstance(error, TelemetryError) else TelemetryError(repr(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, found, failed)

        self._thread = threading.Thread(target=work, name="telemetry", daemon=True)
        self._thread.start()
        try:
            return await asyncio.wait_for(answer, seconds)
        except asyncio.TimeoutError:
            raise TelemetryError(f"the driver did not answer within {seconds:g} s") from None
