"""Waiting for changes in one directory with Linux' inotify(7), through libc: no library, no thread, no polling."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _IGNORED, _ONLYDIR = 0x400, 0x800, 0x8000, 0x01000000
_UNMOUNT, _OVERFLOW = 0x2000, 0x4000
_HEADER = struct.Struct("iIII")


class DirectoryWatch:
    """Which names came and went in a directory since the last look.

    written: also wake when a file was written to. Opening raises OSError. Use as a context manager, within a running
    event loop.
    """

    def __init__(self, directory: Path, written: bool = False) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1: " + os.strerror(ctypes.get_errno()))
        mask = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
        if written:
            mask |= _CLOSE_WRITE
        if libc.inotify_add_watch(self._fd, os.fsencode(directory), mask) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number), str(directory))
        self.gone = False  # the directory itself was removed: nothing more will come
        self._appeared: set[str] = set()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def __enter__(self) -> DirectoryWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def wait(self, timeout: float | None) -> set[str]:
        """The names that appeared, once anything at all changed or `timeout` seconds went by."""
        if not self._changed.is_set():
            timer = self._loop.call_later(timeout, self._changed.set) if timeout is not None else None
            try:
                await self._changed.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        self._changed.clear()
        appeared, self._appeared = self._appeared, set()
        return appeared

    def drain(self) -> None:
        """Forget what happened until now: the caller is about to look at the directory itself."""
        self._read()
        self._appeared.clear()
        if not self.gone:
            self._changed.clear()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            _watch, mask, _cookie, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length
            if mask & (_DELETE_SELF | _MOVE_SELF | _IGNORED | _UNMOUNT):
                self.gone = True
            if mask & (_CREATE | _MOVED_TO) and not mask & _OVERFLOW:
                self._appeared.add(name)
        self._changed.set()
