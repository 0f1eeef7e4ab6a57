from __future__ import annotations

import pytest

from tests.house.outcome import complaints, count

PYTEST = """\
.........F [100%]
=================================== FAILURES ===================================
E   assert 1 == 2
tests/unit/test_a.py:3: AssertionError
=========================== short test summary info ============================
SKIPPED [1] tests/unit/test_b.py:1: no CRI-O here
FAILED tests/unit/test_a.py::test_one[x] - assert 1 == 2
ERROR tests/unit/test_b.py::test_two - RuntimeError: no
============ 1 failed, 8 passed, 1 skipped, 4 warnings, 1 error in 386.64s (0:06:26) ============
make[1]: *** [Makefile:72: unit] Error 1
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(PYTEST, "1 failed, 8 passed, 1 skipped, 1 error", id="pytest"),
        pytest.param(
            "\x1b[32m== \x1b[1m1422 passed\x1b[0m, 30 deselected\x1b[32m in 9.10s\x1b[0m\x1b[32m ==\x1b[0m\n",
            "1422 passed",
            id="in colour",
        ),
        pytest.param("==== no tests ran in 0.01s ====\n", "", id="pytest without tests"),
        pytest.param("ruff check .\nAll checks passed!\nyamllint --strict .\n", "2 checks", id="linters"),
        pytest.param(
            'Running sanity test "compile" on Python 3.8\nRunning sanity test "pep8"\n', "2 sanity tests", id="sanity"
        ),
        pytest.param("PLAY RECAP ****\nhost : ok=3\nPLAY RECAP ****\n", "2 plays", id="molecule"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_the_count(log, expected):
    assert count(log) == expected


def test_of_pytest_the_names_of_what_failed_are_enough():
    assert complaints(PYTEST) == [
        "FAILED tests/unit/test_a.py::test_one[x] - assert 1 == 2",
        "ERROR tests/unit/test_b.py::test_two - RuntimeError: no",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: plugins/modules/x.py:1:1: E401: multiple imports on one line",
        'fatal: [node]: FAILED! => {"msg": "no"}',
        "make[1]: *** [Makefile:94: molecule] Error 2",
        "tests/house/stages.py:28:1: error: Name is not defined",
    ],
)
def test_of_others_the_lines_that_look_like_it(line):
    assert complaints(f"all is well\n\x1b[31m{line}\x1b[0m\ngoing on\n") == [line]


def test_a_log_that_names_nothing_tells_its_end_and_no_log_is_too_long():
    assert complaints("one\ntwo\n\nkilled\n") == ["one", "two", "killed"]
    assert len(complaints("fatal: [node]\n" * 1000)) == 20
