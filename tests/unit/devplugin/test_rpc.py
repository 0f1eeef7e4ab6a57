"""Our gRPC, against gRPC's own library on the other end, and against raw HTTP/2 for what that would not say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import ngh2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.rpc.client import call
from nvidia_devplugin.rpc.framing import Body, framed, unframed
from nvidia_devplugin.rpc.server import Server
from nvidia_devplugin.rpc.status import Code, RpcError, failure, trailers
from tests.unit.devplugin.kubelet_stub import TIMEOUT

BIG = bytes(range(256)) * 2048  # half a MiB: many windows of HTTP/2's 64 KiB


@given(st.binary(max_size=300), st.data())
def test_a_message_arrives_as_it_was_in_whatever_parts(message, data):
    sent = framed(message)
    body = Body()
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        body.add(sent[:size])
        sent = sent[size:]
    assert body.message() == message


@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        (b"", Code.INTERNAL, "expected one message, got 0 bytes, which are none"),
        (b"\0\0\0", Code.INTERNAL, "expected one message, got 3 bytes, which are none"),
        (b"\0\0\0\0\2x", Code.INTERNAL, "expected one message, got one of 2 bytes in 1 bytes"),
        (framed(b"x") + framed(b"y"), Code.INTERNAL, "expected one message, got one of 1 bytes in 7 bytes"),
        (b"\1\0\0\0\1x", Code.UNIMPLEMENTED, "compressed messages are not understood here"),
    ],
    ids=["nothing", "cut in the head", "cut in the message", "two", "compressed"],
)
def test_what_is_not_one_message_is_refused(body, code, details):
    with pytest.raises(RpcError) as refused:
        unframed(body)
    assert (refused.value.code, refused.value.details) == (code, details)


def test_a_long_message_is_refused_and_not_kept():
    body = Body(limit=10)
    body.add(framed(b"x" * 10))
    assert body.message() == b"x" * 10
    body.add(b"y")
    body.add(b"z" * 100)
    with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED: the message is longer than 10 bytes"):
        body.message()


@given(st.sampled_from([code for code in Code if code]), st.text())
def test_a_status_comes_back_from_the_wire(code, details):
    sent = dict(trailers(code, details))
    assert all(0x20 <= byte < 0x7F for byte in sent.get(b"grpc-message", b""))
    understood = failure(sent)
    assert understood is not None
    assert understood.code is code
    assert understood.details == details.encode("utf-8", "replace").decode()


@given(st.dictionaries(st.sampled_from([b"grpc-status", b"grpc-message", b":status"]), st.binary(max_size=20)))
def test_whatever_ends_an_answer_is_understood_as_something(headers):
    understood = failure(headers)
    assert understood is None or isinstance(understood.code, Code)


class Served:
    """A server with a method of each kind, and what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open = 0
        self.news = asyncio.Condition()
        self.state = 0
        self.made = 0
        self.server = Server(
            {
                "/test/echo": lambda raw: raw,
                "/test/big": lambda raw: BIG,
                "/test/refuse": self._refuse,
                "/test/break": self._break,
            },
            {"/test/follow": self._follow, "/test/end": self._end, "/test/flood": self._flood},
        )

    def _refuse(self, raw: bytes) -> bytes:
        raise RpcError(Code.FAILED_PRECONDITION, "50 % of it, naïve: " + raw.decode())

    def _break(self, raw: bytes) -> bytes:
        raise ZeroDivisionError("what a bug looks like")

    async def _follow(self, raw: bytes) -> AsyncGenerator[bytes, None]:
        self.open += 1
        try:
            sent = 0
            while True:
                async with self.news:
                    while self.state == sent:
                        await self.news.wait()
                    sent = self.state
                yield b"%d" % sent
        finally:
            self.open -= 1

    async def _end(self, raw: bytes) -> AsyncGenerator[bytes, None]:
        yield raw
        if raw == b"badly":
            raise RpcError(Code.ABORTED, "in the middle")
        if raw == b"buggy":
            raise ZeroDivisionError("what a bug looks like")

    async def _flood(self, raw: bytes) -> AsyncGenerator[bytes, None]:
        self.open += 1
        try:
            while True:
                self.made += 1
                yield BIG
        finally:
            self.open -= 1

    async def tell(self, state: int) -> None:
        async with self.news:
            self.state = state
            self.news.notify_all()


async def soon(condition: Any) -> None:
    """Until `condition()`; fails after a while."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(poll(), TIMEOUT)


@pytest.fixture
async def served(socket_directory: Path) -> AsyncIterator[Served]:
    made = Served(socket_directory / "s")
    await made.server.start(made.path)
    yield made
    await made.server.stop(0.0)
    assert made.open == 0


@pytest.fixture
async def channel(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{served.path}") as made:
        yield made


@pytest.mark.parametrize("message", [b"", b"x", BIG], ids=["empty", "small", "many windows"])
async def test_grpcs_own_client_gets_its_answer(channel, message):
    assert await channel.unary_unary("/test/echo")(message, timeout=TIMEOUT) == message


@pytest.mark.parametrize("message", [b"", b"x", BIG], ids=["empty", "small", "many windows"])
async def test_so_does_ours(served, message):
    assert await call(served.path, "/test/echo", message, TIMEOUT) == message


@pytest.mark.parametrize(
    ("path", "message", "code", "details"),
    [
        ("/test/refuse", b"x", Code.FAILED_PRECONDITION, "50 % of it, naïve: x"),
        ("/test/nothing", b"x", Code.UNIMPLEMENTED, "no method /test/nothing here"),
        ("/test/break", b"x", Code.UNKNOWN, "ZeroDivisionError('what a bug looks like')"),
        ("/test/echo", b"x" * (4 * 2**20 + 1), Code.RESOURCE_EXHAUSTED, "the message is longer than 4194304 bytes"),
    ],
    ids=["refused", "no such method", "a bug", "too long"],
)
async def test_both_clients_are_told_why_not(served, channel, path, message, code, details):
    with pytest.raises(grpc.aio.AioRpcError) as theirs:
        await channel.unary_unary(path)(message, timeout=TIMEOUT)
    assert theirs.value.code().value[0] == code
    assert theirs.value.details() == details
    with pytest.raises(RpcError) as ours:
        await call(served.path, path, message, TIMEOUT)
    assert (ours.value.code, ours.value.details) == (code, details)
    assert await channel.unary_unary("/test/echo")(b"still there", timeout=TIMEOUT) == b"still there"


async def test_many_calls_at_once_on_one_connection(channel):
    echo = channel.unary_unary("/test/echo")
    messages = [b"%d" % number * number for number in range(200)]
    assert await asyncio.gather(*(echo(message, timeout=TIMEOUT) for message in messages)) == messages


@pytest.mark.parametrize(
    ("request_", "code"), [(b"well", None), (b"badly", "ABORTED"), (b"buggy", "UNKNOWN")], ids=lambda value: str(value)
)
async def test_a_stream_ends_as_its_method_does(channel, request_, code):
    stream = channel.unary_stream("/test/end")(request_, timeout=TIMEOUT)
    assert await stream.read() == request_
    if code is None:
        assert await stream.read() is grpc.aio.EOF
    else:
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert ended.value.code().name == code


async def test_a_stream_that_is_cancelled_ends_its_method(served, channel):
    stream = channel.unary_stream("/test/follow")(b"")
    await served.tell(1)
    assert await stream.read() == b"1"
    assert served.open == 1
    stream.cancel()
    await soon(lambda: served.open == 0)


async def test_so_does_one_whose_client_is_gone(served, raw):
    raw.ask(b"/test/follow", framed(b""))
    raw.send()
    await served.tell(1)
    await soon(lambda: served.open == 1)
    raw.transport.abort()
    await soon(lambda: served.open == 0)
    await soon(lambda: not served.server.connections)


class Raw(asyncio.Protocol):
    """An HTTP/2 client that does as it is told."""

    def __init__(self) -> None:
        self.http = ngh2.Connection(ngh2.Role.CLIENT)
        self.events: list[ngh2.Event] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.http.initiate_connection()
        self.send()

    def data_received(self, data: bytes) -> None:
        self.http.receive_data(data)
        self.events += self.http.events()
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():  # by a test that did not wait any longer
            self.lost.set_result(None)

    def send(self) -> None:
        self.transport.write(self.http.data_to_send())

    def ask(self, path: bytes, body: bytes | None = None, **more: bytes) -> int:
        headers = {":method": b"POST", ":scheme": b"http", ":path": path, ":authority": b"localhost", **more}
        stream = self.http.send_request([(key.encode(), value) for key, value in headers.items()], end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        return stream

    def status(self, stream: int) -> bytes | None:
        """The grpc-status of the answer, once it is there."""
        for event in self.events:
            if isinstance(event, (ngh2.ResponseReceived, ngh2.TrailersReceived)) and event.stream_id == stream:
                found = dict(event.headers).get(b"grpc-status")
                if found is not None:
                    return found
        return None


@pytest.fixture
async def raw(served: Served) -> AsyncIterator[Raw]:
    transport, made = await asyncio.get_running_loop().create_unix_connection(Raw, str(served.path))
    yield made
    transport.close()


async def test_a_request_without_a_body_or_with_two_messages_is_refused(raw):
    empty = raw.ask(b"/test/echo")
    twice = raw.ask(b"/test/echo", framed(b"x") * 2)
    raw.send()
    await soon(lambda: raw.status(empty) and raw.status(twice))
    assert {raw.status(empty), raw.status(twice)} == {b"%d" % Code.INTERNAL}


@pytest.mark.parametrize("method", [b"CONNECT", b"HEAD", b"GET", b"OPTIONS"])
async def test_other_methods_of_http_do_no_harm(served, raw, method):
    headers = [(b":method", method), (b":authority", b"localhost")]
    if method != b"CONNECT":
        headers += [(b":scheme", b"http"), (b":path", b"/test/echo")]
    odd = raw.http.send_request(headers, end_stream=method != b"CONNECT")
    if method == b"CONNECT":
        raw.http.send_data(odd, framed(b"x"), end_stream=True)
    last = raw.ask(b"/test/echo", framed(b"x"))
    raw.send()
    await soon(lambda: raw.status(last))
    assert raw.status(last) == b"0"
    assert raw.status(odd) != b"0"


async def test_requests_that_are_reset_in_the_same_breath_leave_the_others_alone(served, raw):
    """The answer finds no stream to go to: that is no matter of the connection's."""
    for path in (b"/test/echo", b"/test/refuse", b"/test/follow", b"/test/nothing"):
        raw.http.reset_stream(raw.ask(path, framed(b"x")))
    last = raw.ask(b"/test/echo", framed(b"x"))
    raw.send()
    await soon(lambda: raw.status(last))
    assert raw.status(last) == b"0"
    await soon(lambda: served.open == 0)


async def test_who_speaks_no_http_is_hung_up_on(served):
    reader, writer = await asyncio.open_unix_connection(str(served.path))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.read(), TIMEOUT)
    writer.close()
    assert await call(served.path, "/test/echo", b"x", TIMEOUT) == b"x"


async def test_who_says_good_bye_is_hung_up_on_when_its_calls_are_done(served, raw):
    stream = raw.ask(b"/test/end", framed(b"x"))
    raw.http.send_goaway()
    raw.send()
    await asyncio.wait_for(raw.lost, TIMEOUT)
    assert raw.status(stream) == b"0"


async def test_a_slow_reader_gets_less_and_newer_and_costs_no_memory(served):
    transport, slow = await asyncio.get_running_loop().create_unix_connection(Raw, str(served.path))
    slow.ask(b"/test/flood", framed(b""))
    slow.send()
    transport.pause_reading()
    await soon(lambda: served.made)
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert served.made <= 2
    transport.resume_reading()
    await soon(lambda: served.made > 4)
    transport.close()
    await soon(lambda: served.open == 0)


async def test_who_asks_and_does_not_read_is_not_listened_to(served):
    transport, slow = await asyncio.get_running_loop().create_unix_connection(Raw, str(served.path))
    slow.http.update_settings({ngh2.Setting.INITIAL_WINDOW_SIZE: 2**30})
    slow.http.set_local_window_size(2**30)
    last = slow.ask(b"/test/echo", framed(b"x"))
    slow.send()
    await soon(lambda: slow.status(last))
    transport.pause_reading()
    for _ in range(20):
        last = slow.ask(b"/test/big", framed(b""))
        slow.send()
        await asyncio.sleep(0.002)
    (connection,) = served.server.connections
    assert connection._transport.get_write_buffer_size() + connection._http.queued_body_size() < 3 * len(BIG)
    transport.resume_reading()
    await soon(lambda: slow.status(last))
    transport.close()


async def test_a_slow_stream_does_not_hold_up_a_fast_one(served):
    transport, client = await asyncio.get_running_loop().create_unix_connection(Raw, str(served.path))
    client.http.set_local_window_size(2**20)  # the connection's; the streams' stay as they are
    client.ask(b"/test/flood", framed(b""))
    fast = client.ask(b"/test/echo", framed(b"x"))
    client.send()
    await soon(lambda: client.status(fast))
    transport.close()
    await soon(lambda: served.open == 0)


async def test_stop_waits_for_streams_that_end_and_not_for_others(served, channel):
    ending = channel.unary_stream("/test/follow")(b"")
    await served.tell(1)
    assert await ending.read() == b"1"
    await served.server.stop(0.01)
    assert served.open == 0
    with pytest.raises(grpc.aio.AioRpcError):
        await ending.read()
    with pytest.raises(RpcError, match="UNAVAILABLE"):
        await call(served.path, "/test/echo", b"x", TIMEOUT)


async def test_stop_does_not_wait_for_a_client_that_does_not_read(served):
    transport, slow = await asyncio.get_running_loop().create_unix_connection(Raw, str(served.path))
    slow.http.set_local_window_size(2**30)
    slow.ask(b"/test/flood", framed(b""))
    slow.send()
    transport.pause_reading()
    await soon(lambda: served.made)
    await asyncio.wait_for(served.server.stop(0.01), TIMEOUT)
    await soon(lambda: not served.server.connections)
    transport.close()


async def test_nothing_of_a_connection_stays(served):
    before = len(asyncio.all_tasks())
    for _ in range(20):
        transport, client = await asyncio.get_running_loop().create_unix_connection(Raw, str(served.path))
        client.ask(b"/test/follow", framed(b""))
        last = client.ask(b"/test/echo", framed(b"x"))
        client.send()
        await soon(lambda client=client, last=last: client.status(last))
        transport.close()
    await soon(lambda: not served.server.connections)
    await soon(lambda: len(asyncio.all_tasks()) <= before + 1)  # the one that looks


@contextlib.asynccontextmanager
async def answering(path: Path, answer: bytes | None) -> AsyncIterator[None]:
    """A server that answers everybody with these bytes; with none it hangs up, with None it says nothing at all."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if answer is not None:
            writer.write(answer)
            await reader.read(10)
        if answer == b"":
            writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    yield
    server.close()
    for writer in writers:
        writer.close()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, Code.INTERNAL),
        (b"", Code.UNAVAILABLE),
        (None, Code.DEADLINE_EXCEEDED),
    ],
    ids=["no HTTP/2", "hangs up", "says nothing"],
)
async def test_our_client_survives_whatever_answers(socket_directory, answer, code):
    path = socket_directory / "s"
    async with answering(path, answer):
        with pytest.raises(RpcError) as failed:
            await call(path, "/test/echo", b"x", 0.2 if answer is None else TIMEOUT)
    assert failed.value.code is code


async def test_our_client_without_a_server(socket_directory):
    with pytest.raises(RpcError, match=r"UNAVAILABLE: .*/s: No such file or directory"):
        await call(socket_directory / "s", "/test/echo", b"x", TIMEOUT)


async def test_our_client_is_not_flooded(served):
    with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED: the message is longer than 100 bytes"):
        await call(served.path, "/test/echo", BIG, TIMEOUT, limit=100)
