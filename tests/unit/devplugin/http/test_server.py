"""The answers of the HTTP server over real sockets, the addresses that it listens on, and a port in use."""

from __future__ import annotations

import asyncio
import socket

import pytest

from nvidia_devplugin.http.server import HttpServer


async def page(accept):
    return b"# TYPE x gauge\nx 1\n", accept or "text/plain"


@pytest.fixture
async def port():
    """The port of a running server; the daemon is not ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    task = asyncio.create_task(HttpServer(("127.0.0.1", number), lambda: "no GPU found", page, 0.01).run())
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


async def ask(port, request, host="127.0.0.1"):
    reader, writer = await asyncio.open_connection(host, port)
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


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [
        (b"", b"text/plain"),
        (b"ACCEPT: a/b;q=0.5, c/d\r\nHost: x\r\n", b"a/b;q=0.5, c/d"),
        (b"accept: a\r\nAccept: b\r\n", b"a,b"),
        (b"no header\r\n", b"text/plain"),
        (b"Accept: a/b;version=1.1\r\n X-Injected: 1\r\n", b"a/b;version=1.1 X-Injected: 1"),
        (b"Accept: \xff\r\n", b"\xef\xbf\xbd"),
    ],
)
async def test_the_client_chooses_the_format_of_the_metrics(port, headers, content_type):
    head, _ = await ask(port, b"GET /metrics HTTP/1.1\r\n" + headers + b"\r\n")
    assert b"\r\nContent-Type: " + content_type + b"\r\n" in head


@pytest.fixture
async def everywhere(caplog):
    """Starts a server without a host; returns its port, from the log."""
    caplog.set_level("INFO")
    tasks = []

    async def start():
        tasks.append(asyncio.create_task(HttpServer(("", 0), lambda: None, page).run()))
        while not (found := [r for r in caplog.records if r.getMessage() == "probes_listening"]):
            await asyncio.sleep(0.01)
        (record,) = found
        return int(record.fields["address"].rpartition(":")[2])

    yield start
    for task in tasks:
        task.cancel()
        await asyncio.wait([task])


async def test_without_a_host_it_listens_on_both_families(everywhere):
    if not socket.has_dualstack_ipv6():
        pytest.skip("this kernel has no IPv6")
    port = await everywhere()
    for host in ("127.0.0.1", "::1"):
        head, _ = await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n", host)
        assert head.startswith(b"HTTP/1.1 200"), host


async def test_without_ipv6_it_listens_on_ipv4_alone(everywhere, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    port = await everywhere()
    head, _ = await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    with pytest.raises(OSError):
        await ask(port, b"", "::1")


async def test_a_client_that_sends_nothing_or_leaves_does_no_harm(port):
    _, silent = await asyncio.open_connection("127.0.0.1", port)
    assert await ask(port, b"") == (b"", b"")
    head, _ = await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    silent.close()


async def test_a_port_in_use_is_logged_once_and_bound_when_it_is_free(caplog):
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    number = taken.sockets[0].getsockname()[1]
    task = asyncio.create_task(HttpServer(("127.0.0.1", number), lambda: None, page, 0.01).run())
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
