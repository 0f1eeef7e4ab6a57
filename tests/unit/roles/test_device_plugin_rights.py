"""What the pods of the role device_plugin may do and see, from the role's own expressions."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house.repository import ROOT, load

ROLE = ROOT / "roles" / "device_plugin"
PLAN = {"runtime_class": "nvidia", "manage_namespace": True, "manage_runtime_class": True, "problems": []}
ENVVAR_REFUSED = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n"
MOUNTS_ACCEPTED = "accept-nvidia-visible-devices-as-volume-mounts = true\n"
READ = "device_plugin_toolkit_config"
SETTINGS = (
    *("device_plugin_config", "device_plugin_configs", "device_plugin_env"),
    *("device_plugin_agent_features", "device_plugin_nfd_features_dir"),
)


def toolkit(text: str) -> dict[str, dict[str, str]]:
    """A node's toolkit with this configuration, as the role reads it."""
    return {READ: {"content": base64.b64encode(text.encode()).decode(), "encoding": "base64"}}


MIXED = {"version": "v1", "flags": {"migStrategy": "mixed"}}
NODES = {"version": "v1", "flags": {"plugin": {"passDeviceSpecs": True}}}
IMEX = {"version": "v1", "imex": {"channelIDs": [0]}}
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "mig": {"device_plugin_config": MIXED},
    "mig-by-environment": {"device_plugin_env": {"MIG_STRATEGY": "single"}},
    "a-config-that-is-not-used": {"device_plugin_config": MIXED, "device_plugin_configs": {"a": {"version": "v1"}}},
    "device-nodes": {"device_plugin_config": NODES},
    "imex": {"device_plugin_config": IMEX},
    "several": {"device_plugin_configs": {"default": {"version": "v1"}, "m": MIXED, "n": NODES, "i": IMEX}},
    "agent": {"device_plugin_agent_features": ["events"], "device_plugin_nfd_features_dir": "/features"},
    "variables": {"device_plugin_env": {"DP_GPU_TELEMETRY": True, "NVIDIA_DRIVER_CAPABILITIES": "all"}},
    "toolkit-that-accepts-no-variable": toolkit(ENVVAR_REFUSED + MOUNTS_ACCEPTED),
    "toolkit-that-accepts-nothing": toolkit(ENVVAR_REFUSED),
    "no-toolkit": {READ: {"failed": False, "msg": "file not found"}},
}
WITH_MIG = {"mig", "mig-by-environment", "several"}
WITH_COMPUTE = {"device-nodes", "several"}
WITH_IMEX = {"imex", "several"}


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The pod's specification and what stands in the way, in each of the cases, from one play."""
    folder = tmp_path_factory.mktemp("rights")
    tasks = [
        {"ansible.builtin.include_vars": str(ROLE / "defaults/main.yml")},
        {"ansible.builtin.include_vars": str(ROLE / "vars/main.yml")},
        # an inventory's variables have a lower precedence than those
        {"ansible.builtin.set_fact": {name: f"{{{{ given.{name} | default({name}) }}}}" for name in SETTINGS}},
        {"ansible.builtin.set_fact": {READ: f"{{{{ given.{READ} | default({{}}) }}}}"}},
        {
            "ansible.builtin.copy": {
                "content": "{{ {'pod': device_plugin_pod_spec, 'problems': device_plugin_problems} | to_json }}",
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
    hosts = {name: {"given": given, "ansible_connection": "local"} for name, given in CASES.items()}
    variables = {"ansible_python_interpreter": sys.executable, "device_plugin_image_ref": "plugin:1"}
    variables["device_plugin_plan"] = PLAN
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


@pytest.fixture(scope="module")
def pods(cases) -> dict[str, dict[str, Any]]:
    return {name: case["pod"] for name, case in cases.items()}


def environment(container: dict[str, Any]) -> dict[str, str]:
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names)), "the API server refuses a name that is there twice"
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def mounts(pod: dict[str, Any], container: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Path of the host -> (path in the container, whether it is read-only)."""
    of_the_host = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    return {
        of_the_host[mount["name"]]: (mount["mountPath"], mount.get("readOnly", False))
        for mount in container["volumeMounts"]
        if mount["name"] in of_the_host
    }


@pytest.mark.parametrize("case", CASES)
def test_rights_are_those_that_the_configurations_need(pods, case):
    container = pods[case]["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]} if case in WITH_MIG else {"drop": ["ALL"]},
    }
    variables = environment(container)
    assert variables.get("NVIDIA_MIG_MONITOR_DEVICES") == ("all" if case in WITH_MIG else None)
    if case != "variables":
        wanted = "compute,utility" if case in WITH_COMPUTE else "utility"
        assert variables["NVIDIA_DRIVER_CAPABILITIES"] == wanted


@pytest.mark.parametrize("case", CASES)
def test_the_driver_is_asked_for_by_the_variable_and_by_a_mount(pods, case):
    container = pods[case]["containers"][0]
    assert environment(container)["NVIDIA_VISIBLE_DEVICES"] == "all"
    # the toolkit looks for this source and the beginning of this path
    assert mounts(pods[case], container)["/dev/null"] == ("/var/run/nvidia-container-devices/all", True)


@pytest.mark.parametrize("case", CASES)
def test_of_the_host_the_container_sees_what_its_configurations_need(pods, case):
    expected = {
        "/dev/null": ("/var/run/nvidia-container-devices/all", True),
        "/var/lib/kubelet/device-plugins": ("/var/lib/kubelet/device-plugins", False),
        "/var/lib/kubelet/pod-resources": ("/var/lib/kubelet/pod-resources", True),
    }
    if case in WITH_IMEX:
        expected["/dev/nvidia-caps-imex-channels"] = ("/dev/nvidia-caps-imex-channels", True)
    if case == "agent":
        expected["/features"] = ("/features.d", False)
    assert mounts(pods[case], pods[case]["containers"][0]) == expected


def test_the_agent_gets_no_driver(pods):
    _daemon, agent = pods["agent"]["containers"]
    assert environment(agent)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert mounts(pods["agent"], agent) == {}


def test_further_variables_win_and_are_text(pods):
    variables = environment(pods["variables"]["containers"][0])
    assert (variables["DP_GPU_TELEMETRY"], variables["NVIDIA_DRIVER_CAPABILITIES"]) == ("true", "all")


def test_a_toolkit_that_gives_nothing_stands_in_the_way(cases):
    told = {name: len(case["problems"]) for name, case in cases.items() if case["problems"]}
    assert told == {"toolkit-that-accepts-no-variable": 1, "toolkit-that-accepts-nothing": 2}
    (read,) = [task for task in tasks_of_the_role() if "ansible.builtin.slurp" in task]
    assert read["register"] == READ
    assert "not ansible_check_mode" in read["when"], "there the toolkit's configuration may be about to change"


def tasks_of_the_role() -> list[dict[str, Any]]:
    return [task for block in load(ROLE / "tasks" / "main.yml") for task in block.get("block", [])]


def test_the_probes_go_to_the_pods_address_of_either_family(pods):
    (container,) = pods["nothing"]["containers"]
    assert "DP_HTTP_ADDRESS" not in environment(container), "the daemon's own default listens on both families"
    assert container["ports"] == [{"name": "http", "containerPort": 9400, "protocol": "TCP"}]
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
