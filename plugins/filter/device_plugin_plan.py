# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role device_plugin has to do on a cluster, decided from what the cluster has."""

from __future__ import annotations

DOCUMENTATION = r"""
name: device_plugin_plan
short_description: Decide what to create and remove on a cluster for the device plugin
version_added: 0.1.0
description:
  - Compares what a cluster has with what is wanted, and returns what stands in the way, which objects are ours to
    manage, and which ones a former version or former settings left.
  - Made for the role P(kubegpu.nvidia.device_plugin#role).
positional: _input
options:
  _input:
    description: Answers of M(kubegpu.nvidia.k8s_kinds_info), one for each kind, whether it could be read or not.
    type: list
    elements: dict
    required: true
  wanted:
    description:
      - What is wanted, with the keys C(state) (V(present), V(absent) or V(rendered)), C(namespace), C(runtime_class),
        C(node_name), C(play_node_names), C(node_runtime), C(image_source), C(image), C(archive), C(objects), a list of
        C({kind, name, namespace}), C(labels), the node's labels (null where it should have none), C(remove_objects)
        (V(auto) or V(always)), C(agent_features) (what the agent is to do), C(replace_others) (whether other device
        plugins for NVIDIA GPUs are taken from the nodes), C(configs) (named configurations), C(default_config)
        and C(config_name) (this node's).
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Stop if something stands in the way
  ansible.builtin.assert:
    that: (found.answers | kubegpu.nvidia.device_plugin_plan(wanted=wanted)).problems | length == 0
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    problems:
      description: What stands in the way, each with its remedy.
      type: list
      elements: str
    runtime_class:
      description: The RuntimeClass for the plugin's pods, empty if they must not name one.
      type: str
    manage_namespace:
      description: Whether the namespace is ours or does not exist yet.
      type: bool
    manage_runtime_class:
      description: Whether the RuntimeClass is ours or does not exist yet.
      type: bool
    namespace_exists:
      description: Whether the namespace exists.
      type: bool
    node:
      description: The object of this host's node, empty if there is none.
      type: dict
    labels:
      description: Those of the node's labels that are not as wanted, with their wanted value; null where one should go.
      type: dict
    traces:
      description: What to merge into the node's metadata to take back what the agent wrote and is not to write now.
      type: dict
    others:
      description: Nodes that are served and not of this play, so that C(state=absent) leaves the objects to them.
      type: list
      elements: str
    replaced:
      description: DaemonSets of others that are to be taken from the nodes (present), or given back to them (absent).
      type: list
      elements: dict
    stale:
      description: Objects of ours that are not wanted any more, in the order in which they can be removed.
      type: list
      elements: dict
"""

import re

from ansible_collections.kubegpu.nvidia.plugins.filter.gpu_resource_owners import gpu_resource_owners, is_parked
from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy

MANAGED_BY = "kubegpu.nvidia"
GPU_LABEL = "nvidia.com/gpu.present"
# pods first, then what they use, then what holds them all
REMOVAL_ORDER = (
    *("DaemonSet", "RoleBinding", "ClusterRoleBinding", "Role", "ClusterRole"),
    *("ConfigMap", "ServiceAccount", "RuntimeClass", "Namespace"),
)
# a key of a ConfigMap and the value of a label
_CONFIG_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
_RBAC = "rbac.authorization.k8s.io/v1"
API_VERSIONS = {
    "DaemonSet": "apps/v1",
    "RuntimeClass": "node.k8s.io/v1",
    "Role": _RBAC,
    "RoleBinding": _RBAC,
    "ClusterRole": _RBAC,
    "ClusterRoleBinding": _RBAC,
}
# the daemon's agent writes these to the node: files/devplugin/src/nvidia_devplugin/agent/node_changes.py
_OWNED = "kubegpu.nvidia/labels"
_ANNOTATIONS = {
    _OWNED: "labels",
    "kubegpu.nvidia/gpu-faults": "annotations",
    "kubegpu.nvidia/ack": "acknowledge",
    "kubegpu.nvidia/ack-result": "acknowledge",
}
_CONFIG_LABEL = "nvidia.com/device-plugin.config"


def _labels(item):
    return item["metadata"].get("labels") or {}


def _ours(item):
    return _labels(item).get("app.kubernetes.io/managed-by") == MANAGED_BY


def _named(items, name):
    return next((item for item in items if item["metadata"]["name"] == name), None)


def _read(results):
    """({kind: [object]}, [problem]) of what was read."""
    objects, problems = {}, []
    for result in results:
        kind = result["item"]["kind"]
        if "resources" in result:
            objects[kind] = result["resources"]
            if result.get("api_found") is False:
                problems.append(
                    "The cluster has no %s of the API version that is needed. Kubernetes 1.20 is the oldest "
                    "that is supported." % kind
                )
        elif not result.get("skipped"):
            known = kubernetes_remedy(result.get("msg", ""))
            problem = "Cannot read the objects of kind %s from the cluster: %s. To do: %s." % (
                kind,
                known["cause"],
                known["remedy"],
            )
            if known["code"] != "unknown":
                problem += " (%s)" % str(result.get("msg", "")).strip()
            # the same cause for every kind is one problem
            if not any(known["remedy"] in other for other in problems):
                problems.append(problem)
    return objects, problems


def _node_problems(nodes, name):
    names = sorted(node["metadata"]["name"] for node in nodes)
    if name in names:
        return []
    if not names:
        return ["The cluster has no node at all. To do: join this machine to the cluster first."]
    shown = ", ".join(names[:10]) + (", and %d more" % (len(names) - 10) if len(names) > 10 else "")
    return [
        "The cluster has no node named %s; it has %s. To do: set kubegpu_node_name for this host to its "
        "node's name, or join the machine to the cluster first, or check that kubegpu_kubeconfig is of the right "
        "cluster." % (name, shown)
    ]


def _owner_problems(owners, replace):
    problems = []
    for owner in owners:
        if replace and not owner["kept_by"]:
            continue
        remedy = "remove it first, or have it taken from the nodes with device_plugin_replace_others=true"
        if owner["kept_by"] == "the NVIDIA GPU operator":
            remedy = (
                "the operator would put it back, so tell the operator to leave it: kubectl patch clusterpolicies "
                'cluster-policy --type merge -p \'{"spec": {"devicePlugin": {"enabled": false}}}\''
            )
        elif owner["kept_by"]:
            remedy = "it would be put back, so switch it off where the add-on is managed"
        problems.append(
            "The DaemonSet %(namespace)s/%(name)s (image %(image)s, installed by %(installed_by)s) already offers "
            "NVIDIA GPUs to the kubelets, and two device plugins on a node take the resource from each other. "
            % owner
            + "To do: %s, or do not use this role on this cluster." % remedy
        )
    return problems


def _unknown_owner_problems(node, owners, daemonsets):
    """Devices that none of the cluster's DaemonSets offers, but a static pod, a Deployment, a service of the node."""
    if owners or any(_ours(item) or is_parked(item) for item in daemonsets):
        return []
    allocatable = ((node or {}).get("status") or {}).get("allocatable") or {}
    offered = ["%s %s" % (amount, name) for name, amount in sorted(allocatable.items()) if _is_gpus(name, amount)]
    if not offered:
        return []
    name = node["metadata"]["name"]
    return [
        "The node %s already offers %s, and no DaemonSet of the cluster is known to do that. Two device plugins on a "
        "node take the resource from each other. To do: find what does it ('kubectl get pods -A --field-selector "
        "spec.nodeName=%s', static pods, services of the node) and stop it; allocatable is 0 some seconds later."
        % (name, ", ".join(offered), name)
    ]


def _is_gpus(name, amount):
    return bool(re.match(r"nvidia\.com/(gpu|mig-)", name)) and str(amount) != "0"


def _config_problems(wanted):
    """What is wrong with the names of configurations; what is in them is checked by the daemon's own code."""
    configs, problems = wanted["configs"], []
    names = ", ".join(sorted(configs)) or "none"
    for name in sorted(configs):
        if not _CONFIG_NAME.match(name):
            problems.append(
                "device_plugin_configs: %r cannot be a name. To do: letters, digits, - _ . only, 63 at most, a letter "
                "or digit at both ends, as it becomes a label's value." % name
            )
    if wanted["default_config"] and wanted["default_config"] not in configs:
        problems.append(
            "device_plugin_default_config is %s, and device_plugin_configs has %s. To do: name one of these."
            % (wanted["default_config"], names)
        )
    elif not wanted["default_config"] and len(configs) > 1 and "default" not in configs:
        problems.append(
            "device_plugin_configs has %s, and none of them is for nodes without a choice of their own. To do: set "
            "device_plugin_default_config, or name one of them default." % names
        )
    if wanted["config_name"] and wanted["config_name"] not in configs:
        problems.append(
            "device_plugin_config_name is %s for the node %s, and device_plugin_configs has %s. To do: name one of "
            "these." % (wanted["config_name"], wanted["node_name"], names)
        )
    return problems


def _image_problems(wanted):
    source, problems = wanted["image_source"], []
    if source in ("registry", "push") and not wanted["image"]:
        problems.append(
            "device_plugin_image_source is %s, but no image is named. To do: set device_plugin_image to "
            "the image's name in your registry." % source
        )
    if source == "push" and "@" in wanted["image"]:
        problems.append(
            "device_plugin_image has a digest, which an image that is yet to be built cannot have. To do: leave it "
            "out, or set device_plugin_image_source to registry if the image is there already."
        )
    if source == "archive" and not wanted["archive"]:
        problems.append(
            "device_plugin_image_source is archive, but no archive is named. To do: set device_plugin_archive "
            "to a file that 'docker save' wrote, on the control host."
        )
    if source not in ("registry", "push") and wanted["node_runtime"] not in ("docker", "containerd", "crio"):
        problems.append(
            "The image cannot be loaded on this node: %s. To do: %s."
            % (
                (
                    "its kubelet uses the runtime %s" % wanted["node_runtime"],
                    "choose push or registry as device_plugin_image_source",
                )
                if wanted["node_runtime"]
                else (
                    "which container runtime its kubelet uses is not known, as no kubelet runs",
                    "start the kubelet, or set kubegpu_runtime to docker, containerd or crio",
                )
            )
        )
    return problems


def _runtime_class(nodes, wanted):
    # dockershim and old cri-dockerd know no handlers: a pod that names a RuntimeClass does not start there, so the
    # plugin relies on nvidia being Docker's default runtime.
    for node in nodes:
        if node["metadata"]["name"] not in wanted["play_node_names"] and GPU_LABEL not in _labels(node):
            continue
        version = ((node.get("status") or {}).get("nodeInfo") or {}).get("containerRuntimeVersion", "")
        if version.startswith("docker://"):
            return ""
    return wanted["runtime_class"]


def _replaced(owners, daemonsets, wanted, keep):
    if wanted["state"] == "present":
        found = [(owner["namespace"], owner["name"]) for owner in owners if wanted["replace_others"]]
    else:
        found = [
            (item["metadata"].get("namespace", "default"), item["metadata"]["name"])
            for item in daemonsets
            if is_parked(item) and not keep
        ]
    return [{"namespace": namespace, "name": name} for namespace, name in sorted(found)]


def _others(nodes, wanted):
    """Names of nodes that keep the device plugin when those of the play lose it."""
    if wanted["state"] == "present" or wanted["remove_objects"] == "always":
        return []
    mine = [*wanted["play_node_names"], wanted["node_name"]]
    return sorted(
        node["metadata"]["name"]
        for node in nodes
        if node["metadata"]["name"] not in mine and _labels(node).get(GPU_LABEL) == "true"
    )


def _wrong_labels(node, labels):
    """{name: wanted value} of the labels that a node has otherwise. A node that does not exist has nothing wrong."""
    if node is None:
        return {}
    return {name: value for name, value in labels.items() if _labels(node).get(name) != value}


def _traces(node, features):
    """What of the agent's is on a node that it is not to write (any more), as a patch of its metadata."""
    if node is None:
        return {}
    notes = node["metadata"].get("annotations") or {}
    labels = {}
    if "labels" not in features:
        owned = ["nvidia.com/" + part for part in notes.get(_OWNED, "").split(",") if part]
        labels = {key: None for key in owned if key in _labels(node) and key not in (GPU_LABEL, _CONFIG_LABEL)}
    annotations = {key: None for key, feature in _ANNOTATIONS.items() if key in notes and feature not in features}
    return {kind: change for kind, change in (("labels", labels), ("annotations", annotations)) if change}


def device_plugin_plan(results, wanted):
    """Return the plan as a dict; see the RETURN documentation.

    :param results: results of k8s_info in a loop over items with a ``kind``, failed ones included.
    :param wanted: what is wanted, from the role's variables.
    """
    objects, problems = _read(results)
    nodes = objects.get("Node", [])
    # without a cluster: all of it is there to be made
    rendered = wanted["state"] == "rendered"
    present = wanted["state"] == "present"
    owners = gpu_resource_owners(objects.get("DaemonSet", []), MANAGED_BY)
    runtime_class = wanted["runtime_class"]
    existing_namespace = _named(objects.get("Namespace", []), wanted["namespace"])
    existing_class = _named(objects.get("RuntimeClass", []), runtime_class)
    if not problems and present:
        problems += _node_problems(nodes, wanted["node_name"])
        problems += _owner_problems(owners, wanted["replace_others"])
        problems += _unknown_owner_problems(_named(nodes, wanted["node_name"]), owners, objects.get("DaemonSet", []))
        if existing_class and not _ours(existing_class) and existing_class.get("handler") != "nvidia":
            problems.append(
                "The RuntimeClass %s exists, is not ours, and its handler is %s instead of nvidia. To do: set "
                "device_plugin_runtime_class to another name." % (runtime_class, existing_class.get("handler"))
            )
    if present:
        problems += _image_problems(wanted)
    if present or rendered:
        problems += _config_problems(wanted)
    node, others = _named(nodes, wanted["node_name"]), _others(nodes, wanted)
    keep = bool(present or others)
    wanted_keys = (
        {(item["kind"], item.get("namespace", ""), item["name"]) for item in wanted["objects"]} if keep else set()
    )
    stale = []
    for kind in REMOVAL_ORDER:
        for item in objects.get(kind, []):
            metadata = item["metadata"]
            key = (kind, metadata.get("namespace", ""), metadata["name"])
            if _ours(item) and key not in wanted_keys:
                stale.append(
                    {
                        "apiVersion": API_VERSIONS.get(kind, "v1"),
                        "kind": kind,
                        "name": metadata["name"],
                        "namespace": metadata.get("namespace", ""),
                    }
                )
    return {
        "problems": problems,
        "runtime_class": _runtime_class(nodes, wanted),
        "manage_namespace": existing_namespace is None or _ours(existing_namespace),
        "manage_runtime_class": bool(runtime_class) and (existing_class is None or _ours(existing_class)),
        "namespace_exists": existing_namespace is not None,
        "node": node or {},
        "labels": _wrong_labels(node, wanted["labels"]),
        "traces": _traces(node, wanted["agent_features"] if present else []),
        "others": others,
        "replaced": _replaced(owners, objects.get("DaemonSet", []), wanted, keep),
        "stale": stale,
    }


class FilterModule(object):
    """The filter device_plugin_plan."""

    def filters(self):
        return {"device_plugin_plan": device_plugin_plan}
