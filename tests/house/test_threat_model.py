"""The claims of docs/threat-model.md about what the device plugin's pod may do."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.house import release
from tests.house.repository import ROOT

pytestmark = pytest.mark.slow  # starts ansible-playbook several times


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
    assert "NVIDIA_MIG_MONITOR_DEVICES" not in {entry["name"] for entry in container["env"]}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"hostNetwork", "hostPID", "hostIPC"} & set(pod) == set()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"device_plugin_config": {"version": "v1", "flags": {"migStrategy": "mixed"}}}, id="config"),
        pytest.param({"device_plugin_env": {"MIG_STRATEGY": "single"}}, id="environment"),
    ],
)
def test_with_mig_it_has_one_capability_and_the_agent_none(tmp_path, settings):
    text = release.manifest(tmp_path, device_plugin_agent_features=["events"], **settings).read_text()
    daemonset = {item["kind"]: item for item in yaml.safe_load_all(text)}["DaemonSet"]
    daemon, agent = daemonset["spec"]["template"]["spec"]["containers"]
    assert daemon["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
    }
    assert {"name": "NVIDIA_MIG_MONITOR_DEVICES", "value": "all"} in daemon["env"]
    assert agent["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "NVIDIA_MIG_MONITOR_DEVICES" not in {entry["name"] for entry in agent["env"]}


def test_of_the_host_it_sees_two_of_the_kubelets_folders_and_dev_null(pod):
    (container,) = pod["containers"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    mounted = {
        paths[mount["name"]]: mount.get("readOnly", False)
        for mount in container["volumeMounts"]
        if mount["name"] in paths
    }
    folders = {"/var/lib/kubelet/device-plugins": False, "/var/lib/kubelet/pod-resources": True}
    assert mounted == {**folders, "/dev/null": True}


def test_for_feature_files_it_sees_their_folder_too(tmp_path):
    text = release.manifest(tmp_path, device_plugin_nfd_features_dir="/etc/features.d").read_text()
    pod = {item["kind"]: item for item in yaml.safe_load_all(text)}["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"name": "features", "mountPath": "/features.d"} in container["volumeMounts"]
    assert {"name": "DP_LABELS_FILE", "value": "/features.d/kubegpu-nvidia"} in container["env"]
    paths = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    kubelets = {"/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources"}
    assert paths == {*kubelets, "/dev/null", "/etc/features.d"}


FEATURES = ["acknowledge", "annotations", "config", "events", "labels"]
NODE_READER = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "watch"]}]
NODE_WRITER = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "watch", "patch"]}]
EVENT_WRITER = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}]


@pytest.mark.parametrize(
    ("features", "rules"),
    [
        pytest.param(["events"], {"Role": EVENT_WRITER}, id="events"),
        pytest.param(["config"], {"ClusterRole": NODE_READER}, id="config"),
        pytest.param(["labels"], {"ClusterRole": NODE_WRITER}, id="labels"),
        pytest.param(FEATURES, {"ClusterRole": NODE_WRITER, "Role": EVENT_WRITER}, id="all"),
    ],
)
def test_the_agent_alone_has_a_token_and_no_more_rights_than_its_features_need(tmp_path, features, rules):
    text = release.manifest(tmp_path, device_plugin_agent_features=features).read_text()
    made = {item["kind"]: item for item in yaml.safe_load_all(text)}
    assert {kind: item["rules"] for kind, item in made.items() if "rules" in item} == rules
    bound = {kind for kind in ("RoleBinding", "ClusterRoleBinding") if kind in made}
    assert bound == {f"{kind}Binding" for kind in rules}
    assert all(made[kind]["metadata"].get("namespace") == "default" for kind in ("Role", "RoleBinding") if kind in made)
    pod = made["DaemonSet"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    daemon, agent = pod["containers"]
    of_the_host = {volume["name"] for volume in pod["volumes"] if "hostPath" in volume}
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in agent["volumeMounts"]}
    assert mounts == {"control": True, "token": True}
    assert not of_the_host & set(mounts)
    assert "token" not in {mount["name"] for mount in daemon["volumeMounts"]}
    assert agent["securityContext"] == {
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in agent["env"]


def test_the_page_names_tests_that_exist():
    page = (ROOT / "docs" / "threat-model.md").read_text()
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()
