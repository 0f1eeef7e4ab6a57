#!/usr/bin/env python3
"""How long GPU facts take: through NVML and through nvidia-smi, on 1 and 16 simulated GPUs.

Needs what `make -C tests/sim/nvml` needs. Prints a Markdown table of medians in milliseconds:

- read: one source, in a process that already runs; the yardstick (1.0x) is one `nvidia-smi -q -x` and its XML parsed,
  which is what a playbook would do by itself: no links, no topology, no compute capability, no MIG names;
- task: the whole module as a task of a play over Ansible's local connection; the yardstick (1.0x) is the task that a
  playbook would have instead, `ansible.builtin.command` with `nvidia-smi -q -x`, before anybody has parsed its output.
  The row `ansible.builtin.ping` is the floor: what Ansible itself takes for a task.

The simulated GPUs answer at once, real ones do not: these are the costs of our side, not those of the driver.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
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


def tasks(machine: SimulatedMachine, rows: dict[str, dict[str, object]], repetitions: int) -> dict[str, float]:
    """Median milliseconds of each task in one play on the local connection, the first of each left out.

    The rows take turns, so that what else the machine does meets all of them.
    """
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "environment": {name: machine.environment[name] for name in ("NVML_SIM_STATE", "LD_LIBRARY_PATH", "PATH")},
        "tasks": [{"name": name, **task} for dummy in range(repetitions + 1) for name, task in rows.items()],
    }
    book = machine.folder / "play.yml"
    book.write_text(json.dumps([play]))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache/collections"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    environment.pop("ANSIBLE_CONFIG", None)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), str(book)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr)
    times: dict[str, list[float]] = {}
    for task in json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"]:
        moments = [datetime.fromisoformat(task["task"]["duration"][end].rstrip("Z")) for end in ("start", "end")]
        times.setdefault(task["task"]["name"], []).append((moments[1] - moments[0]).total_seconds() * 1000)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--model", default="H100")
    arguments = parser.parse_args()
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    libraries()
    print("| GPUs | source | subset | read, ms | | task, ms | |")
    print("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for count in (1, 16):
        with tempfile.TemporaryDirectory() as folder:
            machine = SimulatedMachine(Path(folder), "--model", arguments.model, "--count", str(count))
            measure(machine, count, arguments.repetitions)


ASKED = (("nvidia-smi", "all"), ("nvidia-smi", "gpus"), ("nvml", "all"), ("nvml", "gpus"))


def measure(machine: SimulatedMachine, count: int, repetitions: int) -> None:
    """Prints the rows of one machine."""
    gpus, yardstick = read(machine, "xml", "all", repetitions)
    rows: dict[str, dict[str, object]] = {
        "command": {"ansible.builtin.command": "nvidia-smi -q -x"},
        "ping": {"ansible.builtin.ping": {}},
    }
    for source, subset in ASKED:
        parameters = {
            "sources": [source],
            "gather_subset": ["all"] if subset == "all" else ["!all", subset],
            "host_root": str(machine.root),
        }
        rows[f"{source} {subset}"] = {"kubegpu.nvidia.nvidia_gpu_facts": parameters}
    took = tasks(machine, rows, repetitions)
    floor, ours = took["ping"], took["command"]
    print(f"| {count} | `nvidia-smi -q -x`, parsed | | {yardstick:.1f} | 1.00x | {ours:.0f} | 1.00x |")
    print(f"| {count} | `ansible.builtin.ping` | | | | {floor:.0f} | {floor / ours:.2f}x |")
    for source, subset in ASKED:
        seen, milliseconds = read(machine, source, f"!all,{subset}" if subset != "all" else "all", repetitions)
        if {gpus, seen} != {count}:
            sys.exit(f"{source} saw {seen} GPUs instead of {count}")
        task = took[f"{source} {subset}"]
        ratios = f"{milliseconds / yardstick:.2f}x | {task:.0f} | {task / ours:.2f}x"
        print(f"| {count} | {source} | {subset} | {milliseconds:.1f} | {ratios} |")


if __name__ == "__main__":
    main()
