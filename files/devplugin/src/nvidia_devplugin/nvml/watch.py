"""The thread that follows the driver.

Every call of NVML but telemetry's is made by it, so that a driver that hangs holds up neither the kubelet's calls nor a
shutdown. The thread hands over values of model; no other thread waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from ..log import Logger
from ..model import DriverGone, DriverUpdate, EccEvent, Fault, Inventory, Topology, XidEvent
from .errors import NvmlUnavailableError

log = Logger("nvml")

POLL_SECONDS = 5.0
"""How often all GPUs are read; XIDs do not wait for it."""

_RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
_STABLE_SECONDS = 30.0  # after a session of this length the retries start over
_TOPOLOGY_READS = 10  # an incomplete topology is read again so often


class DriverSession(Protocol):
    """NVML between init and shutdown."""

    def inventory(self) -> Inventory:
        """The GPUs and MIG devices of this moment."""

    def topology(self, seen: Inventory) -> Topology:
        """How the GPUs are connected."""

    def wait(self, seconds: float) -> XidEvent | EccEvent | None:
        """The next event, or None after so many seconds."""


class DriverWatch:
    """Opens NVML, retries while it cannot, and reports what it reads every few seconds and every event.

    emit: called from the thread with each update; it must not block.
    alive: when the driver last answered, by time.monotonic(); waiting for events is no more than a poll's length.
    """

    def __init__(
        self,
        emit: Callable[[DriverUpdate], None],
        open_session: Callable[[], AbstractContextManager[DriverSession]],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._emit = emit
        self._open = open_session
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self.alive = time.monotonic()
        # a daemon thread: one that hangs in the driver must not keep the process alive
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end. It may be in the driver for a while; no other thread waits for it."""
        self._stop.set()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            opened = self.alive = time.monotonic()
            try:
                with self._open() as session:
                    self._follow(session)
            except NvmlUnavailableError as error:
                self._emit(error.gone)
            except Exception as error:  # a bug here must not end in silence: the GPUs would look healthy for ever
                log.error("driver_watch_failed", exc_info=error)
                self._emit(DriverGone(Fault("internal_error", f"internal error: {error!r}"), "report this as a bug"))
            if time.monotonic() - opened > _STABLE_SECONDS:
                failures = 0
            self._stop.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            failures += 1

    def _follow(self, session: DriverSession) -> None:
        known: set[str] = set()
        topology_reads = 0
        while not self._stop.is_set():
            seen = session.inventory()
            self.alive = time.monotonic()
            next_poll = self.alive + self._poll_seconds
            self._emit(seen)
            uuids = {gpu.uuid for gpu in seen.gpus}
            if uuids - known:
                topology_reads = _TOPOLOGY_READS
            known = uuids
            if topology_reads and len(uuids) > 1:
                # after the inventory, so that registration does not wait for it
                topology = session.topology(seen)
                self._emit(topology)
                topology_reads = 0 if topology.complete else topology_reads - 1
            while not self._stop.is_set() and time.monotonic() < next_poll:
                event = session.wait(max(0.0, next_poll - time.monotonic()))
                self.alive = time.monotonic()
                if event is not None:
                    self._emit(event)
