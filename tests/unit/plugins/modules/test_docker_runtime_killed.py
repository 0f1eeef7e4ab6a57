# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module killed by SIGKILL before each single change that it makes to the file system, and run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.plugins.modules.killer import kill_at
from tests.unit.plugins.modules.runtime_config_helpers import run_module

NAME = "docker_runtime_config"
OLD = b'{\n\t"log-driver": "journald",\n\t"default-runtime": "runc"\n}'


def set_up(folder, old):
    """Return the module's arguments for a daemon.json with the bytes old (None: no file) below a new folder."""
    (folder / "etc").mkdir(parents=True)
    if old is not None:
        (folder / "etc" / "daemon.json").write_bytes(old)
    return {
        "config_path": str(folder / "etc" / "daemon.json"),
        "state_dir": str(folder / "memory"),
        "docker_host": f"unix://{folder}/docker.sock",
        "set_default": True,
        "unit": "",
        "check_gpus_flag": False,
    }


def content(folder):
    path = folder / "etc" / "daemon.json"
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("old", [OLD, None], ids=["file", "no-file"])
def test_killed_at_every_moment(tmp_path, old, state):
    moment, kept_backups, killed = 0, 0, True
    while killed:
        moment += 1
        folder = tmp_path / str(moment)
        arguments = dict(set_up(folder, old), state="present")
        if state == "absent":
            run_module(NAME, backup=False, **arguments)
        before = content(folder)
        killed = kill_at(moment, NAME, folder, **dict(arguments, state=state))
        after_kill = content(folder)

        # The next run ends where an undisturbed one would have, and leaves nothing of the killed one.
        answer = run_module(NAME, **dict(arguments, state=state))
        assert answer["changed"] is (after_kill == before)
        assert list(folder.rglob(".*")) == []
        for backup in (folder / "etc").glob("daemon.json.*~"):
            assert backup.read_bytes() == before
            kept_backups += 1
        if state == "present":
            written = content(folder)
            assert after_kill in (before, written)
            assert json.loads(written)["default-runtime"] == "nvidia"
            assert run_module(NAME, **arguments)["changed"] is False
            run_module(NAME, **dict(arguments, state="absent"))
        else:
            assert after_kill in (before, old)
        assert content(folder) == old
        assert list((folder / "memory").iterdir()) == []
    # The last round was one without a kill; a change takes several steps, so there were several kills.
    assert moment > (5 if state == "present" else 3)
    assert kept_backups >= 1 or (old is None and state == "present")


def test_killed_after_writing_then_rolled_back(tmp_path):
    """The run that follows has no backup of its own, and still finds the way back."""
    arguments = set_up(tmp_path, OLD)
    run_module(NAME, **arguments)
    ours = content(tmp_path)
    back = dict(arguments, state="rolled_back")
    assert run_module(NAME, check=True, **back)["changed"] is True
    assert content(tmp_path) == ours
    answer = run_module(NAME, **back)
    assert answer["changed"] is True
    assert content(tmp_path) == OLD
    assert Path(answer["backup_file"]).read_bytes() == ours
    again = run_module(NAME, **back)
    assert again["changed"] is False
    assert list((tmp_path / "memory").iterdir()) == []


def test_an_edited_file_is_not_rolled_back(tmp_path):
    arguments = set_up(tmp_path, OLD)
    run_module(NAME, **arguments)
    edited = content(tmp_path) + b"\n"
    (tmp_path / "etc" / "daemon.json").write_bytes(edited)
    assert run_module(NAME, **dict(arguments, state="rolled_back"))["changed"] is False
    assert content(tmp_path) == edited
