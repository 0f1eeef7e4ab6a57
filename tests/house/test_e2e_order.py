from __future__ import annotations

from tests.e2e.conftest import ORDER
from tests.house.repository import ROOT


def test_the_order_of_the_e2e_tests_names_every_file_once():
    assert sorted(ORDER) == sorted(path.name for path in (ROOT / "tests" / "e2e").glob("test_*.py"))
