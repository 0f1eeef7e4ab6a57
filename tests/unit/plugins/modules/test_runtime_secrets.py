# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No secret of a configuration is shown by ansible-playbook --diff -vvv, whatever the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.plugins.modules.runtime_config_helpers import ROOT

SECRET = "quince-4711-marmalade"  # noqa: S105
MODULES = ("docker", "containerd", "crio")
DOCKER = {
    "proxies": {"https-proxy": f"http://me:{SECRET}@proxy.example.com:3128"},
    "log-opts": {"splunk-token": SECRET},
    "registry-mirrors": [f"https://me:{SECRET}@mirror.example.com"],
    "log-driver": "shown-all-the-same",
}
CONTAINERD = f"""version = 2
# identitytoken = "{SECRET}"
[plugins."io.containerd.grpc.v1.cri".registry.configs."registry.example.com".auth]
  username = "{SECRET}"
  password = '{SECRET}'
[plugins."io.containerd.grpc.v1.cri".registry.headers]
  Authorization = ["Basic {SECRET}"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "shown-all-the-same"
"""
CRIO = f"""[crio.runtime]
default_env = ["HTTPS_PROXY=http://me:{SECRET}@proxy.example.com", "SOME_TOKEN={SECRET}", "A=shown-all-the-same"]
"""
FILES = {
    "docker": ("daemon.json", json.dumps(DOCKER, indent=1)),
    "containerd": ("config.toml", CONTAINERD),
    "crio": ("crio.conf.d/99-nvidia.toml", CRIO),
}


@pytest.mark.parametrize("engine", MODULES)
def test_through_ansible(engine, tmp_path):
    name, text = FILES[engine]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    arguments = {"config_path": str(path), "state_dir": str(tmp_path / "memory")}
    if engine == "docker":
        arguments.update(docker_host=f"unix://{tmp_path}/docker.sock", unit="", check_gpus_flag=False)
    else:
        arguments.update({engine: f"no-such-{engine}", "socket": str(tmp_path / "socket")})
    if engine == "crio":
        runtime = tmp_path / "nvidia-container-runtime"  # the module refuses a program that is not there
        runtime.write_text("#!/bin/sh\n")
        runtime.chmod(0o755)
        arguments.update(main_path=str(tmp_path / "crio.conf"), path=str(runtime))
    module = f"kubegpu.nvidia.{engine}_runtime_config"
    show = {"ansible.builtin.debug": {"var": "result"}}
    tasks = [
        {"register": "result", module: {**arguments, "set_default": True}},
        show,
        {module: {**arguments, "set_default": True}},
        {module: {**arguments, "state": "absent"}},
        # what does not parse is refused with a message
        {"ansible.builtin.copy": {"dest": str(path), "content": text + "\n]"}, "diff": False, "no_log": True},
        {"register": "result", "ignore_errors": True, module: arguments},
        show,
    ]
    play = tmp_path / "play.json"
    hosts = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    variables = {"ansible_python_interpreter": sys.executable}
    play.write_text(json.dumps([{**hosts, "vars": variables, "tasks": tasks}]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "--diff", "-vvv", str(play)],
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert "ignored=1" in shown
    assert SECRET not in shown
    assert "shown-all-the-same" in shown
    assert "********" in shown
