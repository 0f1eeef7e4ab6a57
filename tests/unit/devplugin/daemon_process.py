"""The daemon as a process of its own, for those who run it beside a kubelet stub."""

from __future__ import annotations

import asyncio
import shlex

from tests.unit.devplugin.kubelet_stub import TIMEOUT


class Daemon:
    """The daemon's process. Its log lines can be awaited."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._changed:
                self.lines.append(line.decode().rstrip())
                self._changed.notify_all()

    async def logged(self, event: str, **fields: object) -> dict[str, str]:
        """The first line of this event with these fields."""

        def found() -> dict[str, str] | None:
            for line in self.lines:
                if not line.startswith("time="):
                    continue
                entry = dict(part.split("=", 1) for part in shlex.split(line))
                if entry["event"] == event and all(entry.get(k) == str(v) for k, v in fields.items()):
                    return entry
            return None

        async def wait() -> dict[str, str] | None:
            async with self._changed:
                return await self._changed.wait_for(found)

        try:
            entry = await asyncio.wait_for(wait(), TIMEOUT)
        except asyncio.TimeoutError:
            raise AssertionError(f"{event} {fields} was not logged:\n" + "\n".join(self.lines)) from None
        assert entry is not None
        return entry

    async def exit(self) -> int:
        """Wait for the process; its exit status."""
        status = await asyncio.wait_for(self.process.wait(), TIMEOUT)
        await self._reader
        return status

    async def terminate(self) -> int:
        self.process.terminate()
        return await self.exit()

    async def get(self, path: str) -> tuple[int, str]:
        """GET from the probes' address: status and body."""
        address = (await self.logged("probes_listening"))["address"]
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), TIMEOUT)).decode().partition("\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.strip()
