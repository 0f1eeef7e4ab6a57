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

PLUGIN_LABELS = {
    "app.kubernetes.io/name": "nvidia-device-plugin",
    "app.kubernetes.io/managed-by": "kubegpu.nvidia",
}
# as nvidia-smi -L prints a GPU; MIG devices follow indented
_GPU_LINE = re.compile(r"^GPU \d+: (?P<name>.*) \(UUID: (?P<uuid>GPU-[0-9a-f-]+)\)\s*$", re.MULTILINE)
_MIG_LINE = re.compile(r"^\s+MIG .*\(UUID: (?P<uuid>MIG-[^)]+)\)\s*$", re.MULTILINE)
_VISIBLE = re.compile(r"^NVIDIA_VISIBLE_DEVICES=(?P<value>.*)$", re.MULTILINE)


def _link(name, status, detail, remedy=""):
    return {"name": name, "status": status, "detail": detail, "remedy": remedy}


def _passed(name, detail):
    return _link(name, "passed", detail)


def _failed(name, detail, remedy):
    return _link(name, "failed", detail, remedy)


def _skipped(name, reason):
    return _link(name, "skipped", reason)


def _count(number, noun):
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def plugin_pod(pods):
    """Return our device plugin's newest pod of a node's pods, or None."""
    ours = [
        pod
        for pod in pods or []
        if all((pod["metadata"].get("labels") or {}).get(key) == value for key, value in PLUGIN_LABELS.items())
    ]
    return max(ours, key=lambda pod: pod["metadata"].get("creationTimestamp") or "") if ours else None


def requested(pods, resource):
    """Return how many of a resource the node's pods that have not ended ask for."""
    total = 0
    for pod in pods or []:
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for container in (pod.get("spec") or {}).get("containers") or []:
            limits = (container.get("resources") or {}).get("limits") or {}
            total += int(limits.get(resource, 0))
    return total


def quantity(node, kind, resource):
    """Return a whole-numbered resource of a node's capacity or allocatable; 0 if it has none."""
    return int(((node.get("status") or {}).get(kind) or {}).get(resource, 0))


def _driver(seen):
    gpu = seen["gpu"]
    problem = gpu.get("problem")
    if problem:
        return _failed("driver", problem["message"], problem.get("hint") or "")
    if not gpu.get("present"):
        return _failed("driver", "the node has no NVIDIA GPU", "take the host out of the group of GPU nodes")
    if not gpu.get("driver_loaded"):
        return _failed("driver", "the NVIDIA driver is not loaded", "load it ('modprobe nvidia') and see 'dmesg'")
    names = sorted({item.get("name") or "unknown" for item in gpu.get("gpus") or []})
    return _passed(
        "driver", "driver %s, %s (%s)" % (gpu.get("driver_version"), _count(gpu["count"], "GPU"), ", ".join(names))
    )


def _toolkit(seen):
    toolkit = seen["gpu"].get("toolkit") or {}
    version = toolkit.get("version") or toolkit.get("cli_version")
    if not version and not toolkit.get("runtime_path"):
        return _failed(
            "toolkit", "the NVIDIA Container Toolkit is not installed", "run the play with the tag container_toolkit"
        )
    if not toolkit.get("runtime_path"):
        return _failed(
            "toolkit", "version %s, but nvidia-container-runtime is missing" % version, "install the toolkit again"
        )
    return _passed("toolkit", "version %s" % (version or "unknown"))


def _runtime(name, result, unused, restart_hint):
    if result is None or result.get("skipped"):
        return _skipped(name, unused)
    if result.get("failed") or "pending" not in result:
        return _failed(
            name, str(result.get("msg", "its configuration cannot be read")), "mend the file, then run the play again"
        )
    if result.get("changed"):
        return _failed(
            name, "the runtime nvidia is not in its configuration", "run the play with the tag %s_runtime" % name
        )
    if result["pending"] != "none":
        reasons = "; ".join(result.get("pending_reasons") or []) or "it still runs with its former configuration"
        return _failed(name, "a %s is due: %s" % (result["pending"], reasons), restart_hint)
    return _passed(name, "the runtime nvidia is configured and in use")


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
        return _failed("docker", "the Docker Engine does not answer", "see 'systemctl status docker'")
    if "nvidia" not in (live.get("runtimes") or {}):
        return _failed("docker", "dockerd runs without the runtime nvidia", "run the play with the tag docker_runtime")
    return _passed("docker", "dockerd has the runtime nvidia; default: %s" % live.get("default_runtime"))


def _containerd(seen):
    return _runtime(
        "containerd",
        seen.get("containerd"),
        "the kubelet does not use containerd",
        "run the play with the tag containerd_runtime",
    )


def _no_cluster(seen):
    """Why the cluster's links cannot be judged: (reason, failure) with at most one of them."""
    if not seen.get("cluster"):
        return "kubegpu_cluster is false", None
    answer = seen.get("api") or {}
    if "node" not in seen or seen["node"] is None:
        known = kubernetes_remedy(answer.get("msg", ""))
        return "", (known["cause"], known["remedy"])
    return "", None


def _node(seen):
    reason, failure = _no_cluster(seen)
    if reason:
        return _skipped("node", reason)
    if failure:
        return _failed("node", failure[0], failure[1])
    if not seen["node"]:
        return _failed(
            "node",
            "the cluster has no node named %s" % seen["node_name"],
            "set kubegpu_node_name for this host, or join the machine to the cluster",
        )
    conditions = {item.get("type"): item for item in seen["node"]["status"].get("conditions") or []}
    ready = conditions.get("Ready", {})
    if ready.get("status") != "True":
        return _failed(
            "node", "it is not ready: %s" % (ready.get("message") or "no reason given"), "see the kubelet's log"
        )
    if (seen["node"].get("spec") or {}).get("unschedulable"):
        return _passed("node", "ready, but cordoned")
    return _passed(
        "node", "ready, kubelet %s" % seen["node"]["status"].get("nodeInfo", {}).get("kubeletVersion", "unknown")
    )


def _plugin(seen):
    if not seen.get("node"):
        return _skipped("plugin", "the node is not known")
    pod = plugin_pod(seen.get("pods"))
    if pod is None:
        return _failed(
            "plugin", "no pod of the device plugin is on the node", "run the play with the tag device_plugin"
        )
    trouble = pod_trouble(pod)
    if not trouble["ready"]:
        detail = "the pod %s is not ready: %s" % (pod["metadata"]["name"], trouble["cause"])
        if trouble["last_words"]:
            detail += "; last words: %s" % trouble["last_words"].splitlines()[-1]
        return _failed(
            "plugin",
            detail,
            trouble["remedy"]
            or "see 'kubectl -n %s logs %s'" % (pod["metadata"].get("namespace"), pod["metadata"]["name"]),
        )
    return _passed("plugin", "the pod %s is ready" % pod["metadata"]["name"])


def _resources(seen):
    if not seen.get("node"):
        return _skipped("resources", "the node is not known")
    resource, expected = seen["resource"], seen["expected"]
    capacity = quantity(seen["node"], "capacity", resource)
    allocatable = quantity(seen["node"], "allocatable", resource)
    detail = "%s: capacity %d, allocatable %d, expected %d" % (resource, capacity, allocatable, expected)
    if capacity == allocatable == expected:
        return _passed("resources", detail)
    if capacity == 0:
        remedy = "the plugin has not registered with the kubelet: see the plugin's log and the kubelet's"
    elif plugin_pod(seen.get("pods")) is None:
        remedy = "no plugin tells the kubelet of the devices: mend the link plugin first"
    elif allocatable < capacity:
        unhealthy = _count(capacity - allocatable, "device")
        remedy = "%s unhealthy: see the plugin's log, and 'dmesg | grep Xid' on the node" % unhealthy
    else:
        remedy = (
            "restart the plugin's pod, so that it counts the GPUs again; with sharing or MIG set verify_expected_gpus"
        )
    return _failed("resources", detail, remedy)


def _saw(output):
    return [(match.group("name"), match.group("uuid")) for match in _GPU_LINE.finditer(output)]


def _docker_run(seen, name, key):
    run = (seen.get("docker_runs") or {}).get(key)
    if run is None:
        return _skipped(name, seen.get("docker_skip") or "not tried")
    output = "%s\n%s" % (run.get("stdout") or "", run.get("stderr") or "")
    if run.get("rc") == 125 and re.search(r"no such image|unable to find image", output, re.IGNORECASE):
        if not seen.get("docker_image_named"):
            return _skipped(
                name,
                "the image %s is not on the node; verify_docker_image names one to pull" % seen.get("docker_image"),
            )
        return _failed(name, (run.get("stderr") or "").strip(), "load the image on the node, or let Docker pull it")
    if run.get("rc") != 0:
        detail = (run.get("stderr") or run.get("stdout") or run.get("msg") or "no message").strip()
        return _failed(name, "exit code %s: %s" % (run.get("rc"), detail), _docker_remedy(detail))
    saw = _saw(run["stdout"])
    if len(saw) != seen["gpu"]["count"]:
        return _failed(
            name,
            "the container saw %s, the driver has %d" % (_count(len(saw), "GPU"), seen["gpu"]["count"]),
            "see /etc/nvidia-container-runtime/config.toml",
        )
    return _passed(name, "a container saw %s" % _count(len(saw), "GPU"))


def _docker_remedy(text):
    lowered = text.lower()
    if "could not select device driver" in lowered:
        return "dockerd was started before the toolkit was installed: restart Docker (docker_runtime_allow_restart)"
    if "unknown runtime" in lowered or "unknown or invalid runtime" in lowered:
        return "run the play with the tag docker_runtime"
    if "executable file not found" in lowered or "nvidia-smi: not found" in lowered:
        return "no nvidia-smi was put into the container: try 'nvidia-container-cli info' on the node"
    if "driver/library version mismatch" in lowered:
        return "the driver was upgraded while it was in use: reboot the node"
    if "cannot connect to the docker daemon" in lowered:
        return "see 'systemctl status docker'"
    return (
        "try the same command on the node, with NVIDIA_DEBUG=1 in /etc/nvidia-container-runtime/config.toml's debug log"
    )


def _pod(seen):
    name = "pod"
    if seen.get("pod_skip"):
        return _skipped(name, seen["pod_skip"])
    created = seen.get("pod_created") or {}
    if created.get("failed"):
        known = kubernetes_remedy(created.get("msg", ""))
        return _failed(name, "the test pod was refused: %s" % known["cause"], known["remedy"])
    pod, log = seen.get("pod"), seen.get("pod_log") or ""
    if not pod:
        return _failed(name, "the test pod vanished", "see the namespace's events ('kubectl get events')")
    phase = (pod.get("status") or {}).get("phase")
    if phase != "Succeeded":
        trouble = pod_trouble(pod, seen.get("pod_events"))
        detail = "the test pod did not succeed (%s): %s" % (phase, trouble["cause"])
        words = (trouble["last_words"] or log).strip()
        if words:
            detail += "; it said: %s" % words
        return _failed(name, detail, trouble["remedy"] or _docker_remedy(detail))
    return _judge_pod_log(name, log, seen)


def _judge_pod_log(name, log, seen):
    saw, visible = _saw(log), _VISIBLE.search(log)
    mig = [match.group("uuid") for match in _MIG_LINE.finditer(log)]
    value = visible.group("value").strip() if visible else ""
    if len(saw) != 1:
        remedy = "the container got more than was allocated: do other pods or images set NVIDIA_VISIBLE_DEVICES?"
        if not saw:
            remedy = "no GPU was put into the container: is the runtime that the pod used the one of the toolkit?"
        return _failed(
            name, "a pod with limits 1 saw %s (NVIDIA_VISIBLE_DEVICES=%s)" % (_count(len(saw), "GPU"), value), remedy
        )
    uuid = saw[0][1]
    known = [item.get("uuid") for item in seen["gpu"].get("gpus") or []]
    if known and uuid not in known:
        return _failed(
            name, "the pod saw the GPU %s, which the driver on the node does not have" % uuid, "is it the right node?"
        )
    if value in ("", "all", "void", "none") or "," in value:
        return _failed(
            name,
            "the pod's NVIDIA_VISIBLE_DEVICES is %r instead of one device" % value,
            "the device did not come from the kubelet's allocation: see which device plugin answers for %s"
            % seen["resource"],
        )
    if value.startswith("GPU-") and value != uuid:
        return _failed(name, "the pod was given %s but saw %s" % (value, uuid), "see the toolkit's log on the node")
    what = "%s (%s)" % (saw[0][0], mig[0] if mig else uuid)
    via = "RuntimeClass %s" % seen["runtime_class"] if seen.get("runtime_class") else "the default runtime"
    return _passed(name, "a pod with limits 1 saw exactly one GPU, %s, through %s" % (what, via))


def _removed(seen):
    result = seen.get("pod_removed") or {}
    if result.get("failed"):
        return [
            _failed(
                "cleanup",
                "the test pod could not be removed: %s" % kubernetes_remedy(result.get("msg", ""))["cause"],
                "remove it ('kubectl -n %s delete pod -l kubegpu.nvidia/verify')" % seen.get("namespace"),
            )
        ]
    return []


def verify_chain(seen):
    """Return the chain's links as a list of dicts; see the RETURN documentation."""
    return [
        _driver(seen),
        _toolkit(seen),
        _docker(seen),
        _containerd(seen),
        _node(seen),
        _plugin(seen),
        _resources(seen),
        _docker_run(seen, "docker_gpus", "gpus"),
        _docker_run(seen, "docker_runtime", "runtime"),
        _pod(seen),
        *_removed(seen),
    ]


class FilterModule(object):
    """The filter verify_chain."""

    def filters(self):
        return {"verify_chain": verify_chain}
