"""What is read from a cluster is cut before it is a variable, and shown by no task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.house.repository import ROOT, load

FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")])
READS = "kubegpu.nvidia.k8s_kinds_info"
WRITES = "kubernetes.core.k8s"


def flat(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        yield item
        for key in ("tasks", "block", "rescue", "always"):
            yield from flat(item.get(key) or [])


def tasks(module: str) -> list[Any]:
    """Each task of a module, with its file and name."""
    return [
        pytest.param(task, id=f"{path.relative_to(ROOT)}: {task['name']}")
        for path in FILES
        for task in flat(load(Path(path)))
        if module in task
    ]


def test_whole_objects_are_read_by_no_task() -> None:
    assert tasks("kubernetes.core.k8s_info") == []
    assert len(tasks(READS)) >= 10


@pytest.mark.parametrize("task", tasks(READS))
def test_what_is_read_is_not_shown(task: dict[str, Any]) -> None:
    assert task["no_log"] is True


@pytest.mark.parametrize("task", tasks(WRITES))
def test_what_a_write_answers_is_cut_or_not_shown(task: dict[str, Any]) -> None:
    hidden = str(task[WRITES].get("hidden_fields", ""))
    assert task.get("no_log") is True or "metadata.annotations" in hidden or "hidden_fields" in hidden
