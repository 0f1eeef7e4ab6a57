"""verify costs a fleet's host few tasks, and the cluster the same for one host and for a thousand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.house.repository import ROOT, load

TASKS = ROOT / "roles" / "verify" / "tasks"
# with the role's inclusion and the check of its arguments eleven; what fits no runtime of the host is skipped
MOST_FOR_A_HOST = 9


def flat(tasks: list[dict[str, Any]], once: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each task with whether it runs once for all hosts, those of imported files too."""
    for task in tasks:
        here = once or bool(task.get("run_once"))
        inner = [*task.get("block", []), *task.get("rescue", []), *task.get("always", [])]
        imported = task.get("ansible.builtin.import_tasks")
        if inner:
            yield from flat(inner, here)
        elif imported:
            yield from flat(load(TASKS / imported), here)
        else:
            yield task, here


def tasks() -> list[tuple[dict[str, Any], bool]]:
    return list(flat(load(TASKS / "main.yml")))


def test_a_host_is_asked_little():
    names = [task["name"] for task, once in tasks() if not once]
    assert len(names) <= MOST_FOR_A_HOST, names


def test_the_cluster_is_asked_once_for_all_hosts():
    cluster = [
        (task["name"], once)
        for task, once in tasks()
        if any(key.startswith("kubernetes.core.") or key == "kubegpu.nvidia.k8s_kinds_info" for key in task)
    ]
    assert len(cluster) >= 8
    assert [name for name, once in cluster if not once] == []


WANTED = {"name", "runtime_args", "set_default", "cdi", "state", "on_conflict", "enable_cri", "runtime_root",
          "monitor_path"}  # fmt: skip
"""What the runtimes' roles say that is no place to look at."""


def variable(template: str) -> str:
    return template.strip("{} ").partition("|")[0].strip()


def places(arguments: dict[str, str]) -> dict[str, str]:
    return {name: variable(value) for name, value in arguments.items() if name not in WANTED}


def test_the_runtimes_are_looked_for_where_their_roles_set_them_up():
    looked = {key: task[key] for task, _ in tasks() for key in task if key.endswith("_runtime_config")}
    assert len(looked) == 3
    for module, arguments in looked.items():
        role = ROOT / "roles" / module.rpartition(".")[2].removesuffix("_config")
        main = load(role / "tasks" / "main.yml")
        first, *_ = [
            task.get("module_defaults", task)[module] for task in main if module in task.get("module_defaults", task)
        ]
        assert places(arguments) == places(first)
