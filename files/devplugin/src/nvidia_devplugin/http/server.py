"""/metrics, /healthz and /readyz over HTTP: a page of asyncio instead of a web server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from ..log import Logger
from .exposition import CONTENT_TYPE

log = Logger("probes")

_REQUEST_SECONDS = 5.0
_RETRY_SECONDS = 10.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Probes:
    """Serves the probes and the metrics.

    not_ready: why the daemon is not ready, None if it is. scrape: the page of metrics.
    """

    def __init__(
        self,
        address: tuple[str, int],
        not_ready: Callable[[], str | None],
        scrape: Callable[[], Awaitable[str]],
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._address = address
        self._not_ready = not_ready
        self._scrape = scrape
        self._retry_seconds = retry_seconds

    async def run(self) -> None:
        """Until cancelled. An address that cannot be used is tried again: GPUs are served without it."""
        server = await self._listen()
        try:
            for listener in server.sockets:
                log.info("probes_listening", address="{}:{}".format(*listener.getsockname()[:2]))
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _listen(self) -> asyncio.Server:
        host, port = self._address
        said = False
        while True:
            try:
                return await asyncio.start_server(self._handle, host or None, port, limit=8192)
            except OSError as error:
                if not said:
                    log.error(
                        "probes_unavailable", address=f"{host}:{port}", error=error.strerror or error,
                        hint=f"tried again every {self._retry_seconds:g} s; GPUs are served all the same",
                    )  # fmt: skip
                said = True
            await asyncio.sleep(self._retry_seconds)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a client that leaves, stalls or sends garbage is its own problem
        with contextlib.suppress(OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_SECONDS)
                writer.write(await self._answer(head.split(b"\r\n", 1)[0]))
                await asyncio.wait_for(writer.drain(), _REQUEST_SECONDS)
            except asyncio.LimitOverrunError:
                writer.write(_http(400, "request too long"))
            finally:
                writer.close()

    async def _answer(self, request_line: bytes) -> bytes:
        parts = request_line.decode("latin-1").split(" ")
        if len(parts) != 3:
            return _http(400, "not an HTTP request")
        method, target, _version = parts
        if method not in ("GET", "HEAD"):
            return _http(405, "only GET and HEAD")
        path = target.partition("?")[0]
        if path == "/healthz":
            return _http(200, "ok", method)
        if path == "/readyz":
            problem = self._not_ready()
            return _http(200, "ok", method) if problem is None else _http(503, problem, method)
        if path == "/metrics":
            return _http(200, (await self._scrape()).removesuffix("\n"), method, CONTENT_TYPE)
        return _http(404, "only /metrics, /healthz and /readyz", method)


def _http(status: int, text: str, method: str = "GET", content_type: str = "text/plain; charset=utf-8") -> bytes:
    body = (text + "\n").encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else body)
