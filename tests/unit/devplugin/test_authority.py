"""Requests with an authority that HTTP does not allow, as kubelets before 1.26 send them."""

from __future__ import annotations

import struct

import ngh2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.rpc.authority import Authorities

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = struct.pack(">HBBBL", 0, 0, 4, 0, 0)
# a header block as grpc-go writes it: POST, http, then literals that are to be remembered
START = bytes.fromhex("83 86")
PATH = b"\x44\x23" + b"/v1beta1.DevicePlugin/ListAndWatch/"
HUFFMAN = bytes.fromhex("41 8f 62 bb 46 0e 47 b0 62 9b d8 8d 89 32 51 4c a1")  # some path, of 15 bytes
RAW = b"\x41\x14/var/lib/kubelet/x.s"
LONG = b"\x41\x7f\xe1\x00" + b"/" * 224  # a length of three bytes
TYPE = bytes.fromhex("5f 8b 1d 75 d0 62 0d 26 3d 4c 4d 65 64")  # application/grpc
TE = bytes.fromhex("40 02 74 65 86 4d 83 35 05 b1 1f")  # te: trailers, with a name in letters


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def request(block: bytes, stream: int = 1, flags: int = 0) -> bytes:
    return frame(1, 4 | flags, stream, block) + frame(0, 1, stream, b"\0\0\0\0\0")


def received(data: bytes, sizes: list[int] | None = None) -> list[ngh2.Event]:
    """What a server makes of it, in parts of these sizes."""
    server = ngh2.Connection(ngh2.Role.SERVER)
    server.initiate_connection()
    authorities = Authorities()
    events = []
    while data:
        size = sizes.pop() if sizes else len(data)
        server.receive_data(authorities.passed(data[:size]))
        data = data[size:]
        events += server.events()
        server.data_to_send()
    return events


def requests(events: list[ngh2.Event]) -> list[dict[bytes, bytes]]:
    return [dict(event.headers) for event in events if isinstance(event, ngh2.RequestReceived)]


@pytest.mark.parametrize("authority", [HUFFMAN, RAW, LONG], ids=["huffman", "letters", "long"])
@pytest.mark.parametrize(
    "literal",
    [b"\x41", b"\x01", b"\x11", b"\x40\x0a:authority", b"\x00\x0a:authority"],
    ids=["remembered", "not remembered", "never remembered", "by its name", "by its name, not remembered"],
)
def test_a_path_as_authority_is_let_through(authority, literal):
    block = START + PATH + literal + authority[1:] + TYPE + TE
    whole = PREFACE + SETTINGS + request(block)
    refused = ngh2.Connection(ngh2.Role.SERVER)
    refused.initiate_connection()
    refused.receive_data(whole)
    assert requests(refused.events()) == [], "what would be the use"
    (headers,) = requests(received(whole))
    assert headers[b":path"] == b"/v1beta1.DevicePlugin/ListAndWatch/"
    assert headers[b":authority"] == b"x" * len(headers[b":authority"])
    assert headers[b"te"] == b"trailers"


def test_what_was_remembered_is_found_again():
    """Later requests name the entries of the table: 62 is the newest."""
    first = request(START + PATH + RAW + TYPE + TE)
    again = request(START + bytes([0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]), stream=3)
    one, two = requests(received(PREFACE + SETTINGS + first + again))
    assert one == two


def test_entries_that_the_sender_forgot_do_no_harm():
    """So many requests with a header of their own that the sender's table of 4096 bytes is filled several times."""
    sent = PREFACE + SETTINGS
    for number in range(200):
        extra = b"\x40\x0cgrpc-timeout\x08%07du" % number
        sent += request(START + PATH + RAW + TYPE + TE + extra, stream=2 * number + 1)
        sent += frame(3, 0, 2 * number + 1, struct.pack(">L", 8))
    seen = requests(received(sent))
    assert [headers[b"grpc-timeout"] for headers in seen] == [b"%07du" % number for number in range(200)]


@pytest.mark.parametrize("flags", [0x8, 0x20, 0x28], ids=["padded", "with a priority", "both"])
def test_padding_and_priorities_are_stepped_over(flags):
    block = START + PATH + RAW + TYPE + TE
    if flags & 0x20:
        block = b"\0\0\0\0\x10" + block
    if flags & 0x8:
        block = b"\x07" + block + b"\0" * 7
    assert len(requests(received(PREFACE + SETTINGS + request(block, flags=flags)))) == 1


@given(st.lists(st.integers(1, 60), max_size=60))
def test_in_whatever_parts_it_arrives(sizes):
    whole = PREFACE + SETTINGS + request(START + PATH + HUFFMAN + TYPE + TE) + request(START + PATH + RAW, stream=3)
    assert len(requests(received(whole, sizes))) == 2


@given(st.binary(max_size=400), st.lists(st.integers(1, 30), max_size=20), st.booleans())
def test_whatever_it_is_it_comes_out_as_long_and_in_order(data, sizes, as_headers):
    data = PREFACE + (frame(1, data[0] if data else 0, 1, data) if as_headers else data)
    authorities = Authorities()
    passed = b""
    rest = data
    while rest:
        size = sizes.pop() if sizes else len(rest)
        passed += authorities.passed(rest[:size])
        rest = rest[size:]
    assert len(passed) <= len(data)
    assert len(data) - len(passed) < 16384 + 9
    if not as_headers and 1 not in data[24:]:
        assert data.startswith(passed)
    # what is changed is changed to x, and a length's first bit with it
    assert all(b in (a, ord("x"), a & 0x7F) for a, b in zip(data, passed, strict=False))
