"""What the role device_plugin calls its image, and how it brings it to CRI-O, from the role's own expressions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import ROOT, version

ROLE = ROOT / "roles" / "device_plugin"
OURS = "localhost/kubegpu/nvidia-devplugin"
CONTENT = rf"{re.escape(version())}-[0-9a-f]{{12}}"

# source, device_plugin_image -> what the image is called (a pattern), and what is removed
CASES = {
    ("build", ""): (f"{OURS}:{CONTENT}", OURS),
    ("archive", ""): (f"{OURS}:{CONTENT}", OURS),
    ("build", "registry.example.com:5000/gpu/plugin"): (
        f"registry.example.com:5000/gpu/plugin:{CONTENT}",
        "registry.example.com:5000/gpu/plugin",
    ),
    ("push", "registry.example.com/plugin"): (
        f"registry.example.com/plugin:{CONTENT}",
        "registry.example.com/plugin",
    ),
    ("push", "registry.example.com/plugin:1"): ("registry.example.com/plugin:1", "registry.example.com/plugin:1"),
    ("build", "plugin:mine"): ("docker.io/library/plugin:mine", "docker.io/library/plugin:mine"),
    ("archive", "r.example.com/plugin"): ("r.example.com/plugin:latest", "r.example.com/plugin:latest"),
    ("registry", "r.example.com/plugin"): ("r.example.com/plugin:latest", "r.example.com/plugin:latest"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict:
    """The role's variables for each of the cases, in one play."""
    folder = tmp_path_factory.mktemp("image")
    inventory = {
        f"case{number}": {"device_plugin_image_source": source, "device_plugin_image": image}
        for number, (source, image) in enumerate(CASES)
    }
    answer = "{{ [device_plugin_image_ref, device_plugin_image_names, device_plugin_runtime_commands.crio] | to_json }}"
    tasks = [
        {"ansible.builtin.include_vars": str(ROLE / "defaults/main.yml")},
        {"ansible.builtin.include_vars": str(ROLE / "vars/main.yml")},
        # an inventory's variables stand below those
        {"ansible.builtin.set_fact": {name: f"{{{{ given.{name} }}}}" for name in inventory["case0"]}},
        {
            "ansible.builtin.find": {
                "paths": str(ROOT / "files/devplugin"),
                "recurse": True,
                "hidden": True,
                "get_checksum": True,
            },
            "register": "device_plugin_source_files",
        },
        {"ansible.builtin.copy": {"content": answer, "dest": f"{folder}/{{{{ inventory_hostname }}}}"}},
    ]
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"role_path": str(ROLE), "ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    hosts = {name: {"given": given, "ansible_connection": "local"} for name, given in inventory.items()}
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "inventory.json", folder / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {case: json.loads((folder / f"case{number}").read_text()) for number, case in enumerate(CASES)}


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_an_image_that_is_built_here_is_called_by_its_content(said, case):
    pattern, removed = CASES[case]
    reference, names, _crio = said[case]
    assert re.fullmatch(pattern, reference)
    assert names == removed


class Node:
    """A machine with stand-ins for podman or skopeo, or neither, that note how they were called."""

    def __init__(self, folder: Path, **tools: int):
        self.folder = folder
        self.calls = folder / "calls"
        for tool, status in tools.items():
            path = folder / tool
            path.write_text(f'#!/bin/sh\necho "{tool} $*" >>{self.calls}\necho chatter\nexit {status}\n')
            path.chmod(0o755)

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        return subprocess.run(command, env={"PATH": str(self.folder)}, capture_output=True, text=True, check=False)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def crio(said):
    """The commands for the image of ours, and its name."""
    reference, _names, commands = said["build", ""]
    return commands, reference


@pytest.mark.parametrize(
    ("tools", "there", "code"),
    [
        pytest.param({"podman": 0}, True, 0, id="podman has it"),
        pytest.param({"podman": 1}, False, 0, id="podman has it not"),
        pytest.param({"podman": 125}, False, 1, id="podman fails"),
        pytest.param({"skopeo": 0}, True, 0, id="skopeo has it"),
        pytest.param({"skopeo": 1}, False, 0, id="skopeo has it not"),
        pytest.param({"podman": 0, "skopeo": 1}, True, 0, id="both"),
    ],
)
def test_what_crio_has_is_asked(tmp_path, crio, tools, there, code):
    commands, reference = crio
    done = Node(tmp_path, **tools).run(commands["has"])
    assert (reference in done.stdout, done.returncode) == (there, code), done


def test_an_image_is_loaded_where_crio_finds_it(tmp_path, crio):
    commands, reference = crio
    for tool, call in {
        "skopeo": f"skopeo copy docker-archive:/x/image.tar containers-storage:{reference}",
        "podman": "podman load --input /x/image.tar",
    }.items():
        node = Node(tmp_path, **{tool: 0})
        assert node.run([*commands["load"], "/x/image.tar"]).returncode == 0
        assert node.called() == [call]
    assert Node(tmp_path, podman=3).run([*commands["load"], "/x/image.tar"]).returncode == 3


def test_images_are_removed_one_by_one_and_a_refusal_is_no_success(tmp_path, crio):
    commands, reference = crio
    node = Node(tmp_path, skopeo=0)
    assert node.run([*commands["remove"], "a:1", "b:2"]).returncode == 0
    assert node.called() == ["skopeo delete containers-storage:a:1", "skopeo delete containers-storage:b:2"]
    assert reference in node.run(commands["list"]).stdout
    assert Node(tmp_path, skopeo=1).run([*commands["remove"], "a:1"]).returncode == 1


@pytest.mark.parametrize("command", ["has", "load"])
def test_without_a_tool_the_node_says_what_to_do(tmp_path, crio, command):
    done = Node(tmp_path).run([*crio[0][command], "/x/image.tar"])
    assert done.returncode == 1
    assert "neither podman nor skopeo is here" in done.stderr
    assert "device_plugin_image_source" in done.stderr
