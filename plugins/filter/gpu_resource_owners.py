# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who else on a cluster offers the GPUs to kubelets."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_resource_owners
short_description: DaemonSets that register NVIDIA GPUs with the kubelet
version_added: 0.1.0
description:
  - Picks from a cluster's DaemonSets those that are device plugins for NVIDIA GPUs, such as NVIDIA's own
    plugin, the one of the GPU operator, or those of cloud providers. Two of them on one node take the resource from
    each other at every registration.
  - A DaemonSet counts if it mounts the kubelet's folder for device plugins and its name, an image or a
    command names NVIDIA, or a known plugin that shares NVIDIA GPUs. Device plugins of other vendors do not count, and
    neither does one that was taken from all nodes with the node selector C(kubegpu.nvidia/replaced).
positional: _input
options:
  _input:
    description: DaemonSets, as M(kubernetes.core.k8s_info) returns them.
    type: list
    elements: dict
    required: true
  managed_by:
    description: DaemonSets whose label C(app.kubernetes.io/managed-by) has this value are ours and do not count.
    type: str
    default: kubegpu.nvidia
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Stop if somebody else offers the GPUs
  ansible.builtin.assert:
    that: daemonsets.resources | kubegpu.nvidia.gpu_resource_owners | length == 0
"""

RETURN = r"""
_value:
  description: The owners found, sorted by namespace and name.
  type: list
  elements: dict
  contains:
    namespace:
      description: The DaemonSet's namespace.
      type: str
      sample: gpu-operator
    name:
      description: The DaemonSet's name.
      type: str
      sample: nvidia-device-plugin-daemonset
    image:
      description: Image of the first container.
      type: str
      sample: nvcr.io/nvidia/k8s-device-plugin:v0.17.0
    installed_by:
      description: What to remove to be rid of it.
      type: str
      sample: the NVIDIA GPU operator
    kept_by:
      description: Who would put it back if somebody else took it away; empty if nobody does.
      type: str
      sample: the NVIDIA GPU operator
"""

import re

DEVICE_PLUGIN_FOLDERS = ("/var/lib/kubelet/device-plugins", "/var/lib/kubelet/plugins_registry")
# a node selector that fits no node: what parks somebody else's DaemonSet, and shows that it is parked
PARKED = "kubegpu.nvidia/replaced"
_OPERATOR = "the NVIDIA GPU operator"
_ADDON = "an add-on of the cluster's provider"
_NVIDIA = re.compile(r"nvidia|hami|volcano-vgpu|vgpu-device|gpu-manager|gpushare", re.IGNORECASE)


def _mounts_plugin_folder(pod_spec):
    for volume in pod_spec.get("volumes") or []:
        path = ((volume.get("hostPath") or {}).get("path") or "").rstrip("/")
        # a parent counts too: some plugins mount all of the kubelet's folder
        if path and any((folder + "/").startswith(path + "/") for folder in DEVICE_PLUGIN_FOLDERS):
            return True
    return False


def _words(name, containers):
    yield name
    for container in containers:
        yield container.get("name") or ""
        yield container.get("image") or ""
        for word in (container.get("command") or []) + (container.get("args") or []):
            yield str(word)


def _is_gpu_plugin(daemonset):
    pod_spec = daemonset["spec"]["template"]["spec"]
    if not _mounts_plugin_folder(pod_spec):
        return False
    words = [word.lower() for word in _words(daemonset["metadata"]["name"], pod_spec.get("containers") or [])]
    # a monitoring agent may mount the folder as well, and name NVIDIA
    plugin = any("plugin" in word or "hami" in word or "vgpu" in word or "gpu-manager" in word for word in words)
    return plugin and any(_NVIDIA.search(word) for word in words)


def _installed_by(metadata):
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    owners = metadata.get("ownerReferences") or []
    if any(owner.get("kind") in ("ClusterPolicy", "NVIDIADriver") for owner in owners):
        return _OPERATOR
    if labels.get("app.kubernetes.io/managed-by") == "gpu-operator":
        return _OPERATOR
    if "addonmanager.kubernetes.io/mode" in labels:
        return _ADDON
    release = annotations.get("meta.helm.sh/release-name")
    if release:
        return "the Helm release %s in %s" % (
            release,
            annotations.get("meta.helm.sh/release-namespace", metadata.get("namespace")),
        )
    return "a manifest"


def is_parked(daemonset):
    """Whether a DaemonSet was taken from all nodes for our device plugin."""
    template = daemonset["spec"].get("template") or {}
    return PARKED in ((template.get("spec") or {}).get("nodeSelector") or {})


def gpu_resource_owners(daemonsets, managed_by="kubegpu.nvidia"):
    """Return the device plugins for NVIDIA GPUs that are not ours.

    :param daemonsets: DaemonSet objects (apps/v1) as dicts.
    :returns: dicts as documented in RETURN, sorted by namespace and name.
    """
    owners = []
    for daemonset in daemonsets:
        metadata = daemonset["metadata"]
        if (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") == managed_by:
            continue
        if not _is_gpu_plugin(daemonset) or is_parked(daemonset):
            continue
        installed_by = _installed_by(metadata)
        containers = daemonset["spec"]["template"]["spec"].get("containers") or [{}]
        owners.append(
            {
                "namespace": metadata.get("namespace", "default"),
                "name": metadata["name"],
                "image": containers[0].get("image", ""),
                "installed_by": installed_by,
                "kept_by": installed_by if installed_by in (_OPERATOR, _ADDON) else "",
            }
        )
    return sorted(owners, key=lambda owner: (owner["namespace"], owner["name"]))


class FilterModule(object):
    """The filter gpu_resource_owners."""

    def filters(self):
        return {"gpu_resource_owners": gpu_resource_owners}
