# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks refuse before they do anything, with the real ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import ROOT, load

TASKS = ROOT / "playbooks" / "tasks" / "batch.yml"
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))


def play(inventory: dict, playbook: Path, folder: Path, **extra: object) -> subprocess.CompletedProcess[str]:
    """Run a playbook on hosts that only localhost stands for."""
    (folder / "inventory.json").write_text(json.dumps(inventory))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "inventory.json", playbook]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        [*command, "-e", json.dumps(extra)], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


def nodes(**variables: object) -> dict:
    hosts: dict = {name: {} for name in ("a", "b", "c")}
    return {"gpu_nodes": {"hosts": hosts, "vars": {"ansible_connection": "local", **variables}}}


@pytest.fixture
def batches(tmp_path):
    """A playbook of two tasks, taking nodes and bearing failures as site.yml does."""
    (source,) = [item for item in load(ROOT / "playbooks" / "site.yml") if item["name"] == "Prepare the nodes"]
    path = tmp_path / "batches.yml"
    tasks = [{"ansible.builtin.import_tasks": str(TASKS)}, {"ansible.builtin.fail": None, "when": "broken is defined"}]
    steered = {key: source[key] for key in ("serial", "max_fail_percentage")}
    path.write_text(json.dumps([{"hosts": "gpu_nodes", "gather_facts": False, **steered, "tasks": tasks}]))
    return path


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_an_inventory_without_gpu_nodes_is_no_success(tmp_path, name):
    done = play({"others": {"hosts": {"a": {}}}}, ROOT / "playbooks" / name, tmp_path)
    assert done.returncode != 0
    assert 'No host matches "gpu_nodes"' in done.stdout
    assert "-e kubegpu_hosts=NAME" in done.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        pytest.param({"kubegpu_drain": True}, "-e kubegpu_drain=true", id="drain"),
        pytest.param({"kubegpu_serial": "40%"}, "-e kubegpu_serial=40%", id="share"),
        pytest.param({"kubegpu_serial": [1, 2]}, "-e kubegpu_serial=1", id="list"),
    ],
)
def test_what_steers_the_plays_is_not_overlooked_in_an_inventory(tmp_path, batches, variables, said):
    done = play(nodes(**variables), batches, tmp_path)
    assert done.returncode != 0
    assert "This run would take 3 nodes at a time" in done.stdout
    assert said in done.stdout


def test_what_changes_nothing_is_let_through_and_on_the_command_line_it_counts(tmp_path, batches):
    done = play(nodes(kubegpu_serial=[1, "100%"]), batches, tmp_path)
    assert done.returncode == 0, done.stdout
    done = play(nodes(), batches, tmp_path, kubegpu_drain=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PLAY [gpu_nodes]") == 3


@pytest.mark.parametrize(
    ("allowed", "broken", "said", "plays"),
    [
        pytest.param(None, "b", None, 3, id="not-said"),
        pytest.param("50", "b", None, 3, id="half"),
        pytest.param(49, "b", "b failed, 1 of 2 nodes so far", 2, id="less-than-half"),
        pytest.param(0, "b", "b failed, 1 of 2 nodes so far", 2, id="none"),
        pytest.param(20, "d", "d failed, 1 of 4 nodes so far", 3, id="later"),
    ],
)
def test_an_inventory_says_how_many_nodes_may_fail(tmp_path, batches, allowed, broken, said, plays):
    inventory = nodes(**({} if allowed is None else {"kubegpu_max_fail_percentage": allowed}))
    inventory["gpu_nodes"]["hosts"] = {name: {"broken": True} if name == broken else {} for name in "abcdef"}
    done = play(inventory, batches, tmp_path, kubegpu_serial=2)
    assert done.returncode != 0
    assert done.stdout.count("PLAY [gpu_nodes]") == plays
    if said is None:
        assert "the others were left as they are" not in done.stdout
    else:
        assert f"{said}, and kubegpu_max_fail_percentage is {allowed}: the others were left" in " ".join(
            done.stdout.split()
        )
