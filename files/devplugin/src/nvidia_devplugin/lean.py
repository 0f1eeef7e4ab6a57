"""What the daemon's libraries load and the daemon has no use for: left out, to start sooner and to stay small."""

from __future__ import annotations

import sys
from types import ModuleType


def leave_out() -> None:
    """Before asyncio and pynvml are imported."""
    # asyncio would load OpenSSL (4 MB resident, 5 to 10 ms) for TLS that we never speak; it copes with its absence
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    # pynvml imports find_library, which it never calls, and with it shutil, tempfile, random and three libraries of
    # compression (0.7 MB resident, 5 to 10 ms)
    if "ctypes.util" not in sys.modules:
        stand_in = ModuleType("ctypes.util")
        stand_in.find_library = _find_library  # type: ignore[attr-defined]
        sys.modules["ctypes.util"] = stand_in


def _find_library(name: str) -> str | None:
    """The real one, should a later version call it."""
    sys.modules.pop("ctypes.util", None)
    from ctypes.util import find_library

    return find_library(name)
