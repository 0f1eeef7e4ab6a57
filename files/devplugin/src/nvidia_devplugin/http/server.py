"""/metrics, /healthz and /readyz over HTTP, served by asyncio: two methods, three paths, no keep-alive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from email.parser import BytesHeaderParser

from ..log import Logger

log = Logger("probes")

_REQUEST_SECONDS = 5.0
_RETRY_SECONDS = 10.0
_LONGEST_HEAD = 8192
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HttpServer:
    """Serves the probes and the metrics.

    address: host and port; an empty host is all IPv4 and IPv6 addresses. not_ready: why the daemon is not ready, None
    if it is. scrape: for an Accept header the page of the metrics and its content type. retry_seconds: between attempts
    to listen.
    """

    def __init__(
        self,
        address: tuple[str, int],
        not_ready: Callable[[], str | None],
        scrape: Callable[[str], Awaitable[tuple[bytes, str]]],
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._address = address
        self._not_ready = not_ready
        self._scrape = scrape
        self._retry_seconds = retry_seconds

    async def run(self) -> None:
        """Serve until cancelled. An address that cannot be bound is retried; the GPUs are served meanwhile."""
        server = await self._listen()
        try:
            for listener in server.sockets:
                log.info("probes_listening", address=_text(*listener.getsockname()[:2]))
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _listen(self) -> asyncio.Server:
        host, port = self._address
        logged = False
        while True:
            try:
                if host:
                    return await asyncio.start_server(self._handle, host, port, limit=_LONGEST_HEAD)
                return await asyncio.start_server(self._handle, sock=_all_addresses(port), limit=_LONGEST_HEAD)
            except OSError as error:
                if not logged:
                    log.error(
                        "probes_unavailable", address=_text(host, port), error=error.strerror or error,
                        hint=f"tried again every {self._retry_seconds:g} s; GPUs are served meanwhile",
                    )  # fmt: skip
                logged = True
            await asyncio.sleep(self._retry_seconds)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a client that leaves, stalls or sends garbage gets no answer and does no harm
        with contextlib.suppress(OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_SECONDS)
                writer.write(await self._answer(*head.split(b"\r\n", 1)))
                await asyncio.wait_for(writer.drain(), _REQUEST_SECONDS)
            except asyncio.LimitOverrunError:
                writer.write(_http(400, "request too long"))
            finally:
                writer.close()

    async def _answer(self, request_line: bytes, headers: bytes) -> bytes:
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
            accept = ",".join(map(str, BytesHeaderParser().parsebytes(headers).get_all("Accept", [])))
            # the content type repeats a part of it, and a folded header has line breaks
            return _response(200, *await self._scrape(" ".join(accept.split())), method)
        return _http(404, "only /metrics, /healthz and /readyz", method)


def _all_addresses(port: int) -> socket.socket:
    """A socket for IPv4 and IPv6, or for IPv4 alone where the kernel has no IPv6. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _http(status: int, text: str, method: str = "GET") -> bytes:
    return _response(status, f"{text}\n".encode(), "text/plain; charset=utf-8", method)


def _response(status: int, body: bytes, content_type: str, method: str) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else body)
