"""How long steps tell what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

Say = Callable[[str], None]


def timed(stream: TextIO | None, name: str = "") -> Say:
    """Prints messages, each with ``name`` and the seconds since now."""
    started = time.monotonic()
    label = f"{name} " if name else ""

    def say(message: str) -> None:
        print(f"[{label}{time.monotonic() - started:5.0f} s] {message}", file=stream, flush=True)

    return say
