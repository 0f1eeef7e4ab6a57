"""Runs the tests on every combination of versions that the README names, and writes down what was run.

usage: python -m tests.house.matrix [--table] [CELL...]

One cell after the other (all of CELLS by default). A cell that passed on the same code is not run again, and the run
goes on after one that failed. docs/tested.json has the result of each cell, README.md the table that is made from it;
--table makes only the table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e import versions
from tests.house import outcome
from tests.house.repository import ROOT

RECORD = ROOT / "docs" / "tested.json"
README = ROOT / "README.md"
LOGS = ROOT / ".cache" / "matrix"
BEGIN, END = "<!-- made from docs/tested.json by tests/house/matrix.py -->", "<!-- end of the table -->"
NOT_CODE = (":!docs", ":!README.md", ":!CHANGELOG.md")
"""What a commit may change without making the record of a cell stale."""


def _e2e(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/e2e/test_{name}.py" for name in names)


ESSENTIALS = _e2e("chain", "devices", "agent", "metrics", "verify", "remove")


@dataclass(frozen=True)
class Cell:
    """A combination of versions: the variables that choose it, and what pytest runs on it."""

    name: str
    tests: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    """A variable that must name something that cannot be fetched."""


CELLS = (
    Cell("kubernetes-1.37", (*ESSENTIALS, *_e2e("newest", "leak", "report", "driver_check", "driver_access"))),
    Cell("kubernetes-1.35", ESSENTIALS, {"KUBEGPU_K8S_VERSION": "1.35", "KUBEGPU_SIM_CONTAINERD": "1.7"}),
    Cell("kubernetes-1.20", ESSENTIALS, {"KUBEGPU_K8S_VERSION": "1.20", "KUBEGPU_SIM_CONTAINERD": "image"}),
    Cell("errors", ("tests/unit/devplugin/nvml/test_sweep.py", "tests/unit/plugins/module_utils/gpu/test_sweep.py")),
    Cell("debian-13", _e2e("chain"), {"KUBEGPU_SIM_SUITE": "trixie"}),
    Cell("toolkit", _e2e("toolkit_modes", "toolkit_cdi")),
    Cell("containerd", _e2e("containerd_runtime")),
    Cell("cri-o", _e2e("crio"), needs="KUBEGPU_CRIO"),
    Cell("docker", _e2e("docker_runtime")),
    Cell("apt", _e2e("toolkit_apt")),
    Cell("dnf", _e2e("toolkit_dnf")),
    Cell("zypper", _e2e("toolkit_zypper")),
)


def run(cell: Cell) -> tuple[str, dict[str, list[str]]]:
    """Runs a cell's tests; how they ended and the versions that they ran on."""
    records = LOGS / cell.name
    shutil.rmtree(records, ignore_errors=True)
    records.mkdir(parents=True)
    command = [
        sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", *cell.tests,
    ]  # fmt: skip
    environment = {**os.environ, **cell.environment, "KUBEGPU_VERSIONS": str(records)}
    log = LOGS / f"{cell.name}.log"
    with log.open("wb") as file:
        status = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    counted = outcome.count(text)
    return f"{'failed' if status else 'passed'}: {counted or f'pytest ended with {status}'}", versions.read(records)


def entry(
    cell: Cell, commit: str, date: str, runner: Callable[[Cell], tuple[str, dict[str, list[str]]]]
) -> dict[str, Any]:
    """What docs/tested.json has of a cell."""
    started = time.monotonic()
    found: dict[str, list[str]] = {}
    if cell.needs and not os.environ.get(cell.needs):
        result = f"not run: {cell.needs} is not set"
    else:
        result, found = runner(cell)
    minutes = round((time.monotonic() - started) / 60, 1)
    return {
        "cell": cell.name,
        "versions": found,
        "commit": commit,
        "date": date,
        "minutes": minutes,
        "result": result,
    }


def table(record: Sequence[Mapping[str, Any]]) -> str:
    """The versions of every component in the cells that passed, as Markdown."""
    found = versions.merged(item["versions"] for item in record if item["result"].startswith("passed"))
    rows = [f"| {component} | {', '.join(names)} |" for component, names in found.items()]
    return "\n".join(["| component | versions that the tests ran on |", "| --- | --- |", *rows])


def put_table(page: str, text: str) -> str:
    """A page with its table replaced. Raises ValueError where the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks the lines {BEGIN} and {END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def read() -> list[dict[str, Any]]:
    return list(json.loads(RECORD.read_text())) if RECORD.exists() else []


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def _stands(item: Mapping[str, Any]) -> bool:
    """Whether a cell passed on the code that is checked out."""
    return (
        item["result"].startswith("passed")
        and _git("diff", "--quiet", item["commit"], "--", ".", *NOT_CODE).returncode == 0
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.house.matrix", description=__doc__)
    parser.add_argument("--table", action="store_true", help="only make README.md's table from docs/tested.json")
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(cell.name for cell in CELLS))
    arguments = parser.parse_args()
    if unknown := set(arguments.cells) - {cell.name for cell in CELLS}:
        parser.error(f"no such cell: {', '.join(sorted(unknown))}")
    record = {item["cell"]: item for item in read()}
    wanted = [cell for cell in CELLS if not arguments.cells or cell.name in arguments.cells]
    commit = _git("rev-parse", "HEAD").stdout.strip()
    if not arguments.table and _git("status", "--porcelain", "--", ".", *NOT_CODE).stdout.strip():
        parser.error("commit first: docs/tested.json names the commit that was tested")
    failed = False
    for cell in wanted if not arguments.table else ():
        if cell.name in record and _stands(record[cell.name]):
            print(
                f"{cell.name}: {record[cell.name]['result']} before, at {record[cell.name]['commit'][:12]}", flush=True
            )
            continue
        print(f"{cell.name}: running, log in {Path('.cache/matrix') / cell.name}.log", flush=True)
        item = entry(cell, commit, datetime.date.today().isoformat(), run)
        record[cell.name] = item
        failed |= item["result"].startswith("failed")
        print(f"{cell.name}: {item['result']}, {item['minutes']} min", flush=True)
        RECORD.write_text(json.dumps([record[cell.name] for cell in CELLS if cell.name in record], indent=2) + "\n")
    README.write_text(put_table(README.read_text(encoding="utf-8"), table(list(record.values()))), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
