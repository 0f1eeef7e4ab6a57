"""What the matrix keeps of its cells, and the table that is made from it."""

from __future__ import annotations

import pytest

from tests.house import matrix
from tests.house.repository import ROOT

CELL = matrix.Cell("some", ("tests/e2e/test_some.py",), needs="KUBEGPU_TEST_SOME")


def made(result: str, **found: list[str]) -> dict[str, object]:
    return {"cell": "x", "versions": found, "commit": "c", "date": "2026-11-30", "minutes": 1, "result": result}


def test_the_table_has_what_passed_and_each_version_once() -> None:
    record = [
        made("passed: 3 passed", containerd=["1.10.1", "1.6.20"]),
        made("passed: 1 passed", containerd=["1.6.20"], Kubernetes=["1.37.2"]),
        made("failed: 1 failed", containerd=["2.4.2"]),
        made("not run: KUBEGPU_CRIO is not set"),
    ]
    assert matrix.table(record).splitlines()[2:] == ["| Kubernetes | 1.37.2 |", "| containerd | 1.6.20, 1.10.1 |"]


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"top\n{matrix.BEGIN}\nold\n{matrix.END}\nbottom\n"
    once = matrix.put_table(page, "new")
    assert once == f"top\n{matrix.BEGIN}\n\nnew\n\n{matrix.END}\nbottom\n"
    assert matrix.put_table(once, "new") == once


@pytest.mark.parametrize("page", ["", matrix.BEGIN, f"{matrix.END} {matrix.BEGIN}"])
def test_a_page_without_a_place_for_the_table_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match=r"README\.md lacks the lines"):
        matrix.put_table(page, "new")


def test_a_cell_whose_engine_is_not_here_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CELL.needs, raising=False)
    item = matrix.entry(CELL, "c", "2026-11-30", lambda cell: pytest.fail("it has nothing to run on"))
    assert (item["result"], item["versions"]) == ("not run: KUBEGPU_TEST_SOME is not set", {})
    monkeypatch.setenv(CELL.needs, "/somewhere")
    item = matrix.entry(CELL, "c", "2026-11-30", lambda cell: ("passed: 1 passed", {"CRI-O": ["1.37.0"]}))
    assert (item["result"], item["versions"]) == ("passed: 1 passed", {"CRI-O": ["1.37.0"]})


def test_cells_name_tests_that_are_there() -> None:
    for cell in matrix.CELLS:
        for path in (word for word in cell.tests if word.startswith("tests/")):
            assert (ROOT / path).exists(), f"{cell.name}: {path}"


def test_every_end_to_end_test_is_in_a_cell() -> None:
    listed = {path for cell in matrix.CELLS for path in cell.tests}
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tests/e2e").glob("test_*.py")} - listed == set()


def test_the_readmes_table_is_the_one_of_the_record() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert matrix.put_table(page, matrix.table(matrix.read())) == page
