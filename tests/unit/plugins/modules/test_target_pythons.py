# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules as Ansible packs and sends them, run by the oldest and the newest Python that a target may have."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import sanity
from tests.unit.plugins.module_utils.gpu.simulated import REPOSITORY, SimulatedMachine

OLDEST = "3.7"
"""What the oldest supported ansible-core, 2.17, asks of targets; 2.18 and 2.19 ask for 3.8."""

OLD_ANSIBLE = sanity.HOME / "core-2.17" / "bin" / "ansible"
"""Where ``make sanity-all`` keeps it."""

FILES = {
    "docker": ("daemon.json", '{\n\t"log-driver": "journald"\n}\n', {"check_gpus_flag": False}),
    "containerd": ("config.toml", "# ours\nversion = 2\n", {"containerd": "no-such-containerd"}),
    "crio": ("99-nvidia.toml", '# ours\n[crio.runtime]\n\tdefault_runtime = "crun"\n', {"crio": "no-such-crio"}),
}
"""Engine -> (its file, what an operator wrote there, what keeps this machine's engine out of it)."""

pythons = functools.lru_cache(maxsize=1)(sanity.pythons)


def target(which: str) -> tuple[Path, Path]:
    """(the target's Python, the ansible that sends modules to it); skips where one of them is not here."""
    if which == "newest":
        newest = max(pythons(), key=lambda minor: int(minor.partition(".")[2]))
        return pythons()[newest], Path(sys.executable).with_name("ansible")
    if OLDEST not in pythons():
        pytest.skip(f"no Python {OLDEST} on this machine")
    if not OLD_ANSIBLE.exists():
        pytest.skip("no ansible-core 2.17 here: make sanity-all installs it")
    return pythons()[OLDEST], OLD_ANSIBLE


@pytest.fixture(params=["oldest", "newest"])
def ask(request, machine):
    """Run a module through Ansible by that Python: function (name, arguments) -> its answer."""
    python, ansible = target(request.param)

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
        command = [ansible, "localhost", "-e", f"ansible_python_interpreter={python}"]
        command += ["-m", f"kubegpu.nvidia.{name}", "-a", json.dumps(arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=machine.folder, check=False, timeout=120
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
    assert "/usr/bin/nvidia-container-runtime" in file.read_text()
    assert ask(module, **arguments)["changed"] is False
    assert ask(module, state="absent", **arguments)["changed"] is True
    assert file.read_text() == operators
