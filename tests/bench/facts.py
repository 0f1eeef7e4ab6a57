#!/usr/bin/env python3
"""How long GPU facts take: through NVML and through nvidia-smi, on 1 and 16 simulated GPUs.

Needs what `make -C tests/sim/nvml` needs. Prints a Markdown table of medians in milliseconds:

- read: one source, in a process that already runs; the yardstick (1.0x) is one `nvidia-smi -q -x` and its XML parsed,
  which is what a playbook would do by itself: no links, no topology, no compute capability, no MIG names;
- module: the whole module in a new Python, as Ansible's local connection starts it; the yardstick is the module that
  reads nvidia-smi.

The simulated GPUs answer at once, real ones do not: these are the costs of our side, not those of the driver.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / ".cache/collections")]

from tests.unit.plugins.module_utils.gpu.simulated import SimulatedMachine, libraries  # noqa: E402

READ = """
import json, subprocess, sys, time, statistics
from xml.etree import ElementTree
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import deadline, nvml, smi, subsets
import pynvml
chosen = subsets.choose(sys.argv[3].split(","))
readers = {
    "nvml": lambda: nvml.read(pynvml, chosen)["count"],
    "nvidia-smi": lambda: smi.read(lambda arguments: deadline.run(["nvidia-smi", *arguments], 60), (), chosen)["count"],
    "xml": lambda: len(ElementTree.fromstring(subprocess.check_output(["nvidia-smi", "-q", "-x"])).findall("gpu")),
}
reader, count = readers[sys.argv[1]], int(sys.argv[2])
times = []
for _ in range(count + 1):
    start = time.perf_counter()
    gpus = reader()
    times.append((time.perf_counter() - start) * 1000)
print(json.dumps({"gpus": gpus, "milliseconds": statistics.median(times[1:])}))
"""


def read(machine: SimulatedMachine, source: str, subset: str, repetitions: int) -> tuple[int, float]:
    """GPUs and median milliseconds of one source, the first call left out."""
    done = subprocess.run(
        [sys.executable, "-c", READ, source, str(repetitions), subset],
        env=machine.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    return answer["gpus"], answer["milliseconds"]


def median(function: Callable[[], object], repetitions: int) -> float:
    """Median milliseconds of a function, the first call left out."""
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--model", default="H100")
    arguments = parser.parse_args()
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    libraries()
    print("| GPUs | source | subset | read, ms | | module, ms | |")
    print("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for count in (1, 16):
        with tempfile.TemporaryDirectory() as folder:
            machine = SimulatedMachine(Path(folder), "--model", arguments.model, "--count", str(count))
            measure(machine, count, arguments.repetitions)


def measure(machine: SimulatedMachine, count: int, repetitions: int) -> None:
    """Prints the rows of one machine."""
    gpus, yardstick = read(machine, "xml", "all", repetitions)
    print(f"| {count} | `nvidia-smi -q -x`, parsed | | {yardstick:.1f} | 1.0x | | |")
    slowest: float | None = None
    for source, subset in (("nvidia-smi", "all"), ("nvidia-smi", "gpus"), ("nvml", "all"), ("nvml", "gpus")):
        seen, milliseconds = read(machine, source, f"!all,{subset}" if subset != "all" else "all", repetitions)
        if {gpus, seen} != {count}:
            sys.exit(f"{source} saw {seen} GPUs instead of {count}")
        names = ["all"] if subset == "all" else ["!all", subset]
        parameters = {"sources": [source], "gather_subset": names, "host_root": str(machine.root)}
        module = median(functools.partial(machine.module, "nvidia_gpu_facts", **parameters), repetitions)
        slowest = slowest or module
        ratios = f"{milliseconds / yardstick:.2f}x | {module:.0f} | {module / slowest:.2f}x"
        print(f"| {count} | {source} | {subset} | {milliseconds:.1f} | {ratios} |")


if __name__ == "__main__":
    main()
