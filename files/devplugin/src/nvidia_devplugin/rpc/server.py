"""A server of gRPC on a unix socket, in the loop that runs.

A call with one answer is answered while its last bytes are read: no task, no thread, one write. A call with a stream of
answers is a task, and the next answer is asked for when the last one is on its way: whoever reads slowly gets fewer
and newer ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

import ngh2

from ..log import Logger
from ..sockets import bound
from .authority import Authorities
from .framing import Body, framed
from .status import Code, RpcError, trailers

log = Logger("rpc")

Unary = Callable[[bytes], bytes]
"""One message for one. Raises RpcError."""
Streaming = Callable[[bytes], AsyncGenerator[bytes, None]]
"""Any number of messages for one. Raises RpcError."""

_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_DONE = trailers(Code.OK)
_SETTINGS = {ngh2.Setting.MAX_CONCURRENT_STREAMS: 32, ngh2.Setting.MAX_HEADER_LIST_SIZE: 16384}
_CONFIGURATION = ngh2.Configuration(max_inbound_header_list_size=16384)


class Server:
    """Answers the methods of `unary` and `streaming`, which are named by their paths."""

    def __init__(self, unary: Mapping[str, Unary], streaming: Mapping[str, Streaming]) -> None:
        self.unary = {path.encode(): method for path, method in unary.items()}
        self.streaming = {path.encode(): method for path, method in streaming.items()}
        self.connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen on the socket `path`, which root alone can open. Raises OSError."""
        listening = bound(path)
        loop = asyncio.get_running_loop()
        # in two steps: cancelled between them, stop() still knows what to close
        self._listener = await loop.create_unix_server(lambda: Connection(self), sock=listening, start_serving=False)
        await self._listener.start_serving()

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and end those that are open when they are done, or after `seconds`."""
        if self._listener is not None:
            self._listener.close()
        tasks = [task for connection in self.connections for task in connection.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for connection in list(self.connections):
            connection.end()
        unfinished = [task for task in tasks if not task.done()]
        if unfinished:
            await asyncio.wait(unfinished)


class _Call:
    """A request that is being received or answered."""

    __slots__ = ("body", "path", "task")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.body = Body()
        self.task: asyncio.Task[None] | None = None


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = ngh2.Connection(ngh2.Role.SERVER, _CONFIGURATION)
        self._authorities = Authorities()
        self._calls: dict[int, _Call] = {}
        self._transport: asyncio.Transport
        self._progress = asyncio.Event()
        self._held_back = False

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [call.task for call in self._calls.values() if call.task is not None]

    def end(self) -> None:
        """Say good-bye, and hang up."""
        for task in self.tasks:
            task.cancel()
        try:
            self._http.terminate_connection()
            self._flush()
        except ngh2.NGH2Error as error:
            log.debug("connection_failed", error=error)
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # it does not read, and would never be done
        else:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 for the type checker
        self._transport = transport
        self._server.connections.add(self)
        self._http.initiate_connection(_SETTINGS)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        for task in self.tasks:
            task.cancel()

    def pause_writing(self) -> None:
        self._held_back = True
        self._transport.pause_reading()  # who does not read our answers shall not ask for more

    def resume_writing(self) -> None:
        self._held_back = False
        self._transport.resume_reading()
        self._progress.set()

    def data_received(self, data: bytes) -> None:
        http = self._http
        try:
            http.receive_data(self._authorities.passed(data))
            for event in http.events():
                self._take(event)
            self._flush()
        except ngh2.NGH2Error as error:
            # no HTTP/2, or one that wants to harm: there is nothing to answer it with
            log.debug("connection_failed", error=error)
            self._transport.abort()
            return
        self._progress.set()  # there may be room now

    def _take(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.RequestReceived):
            path = dict(event.headers).get(b":path", b"")  # CONNECT has none
            self._calls[event.stream_id] = _Call(path)
        if not isinstance(event, (ngh2.RequestReceived, ngh2.DataReceived, ngh2.TrailersReceived, ngh2.StreamClosed)):
            return
        call = self._calls.get(event.stream_id)
        if call is None:
            return  # one that was answered is forgotten
        if isinstance(event, ngh2.DataReceived):
            call.body.add(event.data)
        if isinstance(event, ngh2.StreamClosed):
            del self._calls[event.stream_id]
            if call.task is not None:
                call.task.cancel()  # this caller went away
        elif isinstance(event, ngh2.TrailersReceived) or event.end_stream:
            self._answer(event.stream_id, call)

    def _answer(self, stream: int, call: _Call) -> None:
        http = self._http
        try:
            try:
                answer = self._answered(stream, call)
            except Exception as error:
                refused = _refused(call.path, error)
                http.send_response(stream, [*_HEADERS, *trailers(refused.code, refused.details)], end_stream=True)
            else:
                if answer is None:
                    return  # they come one after the other
                http.send_response(stream, _HEADERS)
                http.send_data(stream, answer)
                http.send_trailers(stream, _DONE)
        except ngh2.StreamProtocolError as error:  # whoever asked went away meanwhile
            log.debug("stream_failed", method=call.path.decode("utf-8", "replace"), error=error)
        del self._calls[stream]

    def _answered(self, stream: int, call: _Call) -> bytes | None:
        """The answer as it is sent; None if a task was made that will send several. Raises whatever a method does."""
        unary = self._server.unary.get(call.path)
        if unary is not None:
            return framed(unary(call.body.message()))
        streaming = self._server.streaming.get(call.path)
        if streaming is None:
            raise RpcError(Code.UNIMPLEMENTED, f"no method {call.path.decode('utf-8', 'replace')} here")
        answers = streaming(call.body.message())
        call.task = asyncio.ensure_future(self._stream(stream, call.path, answers))
        return None

    async def _stream(self, stream: int, path: bytes, answers: AsyncGenerator[bytes, None]) -> None:
        try:
            # closed with us, and not when somebody collects it: the plugin counts its streams
            async with aclosing(answers):
                self._http.send_response(stream, _HEADERS)
                self._flush()
                last = await self._deliver(stream, path, answers)
            self._http.send_trailers(stream, last)
            self._flush()
        except ngh2.NGH2Error as error:
            log.debug("stream_failed", method=path.decode(), error=error)
        finally:
            self._calls.pop(stream, None)

    async def _deliver(
        self, stream: int, path: bytes, answers: AsyncGenerator[bytes, None]
    ) -> list[tuple[bytes, bytes]]:
        """Send all answers; what to send at the end."""
        try:
            async for message in answers:
                self._http.send_data(stream, framed(message))
                self._flush()
                while self._held_back or self._http.queued_body_size(stream):
                    self._progress.clear()
                    await self._progress.wait()
        except ngh2.NGH2Error:
            raise
        except Exception as error:
            refused = _refused(path, error)
            return trailers(refused.code, refused.details)
        return _DONE

    def _flush(self) -> None:
        if sent := self._http.data_to_send():
            self._transport.write(sent)
        if not self._http.want_read and not self._http.want_write:  # good-byes were said, and nothing is under way
            self._transport.close()


def _refused(path: bytes, error: Exception) -> RpcError:
    if isinstance(error, RpcError):
        return error
    log.error("call_failed", method=path.decode("utf-8", "replace"), error=repr(error), exc_info=error)
    return RpcError(Code.UNKNOWN, repr(error))
