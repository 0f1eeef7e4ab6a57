"""The claims of docs/threat-model.md about what the device plugin's pod may do."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.house import release
from tests.house.repository import ROOT


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The Kubernetes objects that the role applies with its defaults, by kind."""
    text = release.manifest(tmp_path_factory.mktemp("manifest")).read_text()
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def pod(objects):
    return objects["DaemonSet"]["spec"]["template"]["spec"]


def test_the_role_binds_no_rights_and_mounts_no_token(objects, pod):
    assert set(objects) == {"Namespace", "RuntimeClass", "ServiceAccount", "ConfigMap", "DaemonSet"}
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is False


def test_the_container_has_no_privilege(pod):
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"hostNetwork", "hostPID", "hostIPC"} & set(pod) == set()


def test_of_the_host_it_sees_two_of_the_kubelets_folders(pod):
    (container,) = pod["containers"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    mounted = {
        paths[mount["name"]]: mount.get("readOnly", False)
        for mount in container["volumeMounts"]
        if mount["name"] in paths
    }
    assert mounted == {"/var/lib/kubelet/device-plugins": False, "/var/lib/kubelet/pod-resources": True}


def test_the_page_names_tests_that_exist():
    page = (ROOT / "docs" / "threat-model.md").read_text()
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()
