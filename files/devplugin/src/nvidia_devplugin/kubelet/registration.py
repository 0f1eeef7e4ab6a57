"""Being known to the kubelet: registration, and again whenever the kubelet restarts or our socket is gone.

A kubelet that starts removes every socket in its directory, then creates its own, and listens on it a moment later. The
directory is polled: that needs no inotify instance, of which a user may have few, and works on every file system.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import grpc.aio

from ..log import Logger, worth_a_line
from ..sockets import is_listening
from .channel import open_channel, reason
from .proto import deviceplugin_pb2 as pb
from .proto.deviceplugin_pb2_grpc import RegistrationStub
from .stats import RegistrationStats

log = Logger("kubelet")

VERSION = "v1beta1"

POLL_SECONDS = 0.5
"""How often the sockets are looked at."""

STREAM_SECONDS = 5.0
"""How long the kubelet may be without a ListAndWatch stream before the plugin registers again."""

_REGISTER_TIMEOUT_SECONDS = 5.0

Identity = tuple[int, int, int]


class Served(Protocol):
    """What is registered: a service on a socket beside the kubelet's."""

    path: Path | None

    @property
    def present(self) -> bool:
        """Whether the socket file exists."""

    async def serve(self) -> None:
        """Serve on a new socket. Raises OSError."""


def retry_delay(attempt: int) -> float:
    """Seconds before the next attempt, from 0 on: 50 ms growing to 1 s."""
    return float(min(0.05 * 1.5 ** min(attempt, 10), 1.0))


def identify(path: Path) -> Identity | None:
    """What tells one socket file from its successor; None if there is none. An inode number alone may be reused."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


class Registration:
    """Keeps one resource registered with the running kubelet.

    connected: whether the kubelet holds a ListAndWatch stream. It has dropped a plugin that is registered without one.
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
        self._seen: Identity | None = None
        self.stats = RegistrationStats()
        self._connected_at = 0.0
        self._failures = 0
        self._directory_existed = False
        self._waiting_logged = False

    @property
    def ready(self) -> bool:
        """Registered with the kubelet whose socket is there now, and served on a socket that it can find."""
        return self._registered is not None and self._registered == identify(self._socket) and self._served.present

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(await self._converge())

    async def _converge(self) -> float:
        """Do what is missing; seconds until the next look."""
        directory = self._socket.parent
        if not directory.is_dir():
            self._registered = None
            log.warning(
                "socket_directory_gone" if self._directory_existed else "socket_directory_unavailable",
                directory=directory,
            )
            self._directory_existed = False
            return POLL_SECONDS
        self._directory_existed = True
        if not self._served.present:
            self._registered = None
            try:
                await self._served.serve()
            except OSError as error:
                return self._failed("serve_failed", error)
        identity = identify(self._socket)
        if identity != self._seen:  # another kubelet, or the first
            self._seen = identity
            self._failures = 0
        if identity is None:
            self._registered = None
            if not self._waiting_logged:
                self._waiting_logged = True
                log.info("waiting_for_kubelet", socket=self._socket)
            return POLL_SECONDS
        self._waiting_logged = False
        stream_missing = identity == self._registered
        if stream_missing and not self._dropped():
            return POLL_SECONDS
        self._registered = None
        try:
            if not is_listening(self._socket):
                return self._failed("kubelet_not_listening", self._socket)
        except PermissionError as error:
            return self._failed(
                "permission_denied", error, socket=self._socket,
                hint="the pod's rights, or SELinux or AppArmor on the node, forbid the connection: see the audit log",
            )  # fmt: skip
        except OSError as error:
            return self._failed("kubelet_unreachable", error, socket=self._socket)
        if identity != identify(self._socket) or not self._served.present:
            return 0.0  # it started while we looked: what it removes, it removes before it listens
        if stream_missing:
            age = time.monotonic() - self._connected_at
            log.warning("stream_missing", resource=self._resource, seconds=f"{age:.0f}")
        try:
            await self._register()
        except grpc.aio.AioRpcError as error:
            self._failed("register_failed", reason(error))
            return 1.0  # it listens and refuses: a quick retry does not help
        self.stats.restarts += self._last not in (None, identity)
        self._registered = self._last = identity
        self._connected_at = time.monotonic()
        self._failures = 0
        return POLL_SECONDS

    async def _register(self) -> None:
        """Raises grpc.aio.AioRpcError."""
        path = self._served.path
        assert path is not None  # noqa: S101 for the type checker: it was just served
        request = pb.RegisterRequest(
            version=VERSION,
            endpoint=path.name,
            resource_name=self._resource,
            options=self._options,
        )
        started = time.monotonic()
        async with open_channel(self._socket) as channel:
            await RegistrationStub(channel).Register(request, timeout=_REGISTER_TIMEOUT_SECONDS)
        seconds = time.monotonic() - started
        self.stats.registrations += 1
        self.stats.seconds.observe(seconds)
        log.info("registered", resource=self._resource, endpoint=path.name, ms=f"{seconds * 1000:.1f}")

    def _dropped(self) -> bool:
        now = time.monotonic()
        if self._connected():
            self._connected_at = now
        return now - self._connected_at >= STREAM_SECONDS

    def _failed(self, event: str, error: object, **fields: object) -> float:
        delay = retry_delay(self._failures)
        self._failures += 1
        self.stats.failures += 1
        if worth_a_line(self._failures):
            log.warning(event, resource=self._resource, error=error, attempt=self._failures, **fields)
        return delay
