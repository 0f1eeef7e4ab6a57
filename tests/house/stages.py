"""Runs stages of the Makefile in order, stops where one failed, and ends with a table of what they took.

usage: python -m tests.house.stages lint unit molecule+sanity …

Stages that are joined by + run side by side: what the first one says is shown as it comes, what the others say when all
of them are through. All of it is kept in .cache/stages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import versions
from tests.house import outcome
from tests.house.repository import ROOT

RULE = "─" * 60
LOGS = ROOT / ".cache" / "stages"


@dataclass(frozen=True)
class Result:
    """How a stage ended: its name, "passed", "FAILED" or "not run", seconds, and how many tests did what."""

    stage: str
    verdict: str
    seconds: float = 0
    count: str = ""


Run = Callable[[str, bool], tuple[int, str]]
"""Runs a stage, with its output on the terminal or not; its exit status, and the count of its tests."""


def run_all(
    groups: Sequence[Sequence[str]], run: Run, show: Callable[[str], None], clock: Callable[[], float]
) -> list[Result]:
    """Runs one group after the other until a stage failed, the stages of a group side by side.

    ``show`` is called for those that ran without their output on the terminal.
    """
    results: list[Result] = []

    def one(stage: str, shown: bool) -> Result:
        started = clock()
        status, count = run(stage, shown)
        return Result(stage, "FAILED" if status else "passed", clock() - started, count)

    for group in groups:
        if any(result.verdict == "FAILED" for result in results):
            results += [Result(stage, "not run") for stage in group]
            continue
        with ThreadPoolExecutor(len(group)) as side_by_side:
            results += side_by_side.map(one, group, [True] + [False] * (len(group) - 1))
        for stage in group[1:]:
            show(stage)
    return results


def table(results: Sequence[Result], seconds: float) -> str:
    """The results as lines, with the whole time and, if there are any, the failed stages' names at the end."""
    lines = [f"{'stage':<12}{'result':<12}{'duration':>10}   tests"]
    for result in results:
        duration = "" if result.verdict == "not run" else minutes(result.seconds)
        lines.append(f"{result.stage:<12}{result.verdict:<12}{duration:>10}   {result.count}".rstrip())
    lines.append(f"{'total':<24}{minutes(seconds):>10}")
    failed = [result.stage for result in results if result.verdict == "FAILED"]
    lines += [f"failed in stage {stage}: make {stage} runs it alone" for stage in failed] or ["all tests passed"]
    return "\n".join(lines)


def minutes(seconds: float) -> str:
    return f"{int(seconds + 0.5) // 60}:{int(seconds + 0.5) % 60:02d}"


def log_of(stage: str) -> Path:
    return LOGS / f"{stage}.log"


def head(stage: str) -> str:
    return f"{RULE}\nstage {stage}\n{RULE}"


def make(stage: str, shown: bool) -> tuple[int, str]:
    print(head(stage) if shown else f"beside it, shown later: stage {stage}, {log_of(stage)}", flush=True)
    command = ["make", "--no-print-directory", stage]
    with (
        log_of(stage).open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        assert process.stdout is not None
        # as it comes, not line by line: pytest's dots
        while piece := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
            log.write(piece)
            log.flush()
            if shown:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
    return process.returncode, outcome.count(said(stage))


def said(stage: str) -> str:
    return log_of(stage).read_text(encoding="utf-8", errors="replace")


def main() -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(versions.folder(), ignore_errors=True)
    started = time.monotonic()
    groups = [argument.split("+") for argument in sys.argv[1:]]
    results = run_all(groups, make, lambda stage: print(f"{head(stage)}\n{said(stage)}", flush=True), time.monotonic)
    failed = [result.stage for result in results if result.verdict == "FAILED"]
    for stage in failed:
        print(f"{RULE}\nwhat stage {stage} complained of ({log_of(stage)})")
        print("\n".join(f"  {line}" for line in outcome.complaints(said(stage))))
    print(f"{RULE}\n{table(results, time.monotonic() - started)}")
    if tried := versions.read(versions.folder()):
        print(f"{RULE}\nthe end-to-end tests ran on\n{versions.table(tried)}", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
