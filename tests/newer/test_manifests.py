"""What the role would deploy, read with a newer Kubernetes' own types: no field may be unknown to them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.newer import golang
from tests.sim.cluster.use import ROOT

SETTINGS = {
    "plain": {},
    "all": {
        "device_plugin_agent_features": ["events", "annotations", "acknowledge", "labels"],
        "device_plugin_configs": {"default": {"version": "v1"}},
        "device_plugin_nfd_features_dir": "/etc/kubernetes/node-feature-discovery/features.d",
        "device_plugin_image_pull_secrets": [{"name": "registry"}],
    },
}


def read_strictly(objects: list[dict]) -> list[str]:
    """One line an object: its kind and ok, or what is wrong."""
    stream = "\n".join(json.dumps(item) for item in objects)
    run = subprocess.run([golang.program("manifests")], input=stream, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.parametrize("settings", SETTINGS)
def test_todays_types_have_every_field(settings: str, tmp_path: Path) -> None:
    variables = json.dumps({**SETTINGS[settings], "device_plugin_render_dir": str(tmp_path)})
    playbook = [Path(sys.executable).parent / "ansible-playbook", "-i", "node,", "playbooks/render.yml"]
    command = [*playbook, "-e", "kubegpu_hosts=all", "-e", variables]
    run = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    objects = list(yaml.safe_load_all((tmp_path / "nvidia-device-plugin.yaml").read_text()))
    assert "DaemonSet" in {item["kind"] for item in objects}
    assert read_strictly(objects) == [f"{item['kind']}: ok" for item in objects]


def test_a_field_that_is_not_there_is_noticed() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [], "hostPIDs": True}}
    (line,) = read_strictly([pod])
    assert 'unknown field "spec.hostPIDs"' in line
