# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script that makes links in /dev/char, on a tree of its own."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest

from tests.unit.plugins.modules.runtime_config_helpers import ROOT

SCRIPT = ROOT / "roles" / "container_toolkit" / "files" / "dev-char-links"
RULE = "etc/udev/rules.d/72-kubegpu-dev-char.rules"
INSTALLED = "usr/local/lib/kubegpu/dev-char-links"


def run(root, mode, script=SCRIPT):
    done = subprocess.run(
        ["sh", script, mode],
        env=dict(os.environ, KUBEGPU_ROOT=str(root)),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


def links(root):
    return {path.name: str(path.readlink()) for path in (root / "dev" / "char").glob("*")}


@pytest.fixture
def root(tmp_path):
    """Two GPUs of which one has a node already, an nvidia-uvm of major 510, and one MIG capability."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "etc/udev").mkdir(parents=True)
    for index in (0, 1):
        folder = tmp_path / "proc" / "driver" / "nvidia" / "gpus" / f"0000:0{index}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t NVIDIA H100\nDevice Minor: \t {index}\n")
    (tmp_path / "proc" / "driver" / "nvidia-caps").mkdir()
    (tmp_path / "proc" / "driver" / "nvidia-caps" / "mig-minors").write_text("config 1\ngpu0/gi1/access 12\n")
    (tmp_path / "proc" / "devices").write_text("Character devices:\n195 nvidia\n237 nvidia-caps\n510 nvidia-uvm\n")
    return tmp_path


EXPECTED = {
    "195:255": "../nvidiactl",
    "195:254": "../nvidia-modeset",
    "195:0": "../nvidia0",
    "195:1": "../nvidia1",
    "510:0": "../nvidia-uvm",
    "510:1": "../nvidia-uvm-tools",
    "237:1": "../nvidia-caps/nvidia-cap1",
    "237:12": "../nvidia-caps/nvidia-cap12",
}


def test_check_ensure_again_and_remove(root):
    said = run(root, "--check")
    assert not (root / "dev" / "char").exists()
    assert run(root, "--ensure") == said
    assert links(root) == EXPECTED
    assert "created: /dev/char/195:0 -> ../nvidia0" in said
    assert (root / INSTALLED).read_bytes() == SCRIPT.read_bytes()
    assert os.access(root / INSTALLED, os.X_OK)
    assert (root / RULE).read_text().count(f'RUN+="/{INSTALLED} --links"') == 3
    for mode in ("--check", "--ensure", "--links"):
        assert run(root, mode) == []

    # A boot leaves the rule and takes the links; what the rule calls brings them back.
    subprocess.run(["rm", "-r", root / "dev" / "char"], check=True)
    assert len(run(root, "--links", root / INSTALLED)) == len(EXPECTED)
    assert links(root) == EXPECTED
    # An older script or rule is renewed.
    (root / RULE).write_text("old\n")
    assert run(root, "--check") == run(root, "--ensure") == [f"installed: /{RULE}"]

    assert run(root, "--remove") == [f"removed: /{RULE}", f"removed: /{INSTALLED}"]
    assert links(root) == EXPECTED
    assert run(root, "--remove") == []


def test_without_udev_the_links_are_made_and_nothing_is_left_behind(root):
    (root / "etc/udev").rmdir()
    assert not any("installed" in line for line in run(root, "--check"))
    assert any("created: /dev/char/195:0" in line for line in run(root, "--ensure"))
    assert not (root / INSTALLED).exists()
    assert list((root / "etc").iterdir()) == []


def test_nothing_is_installed_where_the_links_are_there(root):
    (root / "dev" / "char").mkdir()
    for name, target in EXPECTED.items():
        # nvidia-ctk makes absolute ones.
        (root / "dev" / "char" / name).symlink_to(target.replace("../", "/dev/"))
    assert run(root, "--ensure") == []
    assert not (root / RULE).exists()


def test_stale_link_is_renewed_and_somebody_elses_is_left(root):
    (root / "dev" / "char").mkdir()
    (root / "dev" / "char" / "510:0").symlink_to("../nvidia-caps/nvidia-cap7")
    (root / "dev" / "char" / "510:1").symlink_to("../vfio/7")
    said = run(root, "--ensure")
    assert "replaced: /dev/char/510:0 -> ../nvidia-uvm" in said
    assert "left: /dev/char/510:1 leads to ../vfio/7" in said
    assert links(root) == dict(EXPECTED, **{"510:1": "../vfio/7"})


def test_a_machine_without_gpus(tmp_path):
    assert run(tmp_path, "--ensure") == []
    assert list(tmp_path.iterdir()) == []


def test_nodes_that_are_there(tmp_path):
    (tmp_path / "dev" / "nvidia-caps").mkdir(parents=True)
    try:
        os.mknod(tmp_path / "dev" / "nvidia7", stat.S_IFCHR | 0o600, os.makedev(195, 7))
        os.mknod(tmp_path / "dev" / "nvidia-caps" / "nvidia-cap3", stat.S_IFCHR | 0o600, os.makedev(300, 300))
    except PermissionError:
        pytest.skip("needs leave to make device nodes")
    (tmp_path / "dev" / "nvidia-file").write_text("not a device")
    run(tmp_path, "--ensure")
    assert links(tmp_path) == {"195:7": "../nvidia7", "300:300": "../nvidia-caps/nvidia-cap3"}


def test_usage():
    done = subprocess.run(["sh", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: dev-char-links --check|--ensure|--links|--remove\n")
