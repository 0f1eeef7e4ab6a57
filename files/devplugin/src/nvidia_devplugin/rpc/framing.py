"""Messages as gRPC sends them: a byte that says whether it is compressed, its length in four more, the message."""

from __future__ import annotations

import struct

from .status import Code, RpcError

LIMIT = 4 * 2**20
"""Bytes that a message may have, as with gRPC's own libraries."""

_HEAD = struct.Struct(">BI")


def framed(message: bytes) -> bytes:
    """The message as it is sent."""
    return _HEAD.pack(0, len(message)) + message


def unframed(body: bytes | bytearray) -> bytes:
    """The one message that `body` is. Raises RpcError."""
    if len(body) < _HEAD.size:
        raise RpcError(Code.INTERNAL, f"expected one message, got {len(body)} bytes, which are none")
    compressed, length = _HEAD.unpack_from(body)
    if compressed:
        raise RpcError(Code.UNIMPLEMENTED, "compressed messages are not understood here")
    if length != len(body) - _HEAD.size:
        raise RpcError(
            Code.INTERNAL, f"expected one message, got one of {length} bytes in {len(body) - _HEAD.size} bytes"
        )
    return bytes(body[_HEAD.size :])


class Body:
    """Collects a message of at most `limit` bytes from its parts; what is more is thrown away at once."""

    __slots__ = ("_limit", "_parts", "too_long")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit + _HEAD.size
        self._parts = bytearray()
        self.too_long = False

    def add(self, data: bytes) -> None:
        """The next part."""
        if self.too_long or len(self._parts) + len(data) > self._limit:
            self.too_long = True
            self._parts.clear()
        else:
            self._parts += data

    def message(self) -> bytes:
        """What was collected. Raises RpcError."""
        if self.too_long:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"the message is longer than {self._limit - _HEAD.size} bytes")
        return unframed(self._parts)
