# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module nvidia_container_runtime_config, really run, on the file as the packages ship it and on awkward ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomllib

from tests.unit.plugins.modules.runtime_config_helpers import run_module, tree

NAME = "nvidia_container_runtime_config"
SHIPPED = Path(__file__).with_name("data").joinpath("config.toml").read_bytes()
EVERYTHING = {
    "mode": "cdi", "no_cgroups": True, "debug": "/var/log/runtime.log", "log_level": "debug",
    "cli_debug": "/var/log/cli.log", "accept_envvar_when_unprivileged": False, "accept_as_volume_mounts": True,
}  # fmt: skip


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(SHIPPED)
    path.chmod(0o640)
    return path


def test_all_settings_keep_the_rest(config, tmp_path):
    before = tree(tmp_path)
    dry = run_module(NAME, check=True, path=str(config), **EVERYTHING)
    assert (dry["changed"], tree(tmp_path)) == (True, before)
    done = run_module(NAME, path=str(config), backup=True, **EVERYTHING)
    assert done["diff"] == dry["diff"]
    text = config.read_text()
    # line by line: seven lines differ, no line came or went
    old = SHIPPED.decode().splitlines()
    assert len(text.splitlines()) == len(old)
    assert {new for new, was in zip(text.splitlines(), old, strict=True) if new != was} == {
        "accept-nvidia-visible-devices-as-volume-mounts = true",
        "accept-nvidia-visible-devices-envvar-when-unprivileged = false",
        'debug = "/var/log/runtime.log"', 'debug = "/var/log/cli.log"', "no-cgroups = true",
        'log-level = "debug"', 'mode = "cdi"',
    }  # fmt: skip
    assert tomllib.loads(text)["nvidia-container-cli"]["debug"] == "/var/log/cli.log"
    assert config.stat().st_mode & 0o777 == 0o640
    assert Path(done["backup_file"]).read_bytes() == SHIPPED
    again = run_module(NAME, path=str(config), backup=True, **EVERYTHING)
    assert (again["changed"], again["backup_file"], len(tree(tmp_path))) == (False, None, 2)


@pytest.mark.parametrize("mode", ["legacy", "csv", "cdi", "jit-cdi", "auto"])
def test_every_mode_of_the_runtime_can_be_set(config, mode):
    assert run_module(NAME, path=str(config), mode=mode)["changed"] is (mode != "auto")
    assert tomllib.loads(config.read_text())["nvidia-container-runtime"]["mode"] == mode


def test_nothing_asked_for_changes_nothing(config, tmp_path):
    before = tree(tmp_path)
    assert run_module(NAME, path=str(config))["changed"] is False
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"", b"[nvidia-container-cli]\nno-cgroups = true\n", id="empty"),
        pytest.param(b"a = 1", b"a = 1\n\n[nvidia-container-cli]\nno-cgroups = true", id="no-table"),
        pytest.param(b"[nvidia-container-cli] # x\r\n[z]\r\n",
                     b"[nvidia-container-cli] # x\r\nno-cgroups = true\r\n[z]\r\n", id="empty-table-crlf"),
        pytest.param(b"[nvidia-container-cli]\nno-cgroups = false # why\n",
                     b"[nvidia-container-cli]\nno-cgroups = true # why\n", id="comment-behind"),
        pytest.param(b"#no-cgroups = false\n[nvidia-container-cli]\nload = 1\n",
                     b"#no-cgroups = false\n[nvidia-container-cli]\nload = 1\nno-cgroups = true\n", id="other-table"),
        pytest.param(b"nvidia-container-cli.no-cgroups = false\n", b"nvidia-container-cli.no-cgroups = true\n",
                     id="dotted"),
    ],
)  # fmt: skip
def test_layouts(config, old, new):
    config.write_bytes(old)
    assert run_module(NAME, path=str(config), no_cgroups=True)["changed"] is True
    assert config.read_bytes() == new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('[nvidia-container-cli]\nx = "', "line 2", id="not-toml"),
        pytest.param("nvidia-container-cli = {x = 1}\n", "cannot be extended safely", id="inline"),
        pytest.param('[nvidia-container-cli]\nx = """\n#no-cgroups = 1\n"""\n', "no safe place", id="in-a-string"),
    ],
)
def test_refused(config, tmp_path, text, message):
    config.write_text(text)
    before = tree(tmp_path)
    answer = run_module(NAME, path=str(config), no_cgroups=True)
    assert answer["failed"]
    assert str(config) in answer["msg"]
    assert message in answer["msg"]
    assert tree(tmp_path) == before


def test_no_file(tmp_path):
    answer = run_module(NAME, path=str(tmp_path / "none"), mode="auto")
    assert "install nvidia-container-toolkit-base" in answer["msg"]


CRUN = "/usr/libexec/crio/crun"


@pytest.fixture
def crio(config, tmp_path):
    """The arguments with which the role of CRI-O calls the module."""
    return {"path": str(config), "remember_as": "crio", "state_dir": str(tmp_path / "memory")}


@pytest.mark.parametrize(
    "old", [b'runtimes = ["runc", "crun"]', b'#runtimes = ["runc"]', b'runtimes = [ # why\n  "runc",\n]', b""]
)
def test_the_low_level_runtimes_and_back(config, crio, tmp_path, old):
    shipped = SHIPPED.replace(b'runtimes = ["runc", "crun"]', old)
    config.write_bytes(shipped)
    dry = run_module(NAME, check=True, runtimes=[CRUN], **crio)
    assert (dry["changed"], len(tree(tmp_path))) == (True, 1)
    assert run_module(NAME, runtimes=[CRUN], **crio)["diff"] == dry["diff"]
    assert tomllib.loads(config.read_text())["nvidia-container-runtime"]["runtimes"] == [CRUN]
    assert run_module(NAME, runtimes=[CRUN], **crio)["changed"] is False
    assert run_module(NAME, runtimes=["/other", "runc"], **crio)["changed"] is True
    gone = run_module(NAME, state="absent", **crio)
    assert (gone["changed"], config.read_bytes()) == (True, shipped)
    assert list(tree(tmp_path)) == ["config.toml"]
    assert run_module(NAME, state="absent", **crio)["changed"] is False


def test_back_after_somebody_changed_something_else(config, crio):
    run_module(NAME, runtimes=[CRUN], **crio)
    run_module(NAME, path=str(config), mode="cdi")
    run_module(NAME, runtimes=["/other"], **crio)
    run_module(NAME, state="absent", **crio)
    assert config.read_bytes() == SHIPPED.replace(b'mode = "auto"', b'mode = "cdi"')


def test_what_somebody_else_set_since_is_not_taken_back(config, crio):
    run_module(NAME, runtimes=[CRUN], **crio)
    run_module(NAME, path=str(config), runtimes=["/theirs"])
    before = config.read_bytes()
    assert run_module(NAME, state="absent", **crio)["changed"] is False
    assert config.read_bytes() == before


def test_a_commented_line_is_removed_where_only_its_value_can_go(config, crio):
    config.write_bytes(SHIPPED.replace(b"runtimes =", b"#runtimes ="))
    run_module(NAME, runtimes=[CRUN], **crio)
    run_module(NAME, path=str(config), mode="cdi")
    run_module(NAME, state="absent", **crio)
    assert b"runtimes" not in config.read_bytes()


def test_absent_without_a_file(tmp_path, crio):
    Path(crio["path"]).unlink()
    assert run_module(NAME, state="absent", **crio)["changed"] is False


def test_absent_needs_to_know_whose(config):
    assert "remember_as" in run_module(NAME, path=str(config), state="absent")["msg"]
