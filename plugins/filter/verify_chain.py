# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain from the driver to a pod with a GPU, judged link by link."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_chain
short_description: Judge each link of the chain from the driver to a GPU pod
version_added: 0.1.0
description:
  - Takes what was observed on a node and in the cluster, and says of each link whether it holds, is broken and why, or
    could not be tried.
  - Made for the role P(kubegpu.nvidia.verify#role).
positional: _input
options:
  _input:
    description: The observations. A key that is missing or null was not observed.
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Judge what was observed
  ansible.builtin.set_fact:
    links: "{{ observed | kubegpu.nvidia.verify_chain }}"
"""

RETURN = r"""
_value:
  description: The links, in the order of the chain.
  type: list
  elements: dict
  contains:
    name:
      description: Stable name of the link.
      type: str
      sample: toolkit
    status:
      description: V(passed), V(failed) or V(skipped).
      type: str
      sample: failed
    detail:
      description: What was seen, or why the link was skipped.
      type: str
      sample: nvidia-container-toolkit is not installed
    remedy:
      description: What to do, empty unless the link failed.
      type: str
      sample: run the play with the tag container_toolkit
"""

import re

from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy
from ansible_collections.kubegpu.nvidia.plugins.filter.pod_trouble import pod_trouble
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_pods import verify_pods
from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify.containers import judge
from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify.links import (
    condition,
    count,
    failed,
    passed,
    plugin_pod,
    quantity,
    skipped,
)

GPU_LABEL = "nvidia.com/gpu.present"


def _driver(seen):
    gpu = seen["gpu"]
    problem = gpu.get("problem")
    if problem:
        return failed("driver", problem["message"], problem.get("hint") or "")
    if not gpu.get("present"):
        return failed("driver", "the node has no NVIDIA GPU", "take the host out of the group of GPU nodes")
    if not gpu.get("driver_loaded"):
        return failed("driver", "the NVIDIA driver is not loaded", "load it ('modprobe nvidia') and see 'dmesg'")
    names = sorted({item.get("name") or "unknown" for item in gpu.get("gpus") or []})
    return passed(
        "driver", "driver %s, %s (%s)" % (gpu.get("driver_version"), count(gpu["count"], "GPU"), ", ".join(names))
    )


def _toolkit(seen):
    toolkit = seen["gpu"].get("toolkit") or {}
    version = toolkit.get("version") or toolkit.get("cli_version")
    if not version and not toolkit.get("runtime_path"):
        return failed(
            "toolkit", "the NVIDIA Container Toolkit is not installed", "run the play with the tag container_toolkit"
        )
    if not toolkit.get("runtime_path"):
        return failed(
            "toolkit", "version %s, but nvidia-container-runtime is missing" % version, "install the toolkit again"
        )
    return passed("toolkit", "version %s" % (version or "unknown"))


def _runtime(name, result, unused, restart_hint):
    if result is None or result.get("skipped"):
        return skipped(name, unused)
    if result.get("failed") or "pending" not in result:
        return failed(
            name, str(result.get("msg", "its configuration cannot be read")), "mend the file, then run the play again"
        )
    # changed_when keeps the recap at changed=0, and would hide it
    if result.get("changed") or result.get("in_place") is False:
        return failed(
            name, "the runtime nvidia is not in its configuration", "run the play with the tag %s_runtime" % name
        )
    if result["pending"] != "none":
        reasons = "; ".join(result.get("pending_reasons") or []) or "it still runs with its former configuration"
        return failed(name, "a %s is due: %s" % (result["pending"], reasons), restart_hint)
    return passed(name, "the runtime nvidia is configured and in use")


def _docker(seen):
    result = seen.get("docker")
    link = _runtime(
        "docker",
        result,
        "Docker is not installed",
        "run the play with the tag docker_runtime; docker_runtime_allow_restart says whether it may restart Docker",
    )
    live = (result or {}).get("live")
    if link["status"] != "passed":
        return link
    if not live:
        return failed("docker", "the Docker Engine does not answer", "see 'systemctl status docker'")
    if "nvidia" not in (live.get("runtimes") or {}):
        return failed("docker", "dockerd runs without the runtime nvidia", "run the play with the tag docker_runtime")
    return passed("docker", "dockerd has the runtime nvidia; default: %s" % live.get("default_runtime"))


def _containerd(seen):
    return _runtime(
        "containerd",
        seen.get("containerd"),
        "the kubelet does not use containerd",
        "run the play with the tag containerd_runtime",
    )


def _crio(seen):
    return _runtime(
        "crio", seen.get("crio"), "the kubelet does not use CRI-O", "run the play with the tag crio_runtime"
    )


def _node(seen):
    if not seen.get("cluster"):
        return skipped("node", "kubegpu_cluster is false")
    if seen.get("node") is None:
        known = kubernetes_remedy((seen.get("api") or {}).get("msg", ""))
        return failed("node", known["cause"], known["remedy"])
    if not seen["node"]:
        return failed(
            "node",
            "the cluster has no node named %s" % seen["node_name"],
            "set kubegpu_node_name for this host, or join the machine to the cluster",
        )
    ready = condition(seen["node"], "Ready")
    if ready.get("status") != "True":
        return failed(
            "node", "it is not ready: %s" % (ready.get("message") or "no reason given"), "see the kubelet's log"
        )
    if (seen["node"].get("spec") or {}).get("unschedulable"):
        return passed("node", "ready, but cordoned")
    return passed(
        "node", "ready, kubelet %s" % seen["node"]["status"].get("nodeInfo", {}).get("kubeletVersion", "unknown")
    )


def _plugin(seen):
    if not seen.get("node"):
        return skipped("plugin", "the node is not known")
    if seen.get("pods") is None:
        known = kubernetes_remedy(seen.get("pods_error") or "")
        return failed("plugin", "its pods cannot be read: %s" % known["cause"], known["remedy"])
    pod = plugin_pod(seen["pods"])
    if pod is None:
        return _no_plugin(seen)
    trouble = pod_trouble(pod)
    if not trouble["ready"]:
        detail = "the pod %s is not ready: %s" % (pod["metadata"]["name"], trouble["cause"])
        if trouble["last_words"]:
            detail += "; last words: %s" % trouble["last_words"].splitlines()[-1]
        return failed(
            "plugin",
            detail,
            trouble["remedy"]
            or "see 'kubectl -n %s logs %s'" % (pod["metadata"].get("namespace"), pod["metadata"]["name"]),
        )
    return passed("plugin", "the pod %s is ready" % pod["metadata"]["name"])


def _no_plugin(seen):
    """Nothing is on the node; what keeps it away is told by the node, or by the plugin's objects."""
    detail, node = "no pod of the device plugin is on the node", seen["node"]
    if ((node.get("metadata") or {}).get("labels") or {}).get(GPU_LABEL) != "true":
        return failed(
            "plugin",
            "%s: it has not the label %s=true" % (detail, GPU_LABEL),
            "run the play with the tag device_plugin, which sets it",
        )
    taints = [
        "%s:%s" % (taint.get("key"), taint.get("effect")) for taint in (node.get("spec") or {}).get("taints") or []
    ]
    taints = [taint for taint in taints if not taint.startswith("node.kubernetes.io/")]
    if taints:
        return failed(
            "plugin",
            "%s, which has the taint %s" % (detail, ", ".join(taints)),
            "add a toleration for it to device_plugin_tolerations, and run the play with the tag device_plugin",
        )
    return failed(
        "plugin",
        detail,
        "run the play with the tag device_plugin; it says what keeps the pod away (pod security, a quota, a webhook)",
    )


def _labels(seen):
    node = seen.get("node")
    if not node:
        return skipped("labels", "the node is not known")
    if not seen["gpu"].get("present"):
        return skipped("labels", "the node has no GPU to be labelled for")
    labels = (node.get("metadata") or {}).get("labels") or {}
    if labels.get(GPU_LABEL) != "true":
        return failed("labels", "%s is not true" % GPU_LABEL, "run the play with the tag device_plugin")
    product = labels.get("nvidia.com/gpu.product")
    names = sorted({re.sub(r"\s+", "-", item.get("name") or "") for item in seen["gpu"].get("gpus") or []} - {""})
    # what follows the name tells of MIG and sharing
    if product and names and not any(product.startswith(name) for name in names):
        return failed(
            "labels",
            "nvidia.com/gpu.product is %s, the driver has %s" % (product, ", ".join(names)),
            "see what writes the label: Node Feature Discovery, or gpu-feature-discovery",
        )
    return passed("labels", "%s is true%s" % (GPU_LABEL, ", product %s" % product if product else ""))


def _registered(seen):
    name, resource = "registered", seen["resource"]
    if not seen.get("node"):
        return skipped(name, "the node is not known")
    if seen["expected"] is not None and not any(seen["expected"].values()):
        return skipped(name, "the node has nothing to register")
    known = resource in ((seen["node"].get("status") or {}).get("capacity") or {})
    pod = plugin_pod(seen.get("pods"))
    ready = pod is not None and pod_trouble(pod)["ready"]
    if known and quantity(seen["node"], "capacity", resource) and (ready or seen.get("pods") is None):
        return passed(name, "the kubelet knows %s" % resource)
    if not ready:
        return failed(
            name,
            "no device plugin that is ready serves %s" % resource
            if known
            else "the kubelet knows no %s: no device plugin is ready on the node" % resource,
            "mend the link plugin first",
        )
    return failed(
        name,
        "the plugin has not registered %s with the kubelet" % resource,
        "see the plugin's log and the kubelet's; does its configuration rename the resource (verify_resource), and is "
        "/var/lib/kubelet/device-plugins the kubelet's own folder?",
    )


def _resources(seen):
    if not seen.get("node"):
        return skipped("resources", "the node is not known")
    if seen["expected"] is None:
        return skipped("resources", "the driver does not say how many GPUs there are")
    # also what nobody expects: two plugins, or a configuration that is not the one that was counted with
    domain = seen["resource"].partition("/")[0] + "/"
    known = [
        name
        for name in (seen["node"].get("status") or {}).get("capacity") or {}
        if name.startswith(domain) and quantity(seen["node"], "capacity", name)
    ]
    found = [
        (name, quantity(seen["node"], "capacity", name), quantity(seen["node"], "allocatable", name), expected)
        for name, expected in sorted(dict(dict.fromkeys(known, 0), **seen["expected"]).items())
    ]
    detail = "; ".join("%s: capacity %d, allocatable %d, expected %d" % item for item in found)
    wrong = [item for item in found if not item[1] == item[2] == item[3]]
    if not wrong:
        return passed("resources", detail)
    _name, capacity, allocatable, _expected = wrong[0]
    if capacity == 0:
        remedy = "mend the link registered first"
    elif seen.get("pods") is not None and plugin_pod(seen["pods"]) is None:
        remedy = "no plugin tells the kubelet of the devices: mend the link plugin first"
    elif allocatable < capacity:
        unhealthy = count(capacity - allocatable, "device")
        remedy = "%s unhealthy: see the plugin's log, and 'dmesg | grep Xid' on the node" % unhealthy
    else:
        remedy = (
            "see the plugin's log; is device_plugin_config the configuration that it runs with? Else say with "
            "verify_expected_gpus how many there are"
        )
    return failed("resources", detail, remedy)


def verify_chain(seen):
    """Return the chain's links as a list of dicts; see the RETURN documentation."""
    return [
        _driver(seen),
        _toolkit(seen),
        _docker(seen),
        _containerd(seen),
        _crio(seen),
        _node(seen),
        _plugin(seen),
        _registered(seen),
        _labels(seen),
        _resources(seen),
        *(judge(name, seen) for name in ("docker_gpus", "docker_runtime", "containerd_runtime")),
        *verify_pods(seen),
    ]


class FilterModule(object):
    """The filter verify_chain."""

    def filters(self):
        return {"verify_chain": verify_chain}
