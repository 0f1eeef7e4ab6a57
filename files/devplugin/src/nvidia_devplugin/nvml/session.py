"""NVML between init and shutdown."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import pynvml

from ..log import Logger
from ..model import EccEvent, Inventory, Topology, XidEvent
from .errors import NvmlUnavailableError
from .events import Events
from .gpu_reader import GpuReader
from .topology import read_topology

log = Logger("nvml")

_LIBRARY = "libnvidia-ml.so.1"
_LIBRARY_FOLDERS = (
    "usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu",
    "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu",
)  # fmt: skip


class NvmlSession:
    """Opening raises NvmlUnavailableError.

    reader: keeps what was read over sessions. driver_root: where the host's driver is mounted, such as /driver-root;
    the library that the container itself has is used where there is none.
    """

    def __init__(self, reader: GpuReader, driver_root: Path | None = None) -> None:
        self._reader = reader
        self._driver_root = driver_root
        self._events = Events()

    def __enter__(self) -> NvmlSession:
        load_library(self._driver_root)
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlUnavailableError(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give NVML back, so that the kernel module can be unloaded; a driver that is gone cannot answer this."""
        self._events.close()
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as failure:
            log.debug("nvml_shutdown_failed", error=failure)

    def inventory(self) -> Inventory:
        """All GPUs as they are now; new ones are watched for events. Raises NvmlUnavailableError."""
        found = self._reader.inventory()
        faults = self._events.watch(self._reader.handles)
        named = {uuid for uuid, _fault in found.faults}
        more = tuple((uuid, fault) for uuid, fault in sorted(faults.items()) if uuid not in named)
        return replace(found, faults=(*found.faults, *more))

    def topology(self, seen: Inventory) -> Topology:
        """How the GPUs of `seen` are connected. It may take a while: not at start."""
        return read_topology({gpu.uuid: gpu for gpu in seen.gpus}, self._reader.handles)

    def wait(self, seconds: float) -> XidEvent | EccEvent | None:
        """The next event, or None after so many seconds."""
        return self._events.wait(seconds)


def load_library(driver_root: Path | None) -> None:
    """Load the driver's library from a driver's root, if it is there: the loader then takes it for pynvml as well."""
    for folder in _LIBRARY_FOLDERS if driver_root is not None else ():
        path = Path(str(driver_root), folder, _LIBRARY)
        if path.exists():
            with contextlib.suppress(OSError):  # of another architecture
                ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
                return
