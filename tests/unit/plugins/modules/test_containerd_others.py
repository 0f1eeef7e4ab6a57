# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module containerd_runtime_config beside others: their runtimes and drop-ins, the engine that runs, rollbacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import process
from tests.unit.plugins import containerds as real
from tests.unit.plugins.modules.runtime_config_helpers import run_module, tree

NAME = "containerd_runtime_config"
PATH = "/usr/bin/nvidia-container-runtime"
TOOLKIT = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
LISTEN = """import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
listener.set_inheritable(True)
os.execv(sys.argv[2], ["containerd", "600"])
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "etc" / "conf.d").mkdir(parents=True)
    return {
        "config_path": str(tmp_path / "etc" / "config.toml"),
        "drop_in_path": str(tmp_path / "etc" / "conf.d" / "99-nvidia.toml"),
        "state_dir": str(tmp_path / "memory"),
        "socket": str(tmp_path / "containerd.sock"),
        "set_default": True,
        "backup": False,
    }


def main_text(version, more=""):
    plugin = f'plugins."{PLUGINS[version]}".containerd.runtimes.runc'
    return (
        f'version = {version}\nimports = ["conf.d/*.toml"]\n[{plugin}]\nruntime_type = "io.containerd.runc.v2"\n'
        f"[{plugin}.options]\nSystemdCgroup = true\n{more}"
    )


def theirs(version, path, default=False):
    """A file as NVIDIA's nvidia-ctk and its GPU operator write it."""
    plugin = f'plugins."{PLUGINS[version]}"'
    text = f"version = {version}\n\n[plugins]\n\n  [{plugin}]\n\n    [{plugin}.containerd]\n"
    text += '      default_runtime_name = "nvidia"\n' if default else ""
    text += f"\n      [{plugin}.containerd.runtimes]\n"
    for name, program in (("nvidia", path), ("nvidia-cdi", path + ".cdi"), ("nvidia-legacy", path + ".legacy")):
        text += f'\n        [{plugin}.containerd.runtimes.{name}]\n          runtime_type = "io.containerd.runc.v2"\n'
        text += f"\n          [{plugin}.containerd.runtimes.{name}.options]\n"
        text += f'            BinaryName = "{program}"\n            SystemdCgroup = true\n'
    return text


def engine_text(site):
    """The main file for a dump from elsewhere."""
    return Path(site["config_path"]).read_text().replace('"conf.d', f'"{Path(site["config_path"]).parent}/conf.d')


@pytest.mark.parametrize("series", ["2.1", "2.4"])
@pytest.mark.parametrize("default", [True, False])
def test_the_operators_drop_in_has_the_path_of_ours(site, tmp_path, series, default):
    site["containerd"] = real.binary(series)
    Path(site["config_path"]).write_text(main_text(3))
    drop_in = Path(site["drop_in_path"])
    drop_in.write_text(theirs(3, TOOLKIT, default))
    before = tree(tmp_path / "etc")

    refused = run_module(NAME, **dict(site, on_conflict="fail"))
    assert "the NVIDIA GPU operator made it, and its BinaryName is" in refused["msg"]
    assert tree(tmp_path / "etc") == before

    kept = run_module(NAME, **site)
    assert kept["changed"] is not default
    assert kept["conflict"] == (f'the NVIDIA GPU operator made it, and its BinaryName is "{TOOLKIT}", not "{PATH}"')
    assert "It was kept (on_conflict=keep)" in kept["warnings"][0]
    assert real.runs(real.dump(series, engine_text(site)))["BinaryName"] == TOOLKIT
    assert run_module(NAME, **site)["changed"] is False
    run_module(NAME, **dict(site, state="absent"))
    assert tree(tmp_path / "etc") == before

    replaced = run_module(NAME, **dict(site, on_conflict="replace"))
    assert (replaced["changed"], replaced["conflict"]) == (True, kept["conflict"])
    assert real.runs(real.dump(series, engine_text(site)))["BinaryName"] == PATH
    again = run_module(NAME, **site)
    assert (again["changed"], again["conflict"]) == (False, None)
    drop_in.write_text(drop_in.read_text() + "# edited\n")
    run_module(NAME, **dict(site, state="absent"))
    assert drop_in.read_text() == theirs(3, TOOLKIT, default) + "# edited\n"


@pytest.mark.parametrize(("series", "version"), [("1.6", 2), ("1.7", 2), ("2.4", 3)])
@pytest.mark.parametrize("path", [PATH, "nvidia-container-runtime", "/opt/x"])
def test_a_runtime_that_was_there_before_us_is_never_taken_for_ours(site, tmp_path, series, version, path):
    site["containerd"] = real.binary(series)
    config = Path(site["config_path"])
    config.write_text(main_text(version).replace('imports = ["conf.d/*.toml"]\n', "") + theirs(version, path)[12:])
    before = tree(tmp_path / "etc")
    answer = run_module(NAME, **site)
    assert (answer["conflict"] is None) is (path != "/opt/x")
    assert real.runs(real.dump(series, config.read_text())) == {
        "BinaryName": path,
        "SystemdCgroup": True,
        "Root": None,
    }
    run_module(NAME, **dict(site, set_default=False))
    run_module(NAME, **dict(site, state="absent"))
    assert tree(tmp_path / "etc") == before
    # the same after somebody's edit, and where there was nothing to do
    run_module(NAME, **dict(site, set_default=False))
    config.write_text(config.read_text() + "# edited\n")
    run_module(NAME, **dict(site, state="absent"))
    assert config.read_bytes() == before["config.toml"][0] + b"# edited\n"


def test_absent_without_a_memory_takes_what_has_our_path_and_no_other(site):
    site["containerd"] = real.binary("2.4")
    drop_in, gone = Path(site["drop_in_path"]), dict(site, state="absent")
    Path(site["config_path"]).write_text(main_text(3))
    drop_in.write_text(theirs(3, TOOLKIT))
    kept = run_module(NAME, **gone)
    assert kept["changed"] is False
    assert "GPU operator" in kept["conflict"]
    assert "GPU operator" in run_module(NAME, **dict(gone, on_conflict="fail"))["msg"]
    assert run_module(NAME, **dict(gone, on_conflict="replace"))["changed"] is True
    assert "runtimes.nvidia]" not in drop_in.read_text()
    drop_in.write_text(theirs(3, PATH))
    assert run_module(NAME, **gone)["changed"] is True


def test_what_somebody_made_of_our_runtime_is_theirs(site):
    site["containerd"] = real.binary("2.4")
    config = Path(site["config_path"])
    config.write_text(main_text(3).replace("imports", "# imports"))
    run_module(NAME, **site)
    config.write_text(config.read_text().replace(PATH, TOOLKIT))
    assert "GPU operator" in run_module(NAME, **site)["conflict"]
    assert run_module(NAME, **dict(site, state="absent"))["conflict"] is not None
    assert TOOLKIT in config.read_text()


class Running:
    """A process of the name containerd that listens on a socket, as a package leaves it that was updated since: its
    program is another one by now."""

    def __init__(self, folder, socket, series):
        self.program = folder / "bin" / "containerd"
        self.program.parent.mkdir()
        self.socket, self.series = socket, series
        self.process = None
        self.restart()

    def restart(self):
        self.stop()
        Path(self.socket).unlink(missing_ok=True)
        self.program.unlink(missing_ok=True)
        shutil.copy(shutil.which("sleep"), self.program)
        self.process = subprocess.Popen([sys.executable, "-c", LISTEN, self.socket, self.program])
        comm = Path(f"/proc/{self.process.pid}/comm")
        deadline = time.monotonic() + 30
        while comm.read_text() != "containerd\n" and time.monotonic() < deadline:
            time.sleep(0.02)
        self.program.unlink()
        self.program.symlink_to(real.binary(self.series))
        (self.program.parent / "ctr").unlink(missing_ok=True)
        (self.program.parent / "ctr").symlink_to(Path(real.binary(self.series)).parent / "ctr")

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def running(site, tmp_path, request):
    Path(site["config_path"]).write_text(main_text(3))
    # a daemon that starts in the same tick as the file was written would not count as started later
    time.sleep(0.05)
    daemon = Running(tmp_path, site["socket"], getattr(request, "param", "2.4"))
    yield daemon
    daemon.stop()


def test_the_program_of_the_running_engine_counts_and_not_the_one_in_path(site, running, monkeypatch, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "containerd").symlink_to(real.binary("1.6"))
    monkeypatch.setenv("PATH", str(old), prepend=":")
    answer = run_module(NAME, check=True, **site)
    assert (answer["containerd_version"], answer["ctr"]) == (2, str(running.program.parent / "ctr"))
    asked = run_module(NAME, check=True, **dict(site, containerd=str(old / "containerd")))
    assert "version = 3 is for containerd 2.x" in asked["msg"]


@pytest.mark.parametrize(
    ("target", "found"), [("%s/containerd", True), ("%s/containerd (deleted)", True), ("/x", False)]
)
def test_program(tmp_path, target, found):
    program = tmp_path / "containerd"
    program.touch(mode=0o755)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "exe").symlink_to(target % tmp_path if "%" in target else target)
    assert process.program(7, str(tmp_path)) == (str(program) if found else None)
    assert process.program(8, str(tmp_path)) is None


def test_a_later_run_brings_back_what_was_in_effect(site, running, tmp_path):
    config, back = Path(site["config_path"]), dict(site, state="rolled_back")
    good = tree(tmp_path / "etc")
    assert run_module(NAME, **back)["changed"] is False
    assert run_module(NAME, **site)["pending"] == "restart"
    assert run_module(NAME, **dict(site, path="/opt/b"))["pending"] == "restart"
    assert run_module(NAME, **dict(site, path="/opt/b"))["changed"] is False
    assert run_module(NAME, check=True, **back)["changed"] is True
    answer = run_module(NAME, **back)
    assert [item["path"] for item in answer["files"]] == [site["drop_in_path"]]
    assert tree(tmp_path / "etc") == good
    assert run_module(NAME, **back)["changed"] is False
    assert run_module(NAME, **dict(site, state="absent"))["changed"] is False
    assert config.read_text() == main_text(3)


def test_what_was_in_effect_may_have_our_runtime_and_goes_on_to_be_ours(site, running, tmp_path):
    site["placement"] = "main"
    original = tree(tmp_path / "etc")
    run_module(NAME, **site)
    time.sleep(0.05)
    running.restart()
    assert run_module(NAME, **site)["pending"] == "none"
    good = tree(tmp_path / "etc")
    assert run_module(NAME, **dict(site, state="absent"))["pending"] == "restart"
    assert run_module(NAME, **dict(site, name="gold", path="/opt/gold"))["pending"] == "restart"
    run_module(NAME, **dict(site, state="rolled_back"))
    assert tree(tmp_path / "etc") == good
    run_module(NAME, **dict(site, state="absent"))
    assert tree(tmp_path / "etc") == original


def test_a_rollback_leaves_what_somebody_has_edited_since(site, running):
    site["placement"] = "main"
    run_module(NAME, **site)
    config = Path(site["config_path"])
    config.write_text(config.read_text() + "# edited\n")
    assert run_module(NAME, **dict(site, state="rolled_back"))["changed"] is False
    assert "# edited" in config.read_text()
