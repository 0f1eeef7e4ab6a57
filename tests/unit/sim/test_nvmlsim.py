"""The command line that describes machines: its files, its messages."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.sim.nvml import nvmlsim


def test_the_same_seed_makes_the_same_machine() -> None:
    one, same, other = (nvmlsim.make_state("H100", 2, seed=seed).text() for seed in ("a", "a", "b"))
    assert one == same
    assert one != other


def test_state_text_round_trips() -> None:
    state = nvmlsim.make_state("A100", 4, seed="test")
    nvmlsim.apply_mig(state, "3:3g.20gb,3g.20gb")
    assert nvmlsim.parse_state(state.text()) == state


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("key = value\n", "line 1: want [section], key = value or # comment", id="before-a-section"),
        pytest.param("[system]\n\nnonsense\n", "line 3: want", id="no-equals-sign"),
    ],
)
def test_bad_state(text: str, message: str) -> None:
    with pytest.raises(nvmlsim.SimError) as caught:
        nvmlsim.parse_state(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["show"], "no state file", id="no-state"),
        pytest.param(["init", "--model", "GTX-1"], "no model 'GTX-1'; there are", id="no-model"),
        pytest.param(["init", "--count", "65"], "count 65: want 0 to 64", id="count"),
    ],
)
def test_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert nvmlsim.main(["--state", str(tmp_path / "state"), *words]) == 1
    assert f"nvml-sim: {message}" in capsys.readouterr().err.replace(f"{tmp_path}/", "")


def test_xid_of_a_gpu_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path / "state")]
    assert nvmlsim.main([*state, "init", "--count", "1"]) == 0
    assert nvmlsim.main([*state, "xid", "3", "79"]) == 1
    assert "the state has no [gpu 3]" in capsys.readouterr().err
    assert (tmp_path / "events").read_text() == ""


@pytest.mark.parametrize(
    ("driver", "cuda"), [("535.183.01", "12.2"), ("550.54.15", "12.4"), ("572.16", "12.8"), ("700.1", "13.1")]
)
def test_cuda_of_driver(driver: str, cuda: str) -> None:
    assert nvmlsim.cuda_of(driver) == cuda


def test_nvswitches_are_bridges_on_the_bus(tmp_path: Path) -> None:
    arguments = nvmlsim.parser().parse_args(["init", "--model", "H100", "--count", "8", "--nvswitches", "4"])
    nvmlsim.write_sysfs(nvmlsim.init_from(arguments), tmp_path)
    switches = [path for path in sorted(tmp_path.iterdir()) if (path / "class").read_text() == "0x068000\n"]
    assert [path.name for path in switches] == [f"0000:{bus:02x}:00.0" for bus in (5, 6, 7, 8)]
    assert len(list(tmp_path.iterdir())) == 12


def test_sysfs(tmp_path: Path) -> None:
    state = nvmlsim.make_state("H100", 2, seed="test")
    nvmlsim.write_sysfs(state, tmp_path)
    device = tmp_path / "0000:1b:00.0"
    names = ("vendor", "device", "class", "numa_node")
    assert [(device / name).read_text() for name in names] == ["0x10de\n", "0x2330\n", "0x030200\n", "0\n"]
    assert (device / "driver").readlink().name == "nvidia"
    nvmlsim.unload(state)
    nvmlsim.write_sysfs(state, tmp_path)
    assert not (device / "driver").is_symlink()


def test_proc(tmp_path: Path) -> None:
    proc = tmp_path / "nvidia"
    state = nvmlsim.make_state("H100", 1, "550.54.15", seed="test", flavor="open")
    nvmlsim.write_proc(state, proc)
    version = (proc / "version").read_text()
    assert version.startswith("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build")
    information = (proc / "gpus/0000:1b:00.0/information").read_text()
    assert "Model:          \t NVIDIA H100 80GB HBM3\n" in information
    nvmlsim.unload(state)
    nvmlsim.write_proc(state, proc)
    assert list(proc.iterdir()) == []


def can_make_nodes(directory: Path) -> bool:
    try:
        os.mknod(directory / "probe", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        return False
    return True


def test_nodes(tmp_path: Path) -> None:
    if not can_make_nodes(tmp_path):
        pytest.skip("making device nodes needs root with CAP_MKNOD")
    for count, present in ((2, True), (1, False)):  # the node of a GPU that is gone goes with it
        nvmlsim.make_nodes(nvmlsim.make_state("T4", count, seed="test"), tmp_path)
        assert (tmp_path / "nvidia1").exists() is present
    node = (tmp_path / "nvidia0").stat()
    assert (os.major(node.st_rdev), os.minor(node.st_rdev), stat.S_IMODE(node.st_mode)) == (195, 0, 0o666)
    assert os.minor((tmp_path / "nvidiactl").stat().st_rdev) == 255
