"""A call of one method with one answer, on a connection of its own.

A connection that is kept would make us wait out its back-off after a kubelet's restart; these calls are rare.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import ngh2

from .framing import LIMIT, Body, framed
from .status import Code, RpcError, failure


async def call(socket: Path, path: str, request: bytes, seconds: float, limit: int = LIMIT) -> bytes:
    """The answer, of at most `limit` bytes, of the method `path` on the server at `socket`. Raises RpcError."""
    try:
        return await asyncio.wait_for(_call(socket, path, request, seconds, limit), seconds)
    except asyncio.TimeoutError:
        raise RpcError(Code.DEADLINE_EXCEEDED, f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise RpcError(Code.UNAVAILABLE, f"{socket}: {error.strerror or error}") from error


async def _call(socket: Path, path: str, request: bytes, seconds: float, limit: int) -> bytes:
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"%dm" % (seconds * 1000)),
        (b"user-agent", b"nvidia-devplugin"),
    ]
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_unix_connection(
        lambda: _Exchange(headers, framed(request), Body(limit)), str(socket)
    )
    try:
        return await exchange.answer
    finally:
        transport.close()


class _Exchange(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, headers: list[tuple[bytes, bytes]], request: bytes, body: Body) -> None:
        self._headers = headers
        self._request = request
        self._body = body
        self._http = ngh2.Connection(ngh2.Role.CLIENT)
        self._transport: asyncio.Transport
        self._seen: dict[bytes, bytes] = {}
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 for the type checker
        self._transport = transport
        self._http.initiate_connection({ngh2.Setting.ENABLE_PUSH: 0})
        stream = self._http.send_request(self._headers)
        self._http.send_data(stream, self._request, end_stream=True)
        transport.write(self._http.data_to_send())

    def data_received(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            if sent := self._http.data_to_send():
                self._transport.write(sent)
            # after the writing, which may be what ends the connection
            for event in self._http.events():
                self._take(event)
        except ngh2.NGH2Error as error:
            self._end(RpcError(Code.INTERNAL, f"the server does not speak HTTP/2: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RpcError(Code.UNAVAILABLE, f"the server hung up{f': {exc}' if exc else ''}"))

    def _take(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.DataReceived):
            self._body.add(event.data)
        elif isinstance(event, (ngh2.ResponseReceived, ngh2.TrailersReceived)):
            self._seen.update(event.headers)
        elif isinstance(event, ngh2.StreamClosed):
            if event.error_code and b"grpc-status" not in self._seen:
                self._end(RpcError(Code.UNAVAILABLE, f"the server reset the call (HTTP/2 error {event.error_code})"))
            else:
                self._end(failure(self._seen))
        elif isinstance(event, ngh2.ConnectionClosed):
            why = f"HTTP/2 error {event.error_code} {event.debug_data.decode('utf-8', 'replace')}".rstrip()
            self._end(RpcError(Code.INTERNAL, f"the server does not speak HTTP/2 as we do: {why}"))

    def _end(self, error: RpcError | None) -> None:
        if self.answer.done():
            return
        if error is None:
            try:
                self.answer.set_result(self._body.message())
                return
            except RpcError as malformed:
                error = malformed
        self.answer.set_exception(error)
