"""The stand-in runtime, hook and command, each as a process; real containers are the end-to-end tests' business."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.toolkit.packages import PAYLOAD
from tests.unit.sim.conftest import Machine

RECORDER = f"#!{sys.executable}\nimport sys\nprint('\\n'.join(sys.argv[1:]))\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for PATH: the stand-ins, and a recorder in place of runc."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-container-cli"):
        text = (PAYLOAD / name).read_text().replace("@VERSION@", "1.17.8")
        (directory / name).write_text(text.replace("#!/usr/bin/python3", f"#!{sys.executable}", 1))
    (directory / "runc").write_text(RECORDER)
    for file in directory.iterdir():
        file.chmod(0o755)
    return directory


def bundle(directory: Path, env: list[str], **extra: object) -> Path:
    directory.mkdir()
    spec = {"process": {"env": env}, "root": {"path": "rootfs"}, **extra}
    (directory / "config.json").write_text(json.dumps(spec))
    return directory


def execute(path: Path, *command: str, stdin: str = "", env: dict[str, str] | None = None):
    environment = {**os.environ, **(env or {}), "PATH": f"{path}:/usr/bin:/bin"}
    return subprocess.run(
        [str(path / command[0]), *command[1:]],
        input=stdin, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


def hooks(place: Path) -> list[dict]:
    return json.loads((place / "config.json").read_text()).get("hooks", {}).get("prestart", [])


@pytest.mark.parametrize(
    "option", [["--bundle", "{}"], ["--bundle={}"], ["-b", "{}"]], ids=["two-words", "equals", "short"]
)
def test_create_adds_the_hook_once_and_becomes_runc(path: Path, tmp_path: Path, option: list[str]) -> None:
    place = bundle(tmp_path / "bundle", [])
    words = ["--root", "create-not-a-command", "--log", "x", "create", *(word.format(place) for word in option), "c1"]
    for _ in range(2):
        done = execute(path, "nvidia-container-runtime", *words)
        assert done.stdout.splitlines() == words, done.stderr
    assert [hook["args"] for hook in hooks(place)] == [["nvidia-container-runtime-hook", "prestart"]]
    assert hooks(place)[0]["path"] == str(path / "nvidia-container-runtime-hook")


@pytest.mark.parametrize("command", ["start", "delete", "state", "kill"])
def test_other_commands_leave_the_bundle_alone(path: Path, tmp_path: Path, command: str) -> None:
    place = bundle(tmp_path / "bundle", [])
    assert execute(path, "nvidia-container-runtime", "--root", str(place), command, "c1").returncode == 0
    assert hooks(place) == []


def test_a_bundle_that_cannot_be_read_is_an_error(path: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    done = execute(path, "nvidia-container-runtime", "create", "--bundle", str(tmp_path), "c1")
    assert done.returncode == 1
    assert "error loading OCI specification" in done.stderr


@pytest.mark.parametrize(
    ("env", "device"),
    [
        pytest.param(["NVIDIA_VISIBLE_DEVICES=all"], "--device=all", id="all"),
        pytest.param(["NVIDIA_VISIBLE_DEVICES=GPU-1,1"], "--device=GPU-1,1", id="list"),
        pytest.param(["NVIDIA_VISIBLE_DEVICES=none"], None, id="none"),
        pytest.param(["CUDA_VERSION=8.0"], "--device=all", id="old-cuda-image"),
    ],
)
def test_hook_configures(path: Path, tmp_path: Path, env: list[str], device: str | None) -> None:
    (path / "nvidia-container-cli").write_text(RECORDER)
    place = bundle(tmp_path / "bundle", env)
    done = execute(
        path, "nvidia-container-runtime-hook", "prestart", stdin=json.dumps({"pid": 42, "bundle": str(place)})
    )
    words = done.stdout.splitlines()
    assert [word for word in words if word.startswith("--device")] == ([device] if device else [])
    assert words[-2:] == ["--pid=42", str(place / "rootfs")]
    assert {"--utility", "--compute"} <= set(words)


@pytest.mark.parametrize(
    "env",
    [
        pytest.param([], id="unset"),
        pytest.param(["NVIDIA_VISIBLE_DEVICES="], id="empty"),
        pytest.param(["NVIDIA_VISIBLE_DEVICES=void"], id="void"),
        pytest.param(["CUDA_VERSION=12.4", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"], id="new-cuda-image"),
    ],
)
def test_hook_leaves_other_containers_alone(path: Path, tmp_path: Path, env: list[str]) -> None:
    (path / "nvidia-container-cli").write_text("#!/bin/sh\nexit 7\n")
    place = bundle(tmp_path / "bundle", env)
    done = execute(
        path, "nvidia-container-runtime-hook", "prestart", stdin=json.dumps({"pid": 42, "bundle": str(place)})
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hook_refuses_an_unknown_capability(path: Path, tmp_path: Path) -> None:
    place = bundle(tmp_path / "bundle", ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=utility,magic"])
    done = execute(
        path, "nvidia-container-runtime-hook", "prestart", stdin=json.dumps({"pid": 42, "bundle": str(place)})
    )
    assert done.returncode == 1
    assert "unsupported capabilities found in 'utility,magic'" in done.stderr


@pytest.mark.parametrize(
    ("happens", "device", "message"),
    [
        pytest.param(["show"], "GPU-nope", "device error: GPU-nope: unknown device", id="unknown-uuid"),
        pytest.param(["show"], "0,7", "device error: 7: unknown device", id="unknown-index"),
        pytest.param(["show"], "0:0", "device error: 0:0: unknown device", id="no-mig"),
        pytest.param(["unload"], "all", "initialization error: nvml error: driver not loaded", id="unloaded"),
        pytest.param(["library-mismatch"], "all", "nvml error: driver/library version mismatch", id="mismatch"),
        pytest.param(["lose", 1], "0", "detection error: nvml error: gpu is lost", id="lost"),
    ],
)
def test_command_names_what_is_wrong(
    path: Path, machine: Machine, happens: list[object], device: str, message: str
) -> None:
    machine.init("--count", 2)
    machine.sim(*happens)
    done = execute(
        path, "nvidia-container-cli", "configure", f"--device={device}", "--pid=1", "/nowhere",
        env=machine.environment,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("nvidia-container-cli: ")
    assert message in done.stderr


def test_command_lists_the_gpus(path: Path, machine: Machine) -> None:
    machine.init("--count", 2)
    done = execute(path, "nvidia-container-cli", "info", env=machine.environment)
    assert done.stdout.startswith("NVRM version:   550.54.15\n")
    assert done.stdout.count("GPU UUID:       GPU-") == 2


CONFIGURE = """
set -e
mount --make-rprivate /
cd "$1"
mkdir -p rootfs/usr rootfs/etc
ln -s / rootfs/usr/bin              # a symlink of the image stays inside the image
nvidia-container-cli configure --device=0 --utility --pid=$$ "$1/rootfs"
cat rootfs/etc/nvml-sim/state | head -1
test -s rootfs/usr/lib64/libnvidia-ml.so.1 -o -s rootfs/usr/lib/$(uname -m)-linux-gnu/libnvidia-ml.so.1
test -s rootfs/nvidia-smi
if touch rootfs/etc/nvml-sim/x 2>/dev/null; then echo writable; fi
"""


def test_configure_mounts_below_the_root(path: Path, machine: Machine, tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("mounting needs root with CAP_SYS_ADMIN")
    machine.init("--count", 1)
    shutil.copy2(machine.library / "nvidia-smi", path)
    place = tmp_path / "container"
    place.mkdir()
    environment = {**machine.environment, "PATH": f"{path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", CONFIGURE, "sh", str(place)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[system]\n"), done.stderr
