"""Runs stages of the Makefile in order, stops at the first that fails, and ends with a table of what they took.

usage: python -m tests.house.stages lint unit …
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.house.repository import ROOT

RULE = "─" * 60


@dataclass(frozen=True)
class Result:
    """How a stage ended: its name, "passed", "FAILED" or "not run", and seconds."""

    stage: str
    verdict: str
    seconds: float


def run_all(stages: Sequence[str], run: Callable[[str], int], clock: Callable[[], float]) -> list[Result]:
    """Runs the stages until one fails; ``run`` returns a stage's exit status."""
    results: list[Result] = []
    for position, stage in enumerate(stages):
        started = clock()
        status = run(stage)
        results.append(Result(stage, "passed" if status == 0 else "FAILED", clock() - started))
        if status != 0:
            results += [Result(later, "not run", 0) for later in stages[position + 1 :]]
            break
    return results


def table(results: Sequence[Result]) -> str:
    """The results as lines, with the whole time and, if there is one, the failed stage's name at the end."""
    lines = [f"{'stage':<12}{'result':<12}{'duration':>10}"]
    for result in results:
        duration = "" if result.verdict == "not run" else minutes(result.seconds)
        lines.append(f"{result.stage:<12}{result.verdict:<12}{duration:>10}".rstrip())
    lines.append(f"{'total':<24}{minutes(sum(result.seconds for result in results)):>10}")
    failed = [result.stage for result in results if result.verdict == "FAILED"]
    lines.append(f"failed in stage {failed[0]}: make {failed[0]} runs it alone" if failed else "all tests passed")
    return "\n".join(lines)


def minutes(seconds: float) -> str:
    return f"{int(seconds + 0.5) // 60}:{int(seconds + 0.5) % 60:02d}"


def make(stage: str) -> int:
    print(f"{RULE}\nstage {stage}\n{RULE}", flush=True)
    return subprocess.run(["make", "--no-print-directory", stage], cwd=ROOT, check=False).returncode


def main() -> int:
    results = run_all(sys.argv[1:], make, time.monotonic)
    print(f"{RULE}\n{table(results)}", flush=True)
    return int(any(result.verdict == "FAILED" for result in results))


if __name__ == "__main__":
    sys.exit(main())
