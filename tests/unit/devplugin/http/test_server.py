"""What the HTTP side answers, over real sockets, and that a port in use is waited for."""

from __future__ import annotations

import asyncio
import socket

import pytest

from nvidia_devplugin.http.server import Probes


async def page():
    return "# TYPE x gauge\nx 1\n"


@pytest.fixture
async def port():
    """Of running probes that are not ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    task = asyncio.create_task(Probes(("127.0.0.1", number), lambda: "no GPU found", page, 0.01).run())
    await listening(number)
    yield number
    task.cancel()
    await asyncio.wait([task])


async def listening(port):
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return


async def ask(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    writer.close()
    return head, body


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        (b"GET /healthz HTTP/1.1", b"200 OK", b"ok\n"),
        (b"GET /readyz?verbose HTTP/1.0", b"503 Service Unavailable", b"no GPU found\n"),
        (b"HEAD /healthz HTTP/1.1", b"200 OK", b""),
        (b"GET /metrics HTTP/1.1", b"200 OK", b"# TYPE x gauge\nx 1\n"),
        (b"HEAD /metrics HTTP/1.1", b"200 OK", b""),
        (b"POST /healthz HTTP/1.1", b"405 Method Not Allowed", b"only GET and HEAD\n"),
        (b"GET / HTTP/1.1", b"404 Not Found", b"only /metrics, /healthz and /readyz\n"),
        (b"nonsense", b"400 Bad Request", b"not an HTTP request\n"),
        (b"GET /" + b"x" * 20000, b"400 Bad Request", b"request too long\n"),
    ],
)
async def test_answers(port, line, status, body):
    head, got = await ask(port, line + b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert got == body


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"get"])
@pytest.mark.parametrize("path", [b"/metrics", b"/healthz", b"/readyz", b"/ack"])
async def test_nothing_can_be_changed_from_here(port, method, path):
    head, _ = await ask(port, method + b" " + path + b" HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")


async def test_the_type_of_the_metrics_is_that_of_the_text_format(port):
    head, _ = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head


async def test_a_client_that_says_nothing_or_leaves_harms_nobody(port):
    _, silent = await asyncio.open_connection("127.0.0.1", port)
    assert await ask(port, b"") == (b"", b"")
    head, _ = await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    silent.close()


async def test_a_port_in_use_is_said_once_and_taken_when_it_is_free(caplog):
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    number = taken.sockets[0].getsockname()[1]
    task = asyncio.create_task(Probes(("127.0.0.1", number), lambda: None, page, 0.01).run())
    await asyncio.sleep(0.1)  # several attempts; should there be fewer, the test asks for less
    said = [record for record in caplog.records if record.getMessage() == "probes_unavailable"]
    assert len(said) == 1
    taken.close()
    await taken.wait_closed()
    await asyncio.wait_for(listening(number), 30)
    head, _ = await ask(number, b"GET /readyz HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
