# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.gpu_resource_owners import gpu_resource_owners


def daemonset(name, image, path="/var/lib/kubelet/device-plugins", **metadata):
    return {
        "metadata": {"name": name, "namespace": "kube-system", **metadata},
        "spec": {
            "template": {
                "spec": {
                    "containers": [{"name": name, "image": image}],
                    "volumes": [{"name": "config", "configMap": {}}, {"name": "d", "hostPath": {"path": path}}],
                }
            }
        },
    }


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("nvidia-device-plugin-daemonset", "nvcr.io/nvidia/k8s-device-plugin:v0.17.0"),
        ("device-plugin", "nvidia/k8s-device-plugin:1.11"),
        ("nvidia-gpu-device-plugin", "gke.gcr.io/nvidia-gpu-device-plugin"),
        ("hami-device-plugin", "projecthami/hami:v2"),
    ],
)
def test_plugins_for_nvidia_gpus_are_found(name, image):
    assert [owner["name"] for owner in gpu_resource_owners([daemonset(name, image)])] == [name]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(daemonset("amdgpu-device-plugin", "rocm/k8s-device-plugin"), id="amd"),
        pytest.param(daemonset("intel-gpu-plugin", "intel/intel-gpu-plugin:0.30"), id="intel"),
        pytest.param(daemonset("sriov-device-plugin", "ghcr.io/k8snetworkplumbingwg/sriov"), id="network"),
        pytest.param(daemonset("nvidia-dcgm-exporter", "nvcr.io/nvidia/dcgm-exporter"), id="monitoring"),
        pytest.param(daemonset("nvidia-driver-plugin", "nvcr.io/nvidia/driver", path="/run/nvidia"), id="no-folder"),
        pytest.param(
            daemonset("nvidia-device-plugin", "localhost/x", labels={"app.kubernetes.io/managed-by": "kubegpu.nvidia"}),
            id="ours",
        ),
    ],
)
def test_others_are_not(other):
    assert gpu_resource_owners([other]) == []


@pytest.mark.parametrize(
    ("metadata", "installed_by"),
    [
        ({"ownerReferences": [{"kind": "ClusterPolicy"}]}, "the NVIDIA GPU operator"),
        ({"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}}, "an add-on of the cluster's provider"),
        (
            {"annotations": {"meta.helm.sh/release-name": "nvdp", "meta.helm.sh/release-namespace": "gpu"}},
            "the Helm release nvdp in gpu",
        ),
        ({}, "a manifest"),
    ],
)
def test_it_is_said_what_to_remove(metadata, installed_by):
    found = gpu_resource_owners([daemonset("nvidia-device-plugin", "nvcr.io/nvidia/k8s-device-plugin", **metadata)])
    assert found[0]["installed_by"] == installed_by


def test_what_comes_back_by_itself_is_said():
    kept = daemonset("nvidia-device-plugin", "x", ownerReferences=[{"kind": "ClusterPolicy"}])
    left = daemonset("nvidia-device-plugin", "x")
    assert [owner["kept_by"] for owner in gpu_resource_owners([kept, left])] == ["the NVIDIA GPU operator", ""]


def test_a_parked_plugin_offers_nothing():
    parked = daemonset("nvidia-device-plugin", "nvcr.io/nvidia/k8s-device-plugin")
    parked["spec"]["template"]["spec"]["nodeSelector"] = {"kubegpu.nvidia/replaced": "true"}
    assert gpu_resource_owners([parked]) == []


def test_a_plugin_that_mounts_the_kubelets_whole_folder_is_found():
    assert gpu_resource_owners([daemonset("nvidia-device-plugin", "x", path="/var/lib/kubelet/")])
