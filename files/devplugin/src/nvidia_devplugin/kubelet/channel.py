"""Calls to the kubelet's unix sockets."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio

MESSAGE_LIMIT = 4 * 2**20
"""Bytes of one message that a gRPC client or server accepts by default; the kubelet uses the default."""

_POD_RESOURCES_LIMIT = 16 * 2**20  # the kubelet's own limit for this API

_OPTIONS = (
    ("grpc.enable_retries", 0),
    # no connection is shared with an earlier channel, whose back-off a call would wait for
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", _POD_RESOURCES_LIMIT),
)


def open_channel(path: Path) -> grpc.aio.Channel:
    """A channel to the unix socket `path`, for one call; an async context manager.

    A call on it fails at once if no server listens: it never waits for a connection to come back.
    """
    return grpc.aio.insecure_channel(f"unix:{path}", options=_OPTIONS)


def reason(error: grpc.aio.AioRpcError) -> str:
    """The status and the text of a failed call, for the log."""
    return f"{error.code().name}: {error.details()}"
