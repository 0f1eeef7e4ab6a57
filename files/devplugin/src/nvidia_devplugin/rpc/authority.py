"""Requests of kubelets that name a socket's path as the authority, made into ones that HTTP allows.

Kubelets before 1.26 send `:authority: /var/lib/kubelet/…` (https://github.com/kubernetes/kubernetes/pull/112597). No
slash may be there, and libnghttp2 refuses such a request; its option that would let it pass is not among ngh2's. Nobody
reads that header here, so its value is overwritten where it stands, by as many letters as it has bytes. No length
changes, and the sender's table of headers and ours still agree: entries are counted from the newest one, and what is
shorter in ours is merely forgotten later.

HTTP/2's frames: RFC 9113, section 4.1; how headers are written in them: RFC 7541, section 6.
"""

from __future__ import annotations

from collections.abc import Iterator

_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_FRAME_HEAD = 9
_HEADERS = 1
_PADDED, _PRIORITY = 0x8, 0x20
_LONGEST = 16384  # what a frame may have unless we say otherwise, and we do not
_AUTHORITY = 1  # its place in the static table
_NAME = b"\x0a:authority"  # as gRPC's library in C writes it, with its length
# what its value can follow: it is to be remembered, is not, is never to be; or the name in letters
_SIGNS = (b"\x41", b"\x01", b"\x11", _NAME)


class Authorities:
    """Passes on what one client sends."""

    def __init__(self) -> None:
        self._plain = _PREFACE  # so many bytes are no matter of ours
        self._rest = b""

    def passed(self, data: bytes) -> bytes:
        """What to read instead of `data`; a frame of headers only when all of it is there."""
        if self._rest:
            data = self._rest + data
        changed: bytearray | None = None
        at = 0
        while at < len(data):
            if self._plain:
                step = min(self._plain, len(data) - at)
                self._plain -= step
                at += step
                continue
            begin = at + _FRAME_HEAD
            if len(data) < begin:
                break
            end = begin + int.from_bytes(data[at : at + 3], "big")
            if data[at + 3] != _HEADERS or end - begin > _LONGEST:
                self._plain = end - at
                continue
            if len(data) < end:
                break
            if any(data.find(sign, begin, end) >= 0 for sign in _SIGNS):
                for length, start, stop in _authorities(data, begin, end, data[at + 4]):
                    changed = bytearray(data) if changed is None else changed
                    changed[length] &= 0x7F  # letters as they are, not Huffman's
                    changed[start:stop] = b"x" * (stop - start)
            at = end
        self._rest = data[at:]
        whole = data if changed is None else bytes(changed)
        return whole[:at] if self._rest else whole


def _authorities(data: bytes, begin: int, end: int, flags: int) -> Iterator[tuple[int, int, int]]:
    """Where the values are: the byte in which the length begins, the first byte and the one after the last.

    Stops at what it does not understand; that is for others to refuse.
    """
    at = begin
    if flags & _PADDED:
        end -= data[at] if at < end else 0
        at += 1
    if flags & _PRIORITY:
        at += 5
    try:
        while at < end:
            first = data[at]
            if first & 0x80:
                at = _integer(data, at, end, 7)[1]
            elif first & 0xE0 == 0x20:
                at = _integer(data, at, end, 5)[1]
            else:
                name, at = _integer(data, at, end, 6 if first & 0x40 else 4)
                ours = name == _AUTHORITY or (not name and data.startswith(_NAME, at, end))
                if not name:
                    length, at = _integer(data, at, end, 7)
                    at += length
                value = at
                length, at = _integer(data, at, end, 7)
                at += length
                if ours and at <= end:
                    yield value, at - length, at
    except IndexError:
        return


def _integer(data: bytes, at: int, end: int, bits: int) -> tuple[int, int]:
    """An integer whose first byte has so many bits of it, and where it ends. Raises IndexError."""
    if at >= end:
        raise IndexError
    most = (1 << bits) - 1
    value = data[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        if at >= end or shift > 28:
            raise IndexError
        byte = data[at]
        value += (byte & 0x7F) << shift
        at += 1
        shift += 7
        if not byte & 0x80:
            return value, at
