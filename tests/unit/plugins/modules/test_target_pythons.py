# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules as Ansible packs and sends them, run by the oldest and the newest Python that a target may have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import targets
from tests.unit.plugins.module_utils.gpu.simulated import REPOSITORY, SimulatedMachine

FILES = {
    "docker": ("daemon.json", '{\n\t"log-driver": "journald"\n}\n', {"check_gpus_flag": False}),
    "containerd": ("config.toml", "# ours\nversion = 2\n", {"containerd": "no-such-containerd"}),
    "crio": (
        "99-nvidia.toml",
        '# ours\n[crio.runtime]\n\tdefault_runtime = "crun"\n',
        {"crio": "no-such-crio", "path": "/bin/true"},
    ),
}
"""Engine -> (its file, what an operator wrote there, what keeps this machine's engine out of it)."""
ELSEWHERE = {"k8s_kinds_info", "kubelet_runtime_facts"}
"""Run where the API is spoken to, by a Python that kubernetes.core supports; the other asks the target's shell."""


@pytest.fixture(params=targets.WHICH)
def ask(request, machine):
    """Run a module through Ansible by that Python: function (name, arguments) -> its answer."""
    try:
        target = targets.find(request.param)
    except targets.MissingError as missing:
        pytest.skip(str(missing))

    def send(name: str, **arguments: object) -> dict:
        environment = {
            **machine.environment,
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".cache/collections"),
            "ANSIBLE_HOME": str(machine.folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
        }
        del environment["PYTHONPATH"]
        environment.pop("ANSIBLE_CONFIG", None)
        command = [target.ansible, "localhost", "-e", f"ansible_python_interpreter={target.python}"]
        command += ["-m", f"kubegpu.nvidia.{name}", "-a", json.dumps(arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=machine.folder, check=False, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout[done.stdout.index("{") :])

    return send


@pytest.fixture
def machine(tmp_path):
    return SimulatedMachine(tmp_path, "--model", "H100", "--count", "2", "--mig", "1:1g.10gb")


@pytest.mark.parametrize("source", ["nvml", "nvidia-smi"])
def test_facts(machine, ask, source):
    answer = ask(
        "nvidia_gpu_facts",
        sources=[source],
        virtualenv=sys.prefix,  # its pynvml, which is one file that any Python 3 reads
        host_root=str(machine.root),
    )
    assert answer["ansible_facts"]["nvidia_gpu"] == machine.facts(source)
    assert answer["ansible_facts"]["nvidia_gpu"]["source"] == source


@pytest.mark.parametrize("engine", list(FILES))
def test_a_runtime_and_back(machine, ask, engine):
    name, operators, arguments = FILES[engine]
    file = machine.folder / name
    file.write_text(operators)
    socket = machine.folder / "engine.sock"
    arguments = {
        **arguments,
        **({"docker_host": f"unix://{socket}"} if engine == "docker" else {"socket": str(socket)}),
        "config_path": str(file),
        "state_dir": str(machine.folder / "memory"),
    }
    module = f"{engine}_runtime_config"
    assert ask(module, **arguments)["changed"] is True
    assert "nvidia" in file.read_text()
    assert ask(module, **arguments)["changed"] is False
    assert ask(module, state="absent", **arguments)["changed"] is True
    assert file.read_text() == operators


def test_the_toolkits_settings(machine, ask):
    file = machine.folder / "config.toml"
    file.write_text("[nvidia-container-cli]\nno-cgroups = false # why\n")
    for changed in (True, False):
        assert ask("nvidia_container_runtime_config", path=str(file), no_cgroups=True)["changed"] is changed
    assert file.read_text() == "[nvidia-container-cli]\nno-cgroups = true # why\n"


def test_a_repositorys_key(machine, ask):
    (machine.folder / "a key").write_text("key\n")
    assert ask("repository_key_info", url=f"file://{machine.folder}/a%20key")["content"] == "key\n"


def test_no_module_is_left_out():
    asked = Path(__file__).read_text()
    names = {path.stem for path in (REPOSITORY / "plugins/modules").glob("*.py")} - {"__init__"} - ELSEWHERE
    assert [
        name for name in sorted(names - {f"{engine}_runtime_config" for engine in FILES}) if name not in asked
    ] == []
