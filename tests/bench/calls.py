"""A caller and a server for the benchmark, each in a process of its own.

usage: calls.py call SOCKET METHOD REQUEST COUNT PID    calls the method of v1beta1.DevicePlugin, with a request in hex
       calls.py serve SOCKET                            answers GetDevicePluginOptions with what is empty, and no more

`call` prints JSON: `us`, how long each call took in microseconds, and `cpu_us`, what process PID spent on one. It waits
as a kubelet does, a thread for a call: asyncio on this side would add its own turns of the loop to the daemon's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc
import grpc.aio

SERVICE = "v1beta1.DevicePlugin"
WARM_UP = 200


def cpu_seconds(pid: int) -> float:
    """In nanoseconds' resolution, unlike /proc/PID/stat, whose ticks are 0.2 % of five seconds."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def call(socket: str, method: str, request: bytes, count: int, pid: int) -> dict[str, object]:
    """Raises grpc.RpcError."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.unary_unary(f"/{SERVICE}/{method}")
        for _ in range(WARM_UP):
            ask(request)
        durations = []
        spent = cpu_seconds(pid)
        for _ in range(count):
            began = time.perf_counter()
            ask(request)
            durations.append((time.perf_counter() - began) * 1e6)
        return {"us": durations, "cpu_us": (cpu_seconds(pid) - spent) / count * 1e6}


async def serve(socket: str) -> None:
    """What gRPC for Python costs when nobody does anything with it."""

    async def empty(_request: bytes, _context: object) -> bytes:
        return b""

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    method = {"GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(empty)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, method),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        path, method, request, count, pid = sys.argv[2:]
        print(json.dumps(call(path, method, bytes.fromhex(request), int(count), int(pid))))
