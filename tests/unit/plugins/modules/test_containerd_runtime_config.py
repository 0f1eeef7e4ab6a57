# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module containerd_runtime_config, really run, on files in a temporary directory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.plugins import containerds as real
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


# Docker's packaged file, and files of all versions with CRI in their list: engine, text, what is left of the list.
CRI_OFF = [
    ("1.6", '# Docker\n\ndisabled_plugins = ["cri"]\n\n#root = "/var/lib/containerd"\n', "[]"),
    ("2.4", '#   Docker\r\ndisabled_plugins = ["cri"]\r\n[debug]\r\nlevel = "info"\r\n', "[]"),
    (
        "1.7",
        'version = 2\ndisabled_plugins = ["io.containerd.snapshotter.v1.zfs", "io.containerd.grpc.v1.cri"]\n',
        None,
    ),
    ("2.1", 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n', "[]"),
    ("2.4", 'version = 3\nDisabled_Plugins = ["io.containerd.cri.v1.runtime"]\n', "[]"),
    ("2.4", 'version = 4\ndisabled_plugins = ["io.containerd.cri.v1.images"]\n', "[]"),
]


@pytest.mark.parametrize(("series", "text", "left"), CRI_OFF)
def test_cri_that_is_switched_off_is_told_before_anything_is_written(site, tmp_path, series, text, left):
    site["containerd"] = real.binary(series)
    message = failure(site, tmp_path, text.encode())
    line = text[: text.lower().index("disabled_plugins")].count("\n") + 1
    assert f"FILE: disabled_plugins (line {line}) switches CRI off" in message
    assert "enable_cri (containerd_runtime_enable_cri in the role)" in message

    config = Path(site["config_path"])
    on = run_module("containerd_runtime_config", **dict(site, enable_cri=True))
    assert (on["changed"], on["cri_enabled"]) == (True, True)
    assert (
        f"isabled_{'Plugins' if 'Plugins' in text else 'plugins'} = " + (left or '["io.containerd.snapshotter.v1.zfs"]')
        in config.read_text()
    )
    after = real.dump(series, config.read_text())
    assert real.runs(after, "nvidia")["BinaryName"] == "/usr/bin/nvidia-container-runtime"
    assert not any("cri" in item for item in after["disabled_plugins"])
    assert run_module("containerd_runtime_config", **dict(site, enable_cri=True))["changed"] is False
    run_module("containerd_runtime_config", **dict(site, state="absent"))
    assert config.read_bytes() == text.encode()


def test_cri_stays_on_after_an_edit_where_its_old_name_no_longer_counts(site, tmp_path):
    site["containerd"] = real.binary("1.7")
    config = Path(site["config_path"])
    config.write_text('disabled_plugins = ["cri"]\n')
    run_module("containerd_runtime_config", **dict(site, enable_cri=True))
    config.write_text(config.read_text() + "# edited\n")
    run_module("containerd_runtime_config", **dict(site, state="absent"))
    assert "nvidia" not in config.read_text()
    assert real.dump("1.7", config.read_text())["disabled_plugins"] == []


def test_cri_that_an_imported_file_switches_off(site, tmp_path):
    site["containerd"] = real.binary("2.4")
    extra = tmp_path / "etc" / "conf.d" / "10.toml"
    extra.parent.mkdir()
    extra.write_text('version = 3\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    message = failure(site, tmp_path, b'version = 3\nimports = ["conf.d/*.toml"]\n', enable_cri=True)
    assert f"disabled_plugins of an imported file ({extra}) switches CRI off" in message
