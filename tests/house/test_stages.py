from __future__ import annotations

import itertools
import threading

import pytest

from tests.house.stages import run_all, table


def test_all_stages_run_in_order_and_the_table_has_each():
    seen: list[str] = []
    ticks = itertools.count(0, 61.0)

    def run(stage: str, shown: bool) -> tuple[int, str]:
        assert shown
        seen.append(stage)
        return 0, "3 passed" if stage == "unit" else ""

    results = run_all([["lint"], ["unit"]], run, pytest.fail, lambda: next(ticks))
    assert seen == ["lint", "unit"]
    assert table(results, 123.4).splitlines() == [
        "stage       result        duration   tests",
        "lint        passed            1:01",
        "unit        passed            1:01   3 passed",
        "total                         2:03",
        "all tests passed",
    ]


def test_the_first_failure_ends_the_run_and_is_named():
    seen: list[str] = []

    def run(stage: str, shown: bool) -> tuple[int, str]:
        seen.append(stage)
        return 2 if stage == "unit" else 0, ""

    results = run_all([["lint"], ["unit"], ["sanity", "molecule"], ["e2e"]], run, pytest.fail, lambda: 0.0)
    assert seen == ["lint", "unit"]
    assert [result.verdict for result in results] == ["passed", "FAILED", "not run", "not run", "not run"]
    assert "failed in stage unit" in table(results, 0).splitlines()[-1]


def test_stages_of_a_group_run_side_by_side_and_all_to_their_end():
    both = threading.Barrier(2, timeout=30)
    shown_live: dict[str, bool] = {}
    shown_later: list[str] = []

    def run(stage: str, shown: bool) -> tuple[int, str]:
        shown_live[stage] = shown
        both.wait()  # breaks if one is only started when the other is through
        return int(stage == "molecule"), ""

    results = run_all([["molecule", "sanity"], ["e2e"]], run, shown_later.append, lambda: 0.0)
    assert [(result.stage, result.verdict) for result in results] == [
        ("molecule", "FAILED"),
        ("sanity", "passed"),
        ("e2e", "not run"),
    ]
    assert shown_live == {"molecule": True, "sanity": False}
    assert shown_later == ["sanity"]


def test_both_of_a_group_can_fail_and_both_are_named():
    results = run_all([["molecule", "sanity"]], lambda stage, shown: (1, ""), lambda stage: None, lambda: 0.0)
    last = table(results, 0).splitlines()[-2:]
    assert [line.split()[3] for line in last] == ["molecule:", "sanity:"]
