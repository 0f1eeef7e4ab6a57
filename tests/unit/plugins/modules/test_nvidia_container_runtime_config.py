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
