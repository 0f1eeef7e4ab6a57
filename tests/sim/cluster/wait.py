"""Waiting for what a node or a cluster does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import docker


class NotReadyError(RuntimeError):
    """Something that was waited for did not come; the text tells what and its last state."""


def wait_for(what: str, condition: Callable[[], object], seconds: float = 120) -> None:
    """Waits until ``condition`` is true; a docker error counts as not yet. Raises NotReadyError with the last error."""
    deadline = time.monotonic() + seconds
    last: object = "false"
    while True:
        try:
            if condition():
                return
        except docker.DockerError as error:
            last = error
        if time.monotonic() > deadline:
            raise NotReadyError(f"{what}: not within {seconds:.0f} s; last: {last}")
        time.sleep(0.5)
