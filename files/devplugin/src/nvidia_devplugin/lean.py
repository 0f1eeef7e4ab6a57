"""What the daemon's libraries load and the daemon has no use for: left out, to start sooner and to stay small."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_PROTOBUF_IN_PYTHON = "google.protobuf.internal.python_message"


def leave_out() -> None:
    """Before asyncio, protobuf and pynvml are imported."""
    # asyncio would load OpenSSL (4 MB resident, 5 to 10 ms) for TLS that we never speak; it copes with its absence
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    # pynvml imports find_library, which it never calls, and with it shutil, tempfile, random and three libraries of
    # compression (0.7 MB resident, 5 to 10 ms)
    if "ctypes.util" not in sys.modules:
        stand_in = ModuleType("ctypes.util")
        stand_in.find_library = _find_library  # type: ignore[attr-defined]
        sys.modules["ctypes.util"] = stand_in
    # protobuf imports its messages in Python also where it has them in C, and with them the text format, pickle and
    # calendar (1.2 MB resident, 10 to 15 ms)
    if _PROTOBUF_IN_PYTHON not in sys.modules:
        stand_in = ModuleType(_PROTOBUF_IN_PYTHON)
        stand_in.__getattr__ = _of_messages_in_python  # type: ignore[method-assign]
        sys.modules[_PROTOBUF_IN_PYTHON] = stand_in


def _find_library(name: str) -> str | None:
    """The real one, should a later version call it."""
    sys.modules.pop("ctypes.util", None)
    from ctypes.util import find_library

    return find_library(name)


def _of_messages_in_python(name: str) -> Any:
    """The real one's, where protobuf has no messages in C (PEP 562)."""
    if name.startswith("__"):
        raise AttributeError(name)
    stand_in = sys.modules.pop(_PROTOBUF_IN_PYTHON, None)
    real = import_module(_PROTOBUF_IN_PYTHON)
    if stand_in is not None:
        stand_in.__dict__.update(vars(real))
    return getattr(real, name)
