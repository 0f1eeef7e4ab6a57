"""What came of the changes, and that each room and its tests exist."""

from __future__ import annotations

import json

import pytest

from tests.house import mutation
from tests.house.repository import ROOT


def line(worker: str, test: str | None) -> str:
    change = {"module_path": "a.py", "start_pos": [7, 0]}
    result = {"worker_outcome": worker, "test_outcome": test, "diff": "-1\n+2"}
    return json.dumps([{"mutations": [change]}, result])


def test_survivors_are_named_and_what_was_skipped_does_not_count():
    found = mutation.outcome([line("normal", "killed"), line("normal", "survived"), line("skipped", None)])
    assert found == mutation.Outcome(2, (mutation.Survivor("a.py:7", "-1\n+2"),))
    assert list(mutation.report("pods", found)) == ["a.py:7\n-1\n+2\n", "pods        1 of 2 changes noticed (50 %)"]


def test_a_change_that_was_not_tried_is_an_error():
    with pytest.raises(ValueError, match="not tried"):
        mutation.outcome(['[{"mutations": []}, null]'])


@pytest.mark.parametrize("name", mutation.ROOMS)
def test_rooms_and_their_tests_are_there(name):
    room = mutation.ROOMS[name]
    assert (ROOT / room.path).is_file()
    assert [test for test in room.tests if not (ROOT / "tests/unit" / test).exists()] == []


def test_an_unknown_room_is_refused(capsys):
    assert mutation.main(["nowhere"]) == 2
    assert "pods" in capsys.readouterr().err
