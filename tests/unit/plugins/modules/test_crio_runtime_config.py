# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module crio_runtime_config, really run, on files in a temporary directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import debian as engines
from tests.unit.plugins.modules.killer import kill_at
from tests.unit.plugins.modules.runtime_config_helpers import run_module, tree

OLD = b'# ours\r\n[crio.runtime]\r\n\tdefault_runtime = "crun" # small\r\n'
NAME = "crio_runtime_config"


@pytest.fixture
def site(tmp_path):
    (tmp_path / "crio" / "crio.conf.d").mkdir(parents=True)
    return {
        "config_path": str(tmp_path / "crio" / "crio.conf.d" / "99-nvidia.toml"),
        "main_path": str(tmp_path / "crio" / "crio.conf"),
        "state_dir": str(tmp_path / "memory"),
        "socket": str(tmp_path / "crio.sock"),
        "crio": "no-such-crio",
        "set_default": True,
    }


@pytest.mark.parametrize("old", [None, OLD], ids=["no-file", "a-file"])
def test_check_run_again_and_back(site, tmp_path, old):
    drop_in = Path(site["config_path"])
    if old is not None:
        drop_in.write_bytes(old)
        drop_in.chmod(0o640)
    before = tree(tmp_path)
    dry = run_module(NAME, check=True, **site)
    assert dry["changed"] is True
    assert tree(tmp_path) == before

    first = run_module(NAME, **site)
    assert first["changed"] is True
    assert first["diff"] == dry["diff"]
    assert first["diff"]["after"].encode() == drop_in.read_bytes()
    assert (first["pending"], first["running"]) == ("none", False)
    assert drop_in.stat().st_mode & 0o777 == (0o644 if old is None else 0o640)
    # CRI-O reads whatever lies in this folder
    assert list(drop_in.parent.iterdir()) == [drop_in]
    assert list(drop_in.parent.parent.iterdir()) == [drop_in.parent]
    if old is None:
        assert first["backup_file"] is None
    else:
        assert Path(first["backup_file"]).read_bytes() == old

    after = tree(tmp_path)
    assert run_module(NAME, **site)["changed"] is False
    assert tree(tmp_path) == after
    gone = dict(site, state="absent", backup=False)
    assert run_module(NAME, **gone)["changed"] is True
    assert (drop_in.read_bytes() if drop_in.exists() else None) == old
    assert run_module(NAME, **gone)["changed"] is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[crio\n", "FILE, line 1, column 6: expected ']' to end the table's name, found the end of the line"),
        (b"\xff\xfe", "FILE, line 1, column 1: the file is UTF-16; save it as UTF-8"),
    ],
)
def test_bad_file_is_named_and_left_alone(site, tmp_path, content, message):
    Path(site["config_path"]).write_bytes(content)
    before = tree(tmp_path)
    answer = run_module(NAME, **site)
    assert answer["failed"] is True
    assert answer["msg"].replace(site["config_path"], "FILE") == message
    assert tree(tmp_path) == before


def test_a_file_that_crio_reads_later_is_found_before_anything_is_written(site, tmp_path):
    later = Path(site["config_path"]).with_name("99-zz.conf")
    later.write_text('[crio.runtime]\ndefault_runtime = "crun"\n')
    before = tree(tmp_path)
    answer = run_module(NAME, **site)
    assert f"CRI-O reads {later} after this file" in answer["msg"]
    assert tree(tmp_path) == before
    assert run_module(NAME, **dict(site, set_default=None))["changed"] is True


@pytest.mark.parametrize(
    ("old", "state"), [(OLD, "present"), (None, "absent"), (OLD, "absent")], ids=["present", "removed", "put-back"]
)
def test_killed_at_any_moment_and_run_again(site, tmp_path, old, state):
    drop_in = Path(site["config_path"])
    undo = dict(site, state="absent")
    moments = 0
    while True:
        if old is not None:
            drop_in.write_bytes(old)
        if state == "absent":
            run_module(NAME, **site)
        killed = kill_at(moments + 1, NAME, tmp_path, **dict(site, state=state))
        # never half a file, and nothing beside it that CRI-O would read
        assert [path.name for path in drop_in.parent.iterdir()] in ([], ["99-nvidia.toml"])
        run_module(NAME, **dict(site, state=state))
        assert list(drop_in.parent.parent.iterdir()) == [drop_in.parent]
        if state == "present":
            assert b'default_runtime = "nvidia"' in drop_in.read_bytes()
            run_module(NAME, **undo)
        assert (drop_in.read_bytes() if drop_in.exists() else None) == old
        if not killed:
            break
        moments += 1
    assert moments >= 4


def test_what_crio_itself_says(site):
    try:
        site["crio"] = str(engines.crio())
    except engines.EngineError as error:
        pytest.skip(str(error))
    answer = run_module(NAME, **dict(site, path="/bin/true"))
    assert answer.get("warnings") == []
    assert answer["changed"] is True
