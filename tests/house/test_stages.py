from __future__ import annotations

import itertools

from tests.house.stages import run_all, table


def test_all_stages_run_in_order_and_the_table_has_each():
    seen: list[str] = []
    ticks = itertools.count(0, 61.0)
    results = run_all(["lint", "unit"], lambda stage: seen.append(stage) or 0, lambda: next(ticks))
    assert seen == ["lint", "unit"]
    assert table(results).splitlines() == [
        "stage       result        duration",
        "lint        passed            1:01",
        "unit        passed            1:01",
        "total                         2:02",
        "all tests passed",
    ]


def test_the_first_failure_ends_the_run_and_is_named():
    seen: list[str] = []

    def run(stage: str) -> int:
        seen.append(stage)
        return 2 if stage == "unit" else 0

    results = run_all(["lint", "unit", "e2e"], run, lambda: 0.0)
    assert seen == ["lint", "unit"]
    assert [result.verdict for result in results] == ["passed", "FAILED", "not run"]
    assert "failed in stage unit" in table(results).splitlines()[-1]
