"""Calls a device plugin as a kubelet does, in a process of its own: one blocking call after the other.

usage: calls.py SOCKET METHOD REQUEST COUNT PID    METHOD of v1beta1.DevicePlugin, with REQUEST in hex

Prints JSON: `us`, how long each call took in microseconds, and `cpu_us`, the CPU time that process PID spent on one.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import grpc

WARM_UP = 200


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, in nanoseconds' resolution: the ticks of /proc/PID/stat are too coarse."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def call(socket: str, method: str, request: bytes, count: int, pid: int) -> dict[str, object]:
    """Raises grpc.RpcError."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.unary_unary(f"/v1beta1.DevicePlugin/{method}")
        for _ in range(WARM_UP):
            ask(request)
        durations = []
        spent = cpu_seconds(pid)
        for _ in range(count):
            began = time.perf_counter()
            ask(request)
            durations.append((time.perf_counter() - began) * 1e6)
        return {"us": durations, "cpu_us": (cpu_seconds(pid) - spent) / count * 1e6}


if __name__ == "__main__":
    path, method, request, count, pid = sys.argv[1:]
    print(json.dumps(call(path, method, bytes.fromhex(request), int(count), int(pid))))
