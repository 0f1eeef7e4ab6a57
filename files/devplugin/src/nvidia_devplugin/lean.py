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
        sys.modules[_PROTOBUF_IN_PYTHON] = _when_wanted(_PROTOBUF_IN_PYTHON)


def _find_library(name: str) -> str | None:
    """The real one, should a later version call it."""
    sys.modules.pop("ctypes.util", None)
    from ctypes.util import find_library

    return find_library(name)


def _when_wanted(module: str) -> ModuleType:
    """Has what the module has, which is loaded when somebody asks for it (PEP 562)."""
    stand_in = ModuleType(module)

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(module) is stand_in:
            del sys.modules[module]
        return getattr(import_module(module), name)

    stand_in.__getattr__ = attribute  # type: ignore[method-assign]
    return stand_in
