"""The wrapper around runc of a simulated node, which edits what engines hand to runc."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sim.cluster import paths

RECORDER = f"#!{sys.executable}\nimport sys\nprint('\\n'.join(sys.argv[1:]))\n"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "nvml-sim"
    folder.mkdir()
    return folder


@pytest.fixture
def wrapper(tmp_path: Path, state: Path) -> Path:
    runc = tmp_path / "runc"
    runc.write_text(RECORDER)
    text = (paths.IMAGE / "runc-wrapper").read_text()
    for old, new in (
        ('"/usr/sbin/runc"', f'"{runc}"'),
        ('"/etc/nvml-sim"', f'"{state}"'),
        ('"/sys/fs/cgroup"', f'"{tmp_path}"'),
        ("#!/usr/bin/python3", f"#!{sys.executable}"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / "wrapper"
    path.write_text(text)
    for file in (runc, path):
        file.chmod(0o755)
    return path


def run(wrapper: Path, bundle: Path, command: str = "create") -> list[Any]:
    arguments = ["--root", "/x", command, "--bundle", str(bundle), "id"]
    done = subprocess.run([wrapper, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == arguments
    return list(json.loads((bundle / "config.json").read_text()).get("mounts", []))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"process": {}, "mounts": [{"destination": "/proc"}]}))
    return folder


def test_a_container_reaches_the_driver_once(wrapper: Path, bundle: Path, state: Path) -> None:
    for _ in range(2):
        mounts = run(wrapper, bundle)
        assert [mount["destination"] for mount in mounts] == ["/proc", str(state), "/sys/bus/pci/devices"]
        assert [mount["source"] for mount in mounts[1:]] == [mount["destination"] for mount in mounts[1:]]
        assert all("ro" in mount["options"] for mount in mounts[1:])


def test_other_commands_and_nodes_without_a_driver_change_nothing(wrapper: Path, bundle: Path, state: Path) -> None:
    before = (bundle / "config.json").read_bytes()
    run(wrapper, bundle, "delete")
    state.rmdir()
    run(wrapper, bundle)
    assert (bundle / "config.json").read_bytes() == before


def test_limits_of_huge_pages_go_where_nothing_could_set_them(wrapper: Path, bundle: Path, tmp_path: Path) -> None:
    resources = {"memory": {"limit": 1}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    config = bundle / "config.json"
    config.write_text(json.dumps({"linux": {"resources": resources}}))
    (tmp_path / "cgroup.controllers").touch()  # cgroup v2
    run(wrapper, bundle)
    assert json.loads(config.read_text())["linux"]["resources"] == resources
    (tmp_path / "cgroup.controllers").unlink()
    run(wrapper, bundle)
    assert json.loads(config.read_text())["linux"]["resources"] == {"memory": {"limit": 1}}


def test_where_no_runc_is_in_the_path_the_one_beside_is_run(wrapper: Path, bundle: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    (tmp_path / "runc").rename(beside)
    text = wrapper.read_text()
    assert text.count('"/usr/local/lib/runc"') == 1
    wrapper.write_text(text.replace('"/usr/local/lib/runc"', f'"{beside}"'))
    run(wrapper, bundle)
