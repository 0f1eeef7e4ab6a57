# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module containerd_runtime_config, really run, on files in a temporary directory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.plugins.modules.runtime_config_helpers import run_module, tree

OLD = b"""# ours
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2" # the usual
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
"""

needs_containerd_1 = pytest.mark.skipif(
    shutil.which("containerd") is None
    or " 1." not in subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=False).stdout,
    reason="needs the binary of containerd 1.x (config dump; nothing is started)",
)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "config.toml").write_bytes(OLD)
    return {
        "config_path": str(tmp_path / "etc" / "config.toml"),
        "state_dir": str(tmp_path / "memory"),
        "socket": str(tmp_path / "containerd.sock"),
        "set_default": True,
    }


@pytest.mark.parametrize("binary", [pytest.param("containerd", marks=needs_containerd_1), "no-such-containerd"])
def test_check_run_again_and_back(site, tmp_path, binary):
    site["containerd"] = binary
    config = tmp_path / "etc" / "config.toml"
    before = tree(tmp_path)
    dry = run_module("containerd_runtime_config", check=True, **site)
    assert dry["changed"] is True
    assert tree(tmp_path) == before

    first = run_module("containerd_runtime_config", **site)
    assert first["changed"] is True
    assert first["diff"] == dry["diff"]
    assert first["diff"]["after"].encode() == config.read_bytes()
    assert first["diff"]["after"].count("SystemdCgroup = true") == 2
    assert (first["config_version"], first["cri_enabled"]) == (2, True)
    assert (first["pending"], first["pending_reasons"]) == ("none", [])
    assert Path(first["backup_file"]).read_bytes() == OLD
    assert bool(first.get("warnings")) is (binary == "no-such-containerd")

    after = tree(tmp_path)
    assert run_module("containerd_runtime_config", **site)["changed"] is False
    assert tree(tmp_path) == after
    gone = dict(site, state="absent", backup=False)
    assert run_module("containerd_runtime_config", **gone)["changed"] is True
    assert config.read_bytes() == OLD
    assert run_module("containerd_runtime_config", **gone)["changed"] is False


@needs_containerd_1
def test_file_that_is_not_there(site):
    path = Path(site["config_path"])
    path.unlink()
    first = run_module("containerd_runtime_config", **site)
    assert first["diff"]["after"].startswith("version = 2\n")
    assert path.stat().st_mode & 0o777 == 0o644
    run_module("containerd_runtime_config", **dict(site, state="absent"))
    assert not path.exists()


def failure(site, tmp_path, content, **more):
    (tmp_path / "etc" / "config.toml").write_bytes(content)
    before = tree(tmp_path)
    answer = run_module("containerd_runtime_config", **dict(site, **more))
    assert answer["failed"] is True
    assert tree(tmp_path) == before
    return answer["msg"].replace(site["config_path"], "FILE")


def test_bad_file_is_named_and_left_alone(site, tmp_path):
    assert failure(site, tmp_path, b"version = 2\nx = [1\n") == (
        "FILE, line 3, column 1: expected ',' or ']' in a list, found the end of the file"
    )
    assert failure(site, tmp_path, b"\xff\xfe").endswith("the file is UTF-16; save it as UTF-8")
    assert "(line 1) switches CRI off" in failure(site, tmp_path, b'disabled_plugins = ["cri"]\n')


@needs_containerd_1
def test_what_containerd_refuses_is_not_written(site, tmp_path):
    assert failure(site, tmp_path, b"version = 2\nroot = 5\n") == (
        "FILE, line 2, column 1: containerd refuses it: containerd: failed to unmarshal TOML: (2, 1): "
        "Can't convert 5(int64) to string"
    )


@needs_containerd_1
@pytest.mark.parametrize("pattern", ["conf.d/10.toml", "%s/etc/conf.d/*.toml"])
def test_import_that_overrides_the_file(site, tmp_path, pattern):
    pattern = pattern % tmp_path if "%" in pattern else pattern
    extra = tmp_path / "etc" / "conf.d" / "10.toml"
    extra.parent.mkdir()
    section = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
    extra.write_text("version = 2\n" + section)
    message = failure(site, tmp_path, b'version = 2\nimports = ["%s"]\n' % pattern.encode())
    assert message.startswith(
        "FILE: containerd's merged configuration would not be as wanted: the runtime nvidia is not there"
    )
    assert f"One of its imports overrides this file: {extra}. Set config_path to that file" in message
    # The cure that the message names.
    assert run_module("containerd_runtime_config", **dict(site, config_path=str(extra)))["changed"] is True


@needs_containerd_1
def test_disabled_cri_is_a_warning(site, tmp_path):
    (tmp_path / "etc" / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    answer = run_module("containerd_runtime_config", **site)
    assert (answer["changed"], answer["cri_enabled"]) == (True, False)
    assert "line 2: disabled_plugins switches CRI off" in answer["warnings"][0]
