# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a pod does not run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_trouble
short_description: Why a pod is not ready
version_added: 0.1.0
description:
  - Reads from a pod's status why it does not run or is not ready, as C(kubectl describe) would let a person see it.
positional: _input
options:
  _input:
    description: The pod, as M(kubernetes.core.k8s_info) returns it.
    type: dict
    required: true
  events:
    description: Events of the pod's namespace. They tell what keeps a container from being made.
    type: list
    elements: dict
    default: []
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Say why the pod is not ready
  ansible.builtin.debug:
    msg: "{{ (pods.resources[0] | kubegpu.nvidia.pod_trouble).cause }}"
"""

RETURN = r"""
_value:
  description: What is wrong with the pod.
  type: dict
  contains:
    ready:
      description: Whether the pod is ready, in which case the other values are empty.
      type: bool
    cause:
      description: What is wrong.
      type: str
      sample: "container plugin waits: ImagePullBackOff: Back-off pulling image"
    remedy:
      description: What to do, empty if nothing better than the cause is known.
      type: str
    last_words:
      description: The last lines of a container that ended, if the kubelet kept them.
      type: str
"""

# (word of the reason or message, remedy); the first that is contained wins
_REMEDIES = (
    ("ErrImageNeverPull", "load the image on the node: run the play without --tags, or with the tag device_plugin"),
    (
        "ImagePullBackOff",
        "the image is neither on the node nor can it be pulled: check its name, the registry and its credentials",
    ),
    (
        "ErrImagePull",
        "the image is neither on the node nor can it be pulled: check its name, the registry and its credentials",
    ),
    (
        "no runtime for",
        "the node's runtime has no handler of that name: run the play with the tag of the runtime's role",
    ),
    (
        "RuntimeHandler",
        "the node's runtime has no handler of that name: run the play with the tag of the runtime's role",
    ),
    ("unknown device", "the container toolkit does not know the GPU that the plugin offered: restart the plugin's pod"),
    ("driver/library version mismatch", "the driver was upgraded while it was in use: reboot the node"),
    (
        "driver not loaded",
        "load the NVIDIA driver on the node ('modprobe nvidia') and see why it was not loaded ('dmesg')",
    ),
    ("nvidia-container-cli", "try 'nvidia-container-cli info' on the node"),
    ("UnexpectedAdmissionError", "the kubelet could not allocate the GPU: see the plugin's log and the kubelet's"),
    ("Insufficient nvidia.com", "all GPUs that match are taken or unhealthy"),
    ("untolerated taint", "add a toleration for the node's taint"),
    ("had taint", "add a toleration for the node's taint"),
    ("cordoned", "uncordon the node ('kubectl uncordon')"),
    ("unschedulable", "uncordon the node ('kubectl uncordon')"),
    ("OOMKilled", "raise the container's memory limit"),
    ("cni", "see the node's network plugin"),
)


def _remedy_for(text):
    for word, remedy in _REMEDIES:
        if word.lower() in text.lower():
            return remedy
    return ""


def _container_trouble(status):
    """(cause, last words) of one container status; ("", "") if it is ready."""
    if status.get("ready"):
        return "", ""
    name = status.get("name", "?")
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated") or {}
    if state.get("waiting") is not None:
        waiting = state["waiting"]
        cause = "container %s waits: %s" % (name, waiting.get("reason", "no reason given"))
        if waiting.get("message"):
            cause += ": " + waiting["message"]
        if last:
            cause += "; it ended before with exit code %s (%s)" % (
                last.get("exitCode"),
                last.get("reason", "no reason given"),
            )
        return cause, last.get("message", "")
    if state.get("terminated") is not None:
        ended = state["terminated"]
        if ended.get("exitCode") == 0:
            return "", ""
        cause = "container %s ended with exit code %s (%s)" % (
            name,
            ended.get("exitCode"),
            ended.get("reason", "no reason given"),
        )
        return cause, ended.get("message", "")
    if state.get("running") is not None:
        cause = "container %s runs but is not ready" % name
        restarts = status.get("restartCount") or 0
        if restarts:
            cause += " (restarted %d times)" % restarts
        return cause, last.get("message", "")
    return "container %s has not started" % name, ""


def newest_event(events, kind, name):
    """The message of the newest event about an object, empty if there is none."""
    about = [
        event
        for event in events or []
        if (event.get("involvedObject") or {}).get("kind") == kind and event["involvedObject"].get("name") == name
    ]
    if not about:
        return ""

    def weight(event):
        # FailedCreatePodSandBox, FailedMount … rather than what the kubelet says by the way, like MissingClusterDNS
        failed = str(event.get("reason", "")).startswith("Failed")
        return failed, event.get("lastTimestamp") or event.get("eventTime") or ""

    return max(about, key=weight).get("message") or ""


def pod_trouble(pod, events=None):
    """Return ``{"ready": bool, "cause": str, "remedy": str, "last_words": str}``.

    :param pod: a Pod object.
    :param events: Event objects; those about other objects are left out.
    """
    status = pod.get("status") or {}
    conditions = {item.get("type"): item for item in status.get("conditions") or []}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return {"ready": False, "cause": "it is being deleted", "remedy": "", "last_words": ""}
    if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return {"ready": True, "cause": "", "remedy": "", "last_words": ""}
    causes, last_words = [], []
    if status.get("reason") or status.get("message"):
        causes.append(": ".join(part for part in (status.get("reason"), status.get("message")) if part))
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        causes.append("not scheduled: %s" % (scheduled.get("message") or scheduled.get("reason") or "no reason given"))
    for item in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        cause, words = _container_trouble(item)
        if cause:
            causes.append(cause)
        if words:
            last_words.append(words.strip())
    # what keeps a container from being made is told by an event only
    event = "" if last_words else newest_event(events, "Pod", (pod.get("metadata") or {}).get("name"))
    if event:
        causes.append(event)
    if not causes:
        causes.append("phase %s" % status.get("phase", "unknown"))
    cause = "; ".join(causes)
    words = "\n".join(last_words)
    return {"ready": False, "cause": cause, "remedy": _remedy_for(cause + "\n" + words), "last_words": words}


class FilterModule(object):
    """The filter pod_trouble."""

    def filters(self):
        return {"pod_trouble": pod_trouble}
