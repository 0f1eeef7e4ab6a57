"""How a call ended: gRPC's status codes, and what they look like on the wire."""

from __future__ import annotations

from enum import IntEnum

_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}


class Code(IntEnum):
    """https://github.com/grpc/grpc/blob/master/doc/statuscodes.md"""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call that did not end well: why, for programs and for people."""

    def __init__(self, code: Code, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


def trailers(code: Code, details: str = "") -> list[tuple[bytes, bytes]]:
    """The last headers of an answer."""
    last = [(b"grpc-status", b"%d" % code)]
    if details:
        last.append((b"grpc-message", _escaped(details)))
    return last


def failure(headers: dict[bytes, bytes]) -> RpcError | None:
    """What the last headers of an answer say; None if all is well."""
    try:
        code = Code(int(headers[b"grpc-status"]))
    except (KeyError, ValueError):
        http = headers.get(b":status", b"?").decode("ascii", "replace")
        return RpcError(Code.UNKNOWN, f"the answer has no status of gRPC's, but HTTP's {http}")
    return RpcError(code, _unescaped(headers.get(b"grpc-message", b""))) if code else None


def _escaped(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in raw)


def _unescaped(raw: bytes) -> str:
    first, *parts = raw.split(b"%")
    whole = first
    for part in parts:
        try:
            whole += bytes.fromhex(part[:2].decode("ascii")) + part[2:]
        except ValueError:  # a sender that does not escape is believed to mean what it wrote
            whole += b"%" + part
    return whole.decode("utf-8", "replace")
