"""Being known to the kubelet: registration, and again whenever the kubelet starts anew or our socket is gone.

A kubelet that starts removes every socket in its directory, then creates its own, and listens on it a moment later. We
watch the directory, so each of these steps wakes us; only the moment between creation and listening has to be polled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..inotify import DirectoryWatch
from ..log import Logger, worth_a_line
from ..rpc.status import RpcError
from ..sockets import is_listening
from .proto import deviceplugin_pb2 as pb
from .services import VERSION, register
from .stats import RegistrationStats

log = Logger("kubelet")

RECHECK_SECONDS = 10.0
"""How often all is looked at although nothing happened: a file system may lose events, a kubelet its stream."""

_REGISTER_TIMEOUT_SECONDS = 5.0

Identity = tuple[int, int, int]


class Served(Protocol):
    """What is registered: something served on a socket beside the kubelet's."""

    path: Path | None

    @property
    def present(self) -> bool:
        """Whether the socket file is there."""

    async def serve(self) -> None:
        """Serve until the socket file is gone or somebody else listens on it."""


def retry_delay(attempt: int) -> float:
    """Seconds before the next attempt, from 0 on.

    A kubelet that starts listens within a fraction of a second, and nothing tells when: 5 ms growing to 15 ms for about
    ten seconds, then 1 s. An attempt is one connect() that is refused, some 30 us.
    """
    if attempt > 670:
        return 1.0
    return float(min(0.005 * 1.5 ** min(attempt, 10), 0.015))


def identify(path: Path) -> Identity | None:
    """What tells one socket file from its successor; None if there is none. A number of an inode may be used again."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


class Registration:
    """Keeps one resource registered with the kubelet that runs now.

    connected: whether the kubelet holds a ListAndWatch stream. A registered plugin without one has been dropped.
    """

    def __init__(
        self,
        kubelet_socket: Path,
        resource: str,
        options: pb.DevicePluginOptions,
        served: Served,
        connected: Callable[[], bool],
    ) -> None:
        self._socket = kubelet_socket
        self._resource = resource
        self._options = options
        self._served = served
        self._connected = connected
        self._registered: Identity | None = None
        self._last: Identity | None = None  # also while that kubelet is gone
        self.stats = RegistrationStats()
        self._registered_at = 0.0
        self._failures = 0
        self._said_waiting = False

    @property
    def ready(self) -> bool:
        """Registered with the kubelet whose socket is there now, and served on a socket that it can find."""
        return self._registered is not None and self._registered == identify(self._socket) and self._served.present

    async def run(self) -> None:
        """Until cancelled."""
        directory = self._socket.parent
        missing = 0
        while True:
            try:
                watch = DirectoryWatch(directory)
            except OSError as error:
                missing += 1
                if worth_a_line(missing):
                    log.warning("socket_directory_unavailable", directory=directory, error=error, attempt=missing)
                await asyncio.sleep(retry_delay(missing))
                continue
            missing = 0
            with watch:
                await self._follow(watch)
            self._registered = None
            log.warning("socket_directory_gone", directory=directory)

    async def _follow(self, watch: DirectoryWatch) -> None:
        """Keep registered until the watched directory itself is gone."""
        while not watch.gone:
            delay = await self._converge(watch)
            appeared = await watch.wait(RECHECK_SECONDS if delay is None else delay)
            if self._socket.name in appeared:
                self._registered = None
                self._failures = 0
                self._said_waiting = False

    async def _converge(self, watch: DirectoryWatch) -> float | None:
        """Do what is missing; seconds until the next try, None if there is nothing left to do."""
        if not self._served.present:
            self._registered = None
            try:
                await self._served.serve()
            except OSError as error:
                return self._failed("serve_failed", error)
        watch.drain()  # so that a socket that we are about to see does not wake us once more
        identity = identify(self._socket)
        if identity is None:
            self._registered = None
            if not self._said_waiting:
                self._said_waiting = True
                log.info("waiting_for_kubelet", socket=self._socket)
            return None
        if identity == self._registered and not self._dropped:
            return None
        if not is_listening(self._socket):
            self._registered = None
            return self._failed("kubelet_not_listening", self._socket)
        if identity != identify(self._socket) or not self._served.present:
            return 0.0  # it started while we looked: what it removes, it removes before it listens
        if identity == self._registered:
            age = time.monotonic() - self._registered_at
            log.warning("stream_missing", resource=self._resource, seconds_since_registration=f"{age:.0f}")
        try:
            await self._register()
        except RpcError as error:
            self._failed("register_failed", error)
            return 1.0  # it listens and says no: that is no matter of milliseconds
        self.stats.restarts += self._last not in (None, identity)
        self._registered = self._last = identity
        self._registered_at = time.monotonic()
        self._failures = 0
        return None

    async def _register(self) -> None:
        path = self._served.path
        assert path is not None  # noqa: S101 for the type checker: it was just served
        request = pb.RegisterRequest(
            version=VERSION,
            endpoint=path.name,
            resource_name=self._resource,
            options=self._options,
        )
        started = time.monotonic()
        await register(self._socket, request, _REGISTER_TIMEOUT_SECONDS)
        taken = time.monotonic() - started
        self.stats.registrations += 1
        self.stats.seconds.observe(taken)
        log.info("registered", resource=self._resource, endpoint=path.name, ms=f"{taken * 1000:.1f}")

    @property
    def _dropped(self) -> bool:
        return not self._connected() and time.monotonic() - self._registered_at >= RECHECK_SECONDS / 2

    def _failed(self, event: str, error: object) -> float:
        delay = retry_delay(self._failures)
        self._failures += 1
        self.stats.failures += 1
        if worth_a_line(self._failures):
            log.warning(event, resource=self._resource, error=error, attempt=self._failures)
        return delay
