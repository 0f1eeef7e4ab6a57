"""The stand-in for nvidia-container-cli, as a process, with command lines as NVIDIA's hook makes them; whole containers
are in tests/e2e/test_toolkit_modes.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.toolkit.packages import PAYLOAD
from tests.unit.sim.conftest import Machine

DRIVER = "550.54.15"
EVERYTHING = ["--compute", "--compat32", "--graphics", "--utility", "--video", "--display", "--ngx"]


@pytest.fixture
def cli(tmp_path: Path, machine: Machine) -> Path:
    """The command, in a folder for PATH that has the driver's programs; the libraries have a version in their names."""
    programs, libraries = tmp_path / "bin", tmp_path / "lib"
    programs.mkdir()
    libraries.mkdir()
    text = (PAYLOAD / "nvidia-container-cli").read_text().replace("@VERSION@", "1.20.2")
    (programs / "nvidia-container-cli").write_text(text.replace("#!/usr/bin/python3", f"#!{sys.executable}", 1))
    (programs / "nvidia-container-cli").chmod(0o755)
    shutil.copy2(machine.library / "nvidia-smi", programs)
    for name in ("libnvidia-ml.so", "libcuda.so"):
        shutil.copy2(machine.library / f"{name}.1", libraries / f"{name}.{DRIVER}")
        (libraries / f"{name}.1").symlink_to(f"{name}.{DRIVER}")
    return programs / "nvidia-container-cli"


def environment(cli: Path, machine: Machine) -> dict[str, str]:
    libraries = str(cli.parent.with_name("lib"))
    return {**machine.environment, "PATH": f"{cli.parent}:{os.environ['PATH']}", "LD_LIBRARY_PATH": libraries}


def execute(cli: Path, machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(cli), *arguments], capture_output=True, text=True, env=environment(cli, machine), check=False
    )


def configure(cli: Path, machine: Machine, *arguments: str) -> str:
    """What the command says about something that cannot be done."""
    done = execute(cli, machine, "--load-kmods", "configure", "--cuda-compat-mode=ldconfig", *arguments, "--pid=1",
                   "/nowhere")  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("nvidia-container-cli: ")
    return done.stderr


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
def test_it_names_what_is_wrong(cli: Path, machine: Machine, happens: list[object], device: str, message: str) -> None:
    machine.init("--count", 2)
    machine.sim(*happens)
    assert message in configure(cli, machine, f"--device={device}")


@pytest.mark.parametrize(
    ("requirement", "unsatisfied"),
    [
        pytest.param("cuda>=99.0", "cuda>=99.0, please update your driver", id="cuda"),
        pytest.param("driver<500", "driver<500\n", id="driver"),
        pytest.param("arch>=9.1", "arch>=9.1\n", id="arch"),
        pytest.param("cuda>=99 driver>=550,driver<550", "cuda>=99, please", id="no-alternative"),
    ],
)
def test_requirements(cli: Path, machine: Machine, requirement: str, unsatisfied: str) -> None:
    machine.init("--count", 1)
    said = configure(cli, machine, "--device=0", f"--require={requirement}")
    assert f"requirement error: unsatisfied condition: {unsatisfied}" in said


@pytest.mark.parametrize("requirement", ["cuda>=12.4", "cuda>=99 driver>=550,driver<551", "brand=tesla,arch>=9.0"])
def test_satisfied_requirements(cli: Path, machine: Machine, requirement: str) -> None:
    machine.init("--count", 1)
    assert "requirement" not in configure(cli, machine, "--device=0", f"--require={requirement}")


@pytest.mark.parametrize("kind", ["mig-config", "mig-monitor"])
def test_only_all_gpus_are_configured_and_monitored(cli: Path, machine: Machine, kind: str) -> None:
    machine.init("--count", 1, "--mig", "3g.40gb,1g.10gb")
    said = configure(cli, machine, "--device=all", f"--{kind}=0")
    assert f"{kind} error: 0: only 'all' devices are currently supported" in said
    said = configure(cli, machine, "--device=0:1", f"--{kind}=all")
    assert f"{kind} error: all: cannot enable {kind} with specific MIG devices selected" in said


def test_a_root_that_is_none_is_refused(cli: Path, machine: Machine) -> None:
    done = execute(cli, machine, "configure", "--pid=1", "/")
    assert (done.returncode, done.stderr) == (1, "nvidia-container-cli: input error: invalid rootfs directory\n")


def test_info_lists_the_gpus(cli: Path, machine: Machine) -> None:
    machine.init("--count", 2)
    done = execute(cli, machine, "info")
    assert done.stdout.startswith(f"NVRM version:   {DRIVER}\nCUDA version:   12.4\n"), done.stderr
    assert done.stdout.count("GPU UUID:       GPU-") == 2
    assert done.stdout.count("Architecture:   9.0") == 2


CONTAINER = """
set -e
mount --make-rprivate /
mount -t tmpfs dev /dev
mknod -m 666 /dev/null c 1 3
for node in nvidiactl:255 nvidia-modeset:254 nvidia-uvm:253 nvidia-uvm-tools:252 nvidia0:0 nvidia1:1; do
    mknod /dev/${node%:*} c 195 ${node#*:}
done
root=$1; shift
mkdir -p $root/usr/lib64 $root/etc $root/dev
ln -s / $root/usr/bin              # a symlink of the image stays inside the image
nvidia-container-cli --load-kmods configure --ldconfig=@/sbin/ldconfig --no-cgroups "$@" --pid=$$ $root
cd $root
ls dev usr/lib64
find . -maxdepth 1 -name 'nvidia-*'
"""
ALWAYS = {"nvidiactl", "nvidia0"}
COMPUTE = {"nvidia-uvm", "nvidia-uvm-tools", f"libcuda.so.{DRIVER}", "libcuda.so.1", "libcuda.so"}
UTILITY = {f"libnvidia-ml.so.{DRIVER}", "libnvidia-ml.so.1", "./nvidia-smi"}


@pytest.mark.parametrize(
    ("capabilities", "brought"),
    [
        pytest.param([], set(), id="none"),
        pytest.param(["--utility"], UTILITY, id="utility"),
        pytest.param(["--compute"], COMPUTE, id="compute"),
        pytest.param(["--display"], {"nvidia-modeset"}, id="display"),
        pytest.param(EVERYTHING, {*UTILITY, *COMPUTE, "nvidia-modeset"}, id="all"),
    ],
)
def test_capabilities_decide_what_is_mounted(
    cli: Path, machine: Machine, tmp_path: Path, capabilities: list[str], brought: set[str]
) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("mounting needs root with CAP_SYS_ADMIN")
    machine.init("--count", 2)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", CONTAINER, "sh", str(tmp_path / "root"), "--device=0", *capabilities],
        env=environment(cli, machine), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed = {line for line in done.stdout.splitlines() if line and not line.endswith(":")}
    assert listed == ALWAYS | brought
