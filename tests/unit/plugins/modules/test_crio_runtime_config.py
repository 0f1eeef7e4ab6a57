# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module crio_runtime_config, really run, on files in a temporary directory."""

from __future__ import annotations

import subprocess
import sys
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
        "path": "/bin/true",
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


def test_a_runtime_that_is_not_there_is_refused(site, tmp_path):
    plain = tmp_path / "plain"
    plain.touch(mode=0o644)
    before = tree(tmp_path)
    for path in (str(tmp_path / "none"), "true", str(plain), "/bin"):
        answer = run_module(NAME, **dict(site, path=path))
        assert f"{path} is not an executable file" in answer["msg"]
    assert tree(tmp_path) == before


def program(path, output):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {output}\n")
    path.chmod(0o755)
    return str(path)


PACKAGE = """[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "LIB/crun"
runtime_root = "/run/crun"
monitor_path = "LIB/conmon"
allowed_annotations = [
    "io.containers.trace-syscall",
]

[crio.runtime.runtimes.runc]
runtime_path = "LIB/runc"
runtime_root = "/run/runc"
monitor_path = "LIB/conmon"
"""


@pytest.fixture
def package(site, tmp_path):
    """A real CRI-O, its files as its packages have them: no main file, and its programs in a folder of their own."""
    try:
        site["crio"] = str(engines.crio())
    except engines.EngineError as error:
        pytest.skip(str(error))
    for name in ("crun", "runc", "conmon"):
        program(tmp_path / "lib" / name, f"{name} version 2.1.6")
    site["path"] = program(tmp_path / "bin" / "nvidia-container-runtime", "version")
    folder = Path(site["config_path"]).parent
    (folder / "10-crio.conf").write_text(PACKAGE.replace("LIB", str(tmp_path / "lib")))
    return site


def test_what_the_default_runtime_has_is_taken_over(package, tmp_path):
    drop_in = Path(package["config_path"])
    before = tree(tmp_path)
    first = run_module(NAME, **package)
    assert first.get("warnings") == []
    assert first["changed"] is True
    assert (
        drop_in.read_text()
        == f"""[crio.runtime]
default_runtime = "nvidia"

[crio.runtime.runtimes.nvidia]
runtime_path = "{package["path"]}"
runtime_type = "oci"
runtime_root = "/run/crun"
monitor_path = "{tmp_path}/lib/conmon"
allowed_annotations = ["io.containers.trace-syscall"]
"""
    )
    assert first["toolkit_runtimes"] == [f"{tmp_path}/lib/crun"]
    again = run_module(NAME, **package)
    assert (again["changed"], again["toolkit_runtimes"]) == (False, first["toolkit_runtimes"])
    assert run_module(NAME, **dict(package, state="absent", backup=False))["changed"] is True
    (journal,) = (tmp_path / "memory").iterdir()
    journal.unlink()
    assert tree(tmp_path) == before


def test_the_default_that_a_later_file_names_is_the_model(package, tmp_path):
    Path(package["config_path"]).with_name("20-node.conf").write_text('[crio.runtime]\ndefault_runtime = "runc"\n')
    answer = run_module(NAME, **dict(package, set_default=False))
    assert 'runtime_root = "/run/runc"' in answer["diff"]["after"]
    assert answer["toolkit_runtimes"] == [f"{tmp_path}/lib/runc"]


def test_a_file_that_an_earlier_release_wrote_is_completed(package):
    """Without a monitor, so that CRI-O does not start."""
    drop_in = Path(package["config_path"])
    table = f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{package["path"]}"\n'
    drop_in.write_text('[crio.runtime]\ndefault_runtime = "nvidia"\n\n' + table)
    assert run_module(NAME, **package)["changed"] is True
    assert "/lib/conmon" in drop_in.read_text()


def test_the_monitor_moved_with_an_upgrade_of_the_package(package, tmp_path):
    run_module(NAME, **package)
    conf = Path(package["config_path"]).with_name("10-crio.conf")
    (tmp_path / "lib" / "conmon").rename(tmp_path / "lib" / "crio-conmon")
    conf.write_text(conf.read_text().replace("lib/conmon", "lib/crio-conmon"))
    assert run_module(NAME, **package)["changed"] is True
    assert "lib/crio-conmon" in Path(package["config_path"]).read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"monitor_path": "/nowhere/conmon"},
                     "monitor_path of the runtime nvidia, /nowhere/conmon, does not exist", id="no-monitor"),
        pytest.param({"monitor_path": "/bin/true"}, "/bin/true, is no conmon", id="no-conmon"),
        pytest.param({"monitor_path": "/usr"}, "/usr, cannot be executed: ", id="not-executable"),
        pytest.param({"monitor_path": "conmon"}, "conmon, is not an absolute path", id="not-absolute"),
    ],
)  # fmt: skip
def test_a_file_with_which_crio_would_not_start_is_not_written(package, tmp_path, change, message):
    before = tree(tmp_path)
    answer = run_module(NAME, **dict(package, **change))
    assert "CRI-O would not start with this" in answer["msg"]
    assert message in answer["msg"]
    assert "Nothing was changed" in answer["msg"]
    assert tree(tmp_path) == before


def test_crio_that_would_not_start_anyway_is_named(package, tmp_path):
    (tmp_path / "lib" / "conmon").unlink()
    before = tree(tmp_path)
    assert (
        f"monitor_path of the runtime crun, {tmp_path}/lib/conmon, does not exist" in run_module(NAME, **package)["msg"]
    )
    assert tree(tmp_path) == before


def test_absent_where_another_file_needs_the_runtime(package, tmp_path):
    run_module(NAME, **dict(package, set_default=None))
    Path(package["config_path"]).with_name("20-node.conf").write_text('[crio.runtime]\ndefault_runtime = "nvidia"\n')
    before = tree(tmp_path)
    answer = run_module(NAME, **dict(package, state="absent"))
    assert 'default_runtime set to \\"nvidia\\", but no runtime entry table' in answer["msg"]
    assert tree(tmp_path) == before


def test_absent_where_the_runtime_was_the_only_one(package, tmp_path):
    """CRI-O's own is crun, which is not in PATH."""
    conf = Path(package["config_path"]).with_name("10-crio.conf")
    conf.write_text("")
    first = run_module(NAME, **dict(package, monitor_path=str(tmp_path / "lib" / "conmon")))
    assert first.get("changed"), first
    before = tree(tmp_path)
    answer = run_module(NAME, **dict(package, state="absent"))
    assert "the default runtime crun has no runtime_path, and crun is not in CRI-O's PATH" in answer["msg"]
    assert tree(tmp_path) == before


def test_check_mode_before_the_toolkit_is_there(package):
    Path(package["path"]).unlink()
    dry = run_module(NAME, check=True, **package)
    assert (dry["changed"], dry["toolkit_runtimes"]) == (True, [])


OPERATOR = """[crio.runtime]
default_runtime = "nvidia"

[crio.runtime.runtimes.nvidia]
runtime_path = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
monitor_path = "LIB/conmon"

[crio.runtime.runtimes.nvidia-cdi]
runtime_path = "/usr/local/nvidia/toolkit/nvidia-container-runtime.cdi"
monitor_path = "LIB/conmon"
"""


def test_the_gpu_operators_file_in_our_place(site, tmp_path):
    drop_in = Path(site["config_path"])
    drop_in.write_text(OPERATOR)
    before = tree(tmp_path)
    for state in ("present", "absent"):
        kept = run_module(NAME, **dict(site, state=state))
        assert (kept["changed"], kept["toolkit_runtimes"]) == (False, [])
        assert any("was made by somebody else" in text for text in kept["warnings"])
        assert tree(tmp_path) == before
    failed = run_module(NAME, **dict(site, on_conflict="fail"))
    assert "somebody else has made the runtime nvidia" in failed["msg"]
    assert tree(tmp_path) == before
    assert "GPU operator" in run_module(NAME, **site)["conflict"]

    replaced = run_module(NAME, **dict(site, on_conflict="replace"))
    assert 'runtime_path = "/bin/true"' in replaced["diff"]["after"]
    assert "GPU operator" in replaced["conflict"]
    assert run_module(NAME, **site)["conflict"] is None
    assert run_module(NAME, **dict(site, state="absent", backup=False))["changed"] is True
    assert drop_in.read_text() == OPERATOR
    assert run_module(NAME, **dict(site, state="absent", on_conflict="replace"))["changed"] is False


def test_a_runtime_in_another_file_is_kept(site):
    Path(site["config_path"]).with_name("50-gpu.conf").write_text(OPERATOR.replace('default_runtime = "nvidia"', ""))
    kept = run_module(NAME, **dict(site, set_default=None))
    assert (kept["changed"], kept["toolkit_runtimes"]) == (False, [])
    assert kept["conflict"] is not None


@pytest.fixture
def running(site, tmp_path):
    """A process called crio that listens on the socket, with its configuration read."""
    code = f"""
import ctypes, socket, time
ctypes.CDLL(None).prctl(15, b"crio", 0, 0, 0)
server = socket.socket(socket.AF_UNIX)
server.bind({site["socket"]!r})
server.listen()
print("listens", flush=True)
time.sleep(600)
"""

    def start():
        Path(site["socket"]).unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"listens\n"

    processes = []
    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_what_an_earlier_run_wrote_is_rolled_back(site, running):
    """Run 1 writes and CRI-O takes it; run 2 writes and may not restart; run 3 restarts, and CRI-O does not start."""
    drop_in = Path(site["config_path"])
    drop_in.write_bytes(OLD)
    first = run_module(NAME, **dict(site, set_default=None))
    running()
    in_effect = drop_in.read_bytes()
    second = run_module(NAME, **site)
    assert (first["pending"], second["pending"]) == ("none", "restart")
    third = run_module(NAME, **dict(site, path="/bin/false"))
    assert (third["changed"], third["pending"]) == (True, "restart")
    back = dict(site, state="rolled_back")
    assert run_module(NAME, check=True, **back)["changed"] is True
    assert run_module(NAME, **back)["changed"] is True
    assert drop_in.read_bytes() == in_effect
    assert run_module(NAME, **dict(site, state="absent"))["changed"] is True
    assert drop_in.read_bytes() == OLD


def test_the_way_back_is_kept_until_crio_runs_without_the_runtime(site, running, tmp_path):
    drop_in = Path(site["config_path"])
    drop_in.write_bytes(OLD)
    run_module(NAME, **site)
    running()
    ours = drop_in.read_bytes()
    gone = dict(site, state="absent")
    assert run_module(NAME, **gone)["pending"] == "restart"
    # CRI-O does not start without it: the role brings the backup back, and the next run finds what it needs.
    drop_in.write_bytes(ours)
    assert run_module(NAME, **site)["changed"] is False
    assert run_module(NAME, **gone)["changed"] is True
    assert drop_in.read_bytes() == OLD
    memories = list((tmp_path / "memory").glob("*.json"))
    running()
    assert run_module(NAME, **gone)["pending"] == "none"
    assert (len(memories), list((tmp_path / "memory").glob("*.json"))) == (1, [])


def test_what_somebody_edited_is_not_rolled_back(site):
    drop_in = Path(site["config_path"])
    run_module(NAME, **site)
    drop_in.write_text(drop_in.read_text() + "# x\n")
    assert run_module(NAME, **dict(site, state="rolled_back"))["changed"] is False
