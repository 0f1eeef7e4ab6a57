"""Which rights the role device_plugin gives the plugin's container, from the role's own expressions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import ROOT

ROLE = ROOT / "roles" / "device_plugin"
PLAN = {"runtime_class": "nvidia", "manage_namespace": True, "manage_runtime_class": True}


def config(strategy: object) -> dict:
    return {"version": "v1", "flags": {"migStrategy": strategy}}


SETTINGS = ("device_plugin_config", "device_plugin_configs", "device_plugin_env")
# the role's variables, and whether MIG devices are wanted
CASES = {
    "nothing": ({}, False),
    "none": ({"device_plugin_config": config("none")}, False),
    "null": ({"device_plugin_config": config(None)}, False),
    "no-flags": ({"device_plugin_config": {"version": "v1", "flags": None}}, False),
    "single": ({"device_plugin_config": config("single")}, True),
    "mixed": ({"device_plugin_config": config("mixed")}, True),
    "one-of-several": ({"device_plugin_configs": {"default": {"version": "v1"}, "split": config("mixed")}}, True),
    "none-of-several": ({"device_plugin_configs": {"default": {"version": "v1"}, "whole": config("none")}}, False),
    "a-config-that-is-not-used": (
        {"device_plugin_config": config("mixed"), "device_plugin_configs": {"default": {"version": "v1"}}},
        False,
    ),
    "environment": ({"device_plugin_env": {"MIG_STRATEGY": "single"}}, True),
    "environment-wins": (
        {"device_plugin_env": {"MIG_STRATEGY": "none"}, "device_plugin_config": config("mixed")},
        False,
    ),
    "empty-environment": (
        {"device_plugin_env": {"MIG_STRATEGY": ""}, "device_plugin_config": config("mixed")},
        True,
    ),
}


@pytest.fixture(scope="module")
def containers(tmp_path_factory) -> dict[str, dict]:
    """The plugin's container in each of the cases, from one play."""
    folder = tmp_path_factory.mktemp("rights")
    tasks = [
        {"ansible.builtin.include_vars": str(ROLE / "defaults/main.yml")},
        {"ansible.builtin.include_vars": str(ROLE / "vars/main.yml")},
        # an inventory's variables stand below those
        {"ansible.builtin.set_fact": {name: f"{{{{ given.{name} | default({name}) }}}}" for name in SETTINGS}},
        {
            "ansible.builtin.copy": {
                "content": "{{ device_plugin_pod_spec_base.containers[0] | to_json }}",
                "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
            },
        },
    ]
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"device_plugin_plan": PLAN, "role_path": str(ROLE), "device_plugin_image_ref": "plugin:1"},
        "tasks": tasks,
    }
    hosts = {name: {"given": given, "ansible_connection": "local"} for name, (given, _wanted) in CASES.items()}
    variables = {"ansible_python_interpreter": sys.executable, "device_plugin_image_ref": "plugin:1"}
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "play.yml").write_text(json.dumps([play]))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "inventory.json"]
    done = subprocess.run(
        [*command, "-e", json.dumps(variables), folder / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_rights_are_those_that_the_configurations_need(containers, case):
    wanted = CASES[case][1]
    container = containers[case]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]} if wanted else {"drop": ["ALL"]},
    }
    monitor = {"name": "NVIDIA_MIG_MONITOR_DEVICES", "value": "all"}
    assert (monitor in container["env"]) is wanted
