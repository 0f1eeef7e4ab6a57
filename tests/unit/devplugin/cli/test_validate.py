"""nvidia-devplugin validate: what the role runs on the control host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.unit.devplugin.conftest import ROOT

SHARED = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 10}]}}"

ONLY_YAML = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "nvidia_devplugin", "yaml", "_yaml"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
from nvidia_devplugin.__main__ import main
sys.exit(main(["validate", "/dev/stdin"]))
"""


def validate(text: str, program: tuple[str, ...] = ("-m", "nvidia_devplugin", "validate", "/dev/stdin"), **env: str):
    """Exit status, and the lines of standard output and standard error."""
    ended = subprocess.run(
        [sys.executable, *program], input=text, env={"PYTHONPATH": str(ROOT / "files/devplugin/src"), **env},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout.splitlines(), ended.stderr.splitlines()


def test_a_valid_file():
    assert validate(SHARED) == (0, ["/dev/stdin: valid"], [])


def test_every_problem_has_a_line():
    status, _, lines = validate("flags: {migStrategy: x}\n" + SHARED.replace("10", "0"))
    assert status == 2
    assert lines == [
        "nvidia-devplugin: config file /dev/stdin: flags.migStrategy: the string 'x' is not one of none, single, mixed",
        "nvidia-devplugin: config file /dev/stdin: sharing.timeSlicing.resources[0].replicas: 0 is not >= 2",
    ]


def test_what_has_no_effect_here_or_in_nvidias_plugin_is_named():
    text = """
    flags: {mpsRoot: /x}
    resources: {gpus: [{pattern: "*", name: big}], mig: [{pattern: "*", name: small}]}
    sharing: {timeSlicing: {renameByDefault: true, resources: [
      {name: big, replicas: 2}, {name: small, replicas: 2, rename: tiny, devices: [0]}]}}
    """
    assert validate(text)[1] == [
        "/dev/stdin: valid; without effect here: flags.mpsRoot; without effect in NVIDIA's plugin: resources.gpus, "
        "resources.mig, sharing.timeSlicing.resources[1].rename, sharing.timeSlicing.resources[1].devices"
    ]


def test_the_environment_of_the_control_host_does_not_matter():
    assert validate(SHARED, MIG_STRATEGY="x", CONFIG_FILE="/none")[0] == 0


def test_pyyaml_is_the_only_library_that_it_needs():
    assert validate(SHARED, ("-c", ONLY_YAML)) == (0, ["/dev/stdin: valid"], [])
    assert validate("version: v2", ("-c", ONLY_YAML))[0] == 2


def test_a_missing_file_is_named(tmp_path: Path):
    status, _, lines = validate("", ("-m", "nvidia_devplugin", "validate", f"{tmp_path}/none"))
    assert (status, lines) == (2, [f"nvidia-devplugin: config file {tmp_path}/none: No such file or directory"])
    assert validate("", ("-m", "nvidia_devplugin", "validate"))[0] == 2
