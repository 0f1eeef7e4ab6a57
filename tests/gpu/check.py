"""Compares the GPU facts with nvidia-smi on this machine and runs the device plugin on its GPUs: see README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "files/devplugin/src")]

from tests.gpu.daemon import try_daemon  # noqa: E402
from tests.gpu.fields import FIELDS, Field, Value, agree, look_up, value_of  # noqa: E402
from tests.gpu.rows import Row, table  # noqa: E402

MODULE = "ansible_collections.kubegpu.nvidia.plugins.modules.nvidia_gpu_facts"
# Facts that only the source itself or the moment decides.
NOT_COMPARED = ("source",)
# What nvidia-smi does not tell of newer GPUs.
ONLY_NVML = ("temperature.memory_max_celsius",)


class CheckError(Exception):
    """The check could not be made; the text says why and what to do."""


def run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        raise CheckError(f"{command[0]} is not installed: is the driver?") from None
    if done.returncode != 0:
        raise CheckError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def facts_of(source: str) -> dict[str, Any]:
    """What the module says, in a process of its own as Ansible starts it."""
    collections = ROOT / ".cache/collections"
    if not collections.exists():
        raise CheckError("this checkout is not set up: run make setup")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", MODULE],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"sources": [source]}}),
        env={**os.environ, "PYTHONPATH": f"{collections}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if not done.stdout.strip():
        raise CheckError(f"the module ended with {done.returncode}: {done.stderr}")
    facts: dict[str, Any] = json.loads(done.stdout)["ansible_facts"]["nvidia_gpu"]
    if facts["source"] != source:
        problem = facts["problem"] or {"message": f"{source} could not be used.", "hint": ""}
        raise CheckError(f"{problem['message']} {problem['hint']}")
    return facts


def query(field: str) -> list[str] | None:
    """One --query-gpu field of all GPUs; None where this driver does not know it."""
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() if done.returncode == 0 else None


def shown(field: Field, value: Value) -> str:
    if value is None:
        return "-"
    return "(hidden)" if field.hidden else str(value)


def compare_fields(facts: dict[str, Any]) -> Iterator[Row]:
    """Facts through NVML against what nvidia-smi says, by --query-gpu and by its XML."""
    # The output of root's own tool on this very machine.
    elements = ElementTree.fromstring(run("nvidia-smi", "-q", "-x")).findall("gpu")  # noqa: S314
    if len(elements) != len(facts["gpus"]):
        yield Row("number of GPUs", (str(len(facts["gpus"])), "", str(len(elements))), "DIFFERS")
        return
    for field in FIELDS:
        column = query(field.query) if field.query else None
        for gpu, element in zip(facts["gpus"], elements, strict=True):
            fact = look_up(gpu, field.fact)
            others = []
            if column is not None:
                others.append(value_of(field, column[gpu["index"]]))
            if field.xml and (raw := element.findtext(field.xml)) is not None:
                others.append(value_of(field, raw))
            table = value_of(field, column[gpu["index"]]) if column is not None else None
            tree = value_of(field, element.findtext(field.xml)) if field.xml else None
            if not others or (fact is None and not any(other is not None for other in others)):
                verdict = "-"
            elif all(agree(field, fact, other) for other in others):
                verdict = "ok" if all(fact == other for other in others) else "moves"
            else:
                verdict = "DIFFERS"
            yield Row(f"{gpu['index']}: {field.fact}", tuple(shown(field, v) for v in (fact, table, tree)), verdict)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield f"{path}[]", len(value)
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{place}]")
    else:
        yield path, value


def compare_sources(nvml: dict[str, Any], smi: dict[str, Any]) -> Iterator[Row]:
    """Every fact of one source against the other; only those that are not equal are told."""
    moving = {field.fact: field for field in FIELDS if field.moves is not None}
    hidden = {field.fact for field in FIELDS if field.hidden}
    one, other = dict(leaves(nvml)), dict(leaves(smi))
    for path in sorted(one.keys() | other.keys()):
        name = path.partition("].")[2] or path
        a, b = one.get(path), other.get(path)
        if a == b or path in NOT_COMPARED:
            continue
        if name in moving and agree(moving[name], a, b):  # type: ignore[arg-type]
            verdict = "moves"
        elif name.endswith("_bytes") and isinstance(a, int) and isinstance(b, int) and abs(a - b) < 1024 * 1024:
            verdict = "ok"  # nvidia-smi cuts memory to whole MiB
        elif name in ONLY_NVML and b is None:
            verdict = "-"
        else:
            verdict = "DIFFERS"
        secret = name in hidden or name.endswith("uuid")
        yield Row(path, tuple("(hidden)" if secret and v is not None else str(v) for v in (a, b)), verdict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-daemon", action="store_true", help="leave the device plugin out")
    parser.add_argument("--brief", action="store_true", help="only what is not ok")
    arguments = parser.parse_args()
    try:
        nvml, smi = facts_of("nvml"), facts_of("nvidia-smi")
        if not nvml["gpus"]:
            raise CheckError("there is no GPU on this machine")
        names = sorted({gpu["name"] for gpu in nvml["gpus"]})
        module = f"{nvml['kernel_module']['flavor']} kernel module"
        print(f"{nvml['count']} x {' + '.join(names)}, driver {nvml['driver_version']} ({module}), "
              f"CUDA {nvml['cuda_version']}, kernel {nvml['kernel']['release']}")  # fmt: skip
        fields, sources = list(compare_fields(nvml)), list(compare_sources(nvml, smi))
    except CheckError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    daemon = [] if arguments.no_daemon else asyncio.run(try_daemon(nvml))
    everything = [*fields, *sources, *daemon]
    if arguments.brief:
        fields = [row for row in fields if row.verdict not in ("ok", "-")]
    table("Facts and nvidia-smi", ("fact", "--query-gpu", "-q -x"), fields)
    table("Facts of NVML that are not exactly those of nvidia-smi", ("NVML", "nvidia-smi"), sources)
    if daemon:
        table("The device plugin", ("found", "wanted"), daemon)
    health = [f"{gpu['index']}: {gpu['health']['state']}" for gpu in nvml["gpus"]]
    print(f"\nhealth: {', '.join(health)}")
    return int(any(row.verdict == "DIFFERS" for row in everything))


if __name__ == "__main__":
    sys.exit(main())
