# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test pods: one that asks for one GPU, one that holds all of the node's, and one more that must wait."""

from __future__ import annotations

import hashlib
from typing import Any

from ..kubernetes.pods import ENDED
from .links import condition

MARK = "kubegpu.nvidia/verify"
RUN = "kubegpu.nvidia/verify-run"
KIND = "kubegpu.nvidia/verify-pod"
ONE, ALL, MORE = "one", "all", "more"

# What it saw goes into the pod's status: no further request is needed to read it, but it holds 4096 bytes only, so
# of each line of nvidia-smi the identifier is left.
_LOOK = (
    "said=$(nvidia-smi -L 2>&1); code=$?\n"
    '{ echo "NVIDIA_VISIBLE_DEVICES=$NVIDIA_VISIBLE_DEVICES"\n'
    'if [ $code -eq 0 ]; then echo "$said" | while read -r line; do line="${line##*UUID: }"; echo "${line%)}"; done\n'
    'else echo "$said"; fi; } >/dev/termination-log\n'
    'echo "$said"; exit $code\n'
)
_HOLD = "exec sleep 86400"


def mark(node: str) -> str:
    """A label's value that stands for a node: a label has 63 characters, a node's name up to 253."""
    return hashlib.sha256(node.encode("utf-8")).hexdigest()[:16]


def definition(kind: str, node: str, resource: str, amount: int, run: str, options: dict[str, Any]) -> dict[str, Any]:
    """A test pod.

    Args:
        kind (str): ONE looks and ends; ALL looks and then keeps its GPUs until it is removed; MORE does nothing.
        node (str): name of the only node that it may be placed on.
        resource (str): what it asks for.
        amount (int): how many.
        run (str): what tells the pods of one run from those of another.
        options (dict): ``namespace``, ``image``, ``runtime_class`` (empty: none), ``tolerations`` and ``timeout``
            (seconds; after twice as many the pod ends even if nobody removes it).

    Returns:
        dict: the Pod.
    """
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        # the pods are made one after the other, and the first must not end before the last was looked at
        "activeDeadlineSeconds": 2 * int(options["timeout"]),
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": options["tolerations"],
        # by the scheduler, as with a user's pod, but only onto this node
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
                    ]
                }
            }
        },
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if options["runtime_class"]:
        spec["runtimeClassName"] = options["runtime_class"]
    if kind == ALL:
        # the scheduler keeps for a pod what its init containers asked for, as long as it lives
        spec["initContainers"] = [_container("look", options["image"], _LOOK, {resource: amount})]
        spec["containers"] = [_container("hold", options["image"], _HOLD, {})]
    else:
        script = _LOOK if kind == ONE else "exit 0"
        spec["containers"] = [_container("gpu", options["image"], script, {resource: amount})]
    labels = {
        "app.kubernetes.io/name": "kubegpu-verify",
        "app.kubernetes.io/managed-by": "kubegpu.nvidia",
        MARK: mark(node),
        RUN: run,
        KIND: kind,
    }
    metadata = {"generateName": "kubegpu-verify-%s-" % kind, "namespace": options["namespace"], "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(name: str, image: str, script: str, limits: dict[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script],
        # puts nvidia-smi into the container
        "env": [{"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "utility"}],
        # little is asked for beside the GPU, so that nothing else decides whether the pod can be placed
        "resources": {
            "limits": {**limits, "cpu": "500m", "memory": "128Mi"},
            "requests": {**limits, "cpu": "10m", "memory": "16Mi"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def label(pod: dict[str, Any], name: str) -> str:
    """A pod's label, empty if it has none of that name."""
    labels: dict[str, str] = (pod.get("metadata") or {}).get("labels") or {}
    return labels.get(name, "")


def settled(pod: dict[str, Any]) -> bool:
    """Whether nothing more is to be waited for: ONE has ended, ALL holds its GPUs, MORE was turned away."""
    phase = (pod.get("status") or {}).get("phase")
    if phase in ENDED:
        return True
    if label(pod, KIND) == ALL:
        return phase == "Running"
    if label(pod, KIND) == MORE:
        return phase == "Running" or bool(condition(pod, "PodScheduled"))
    return False


def said(pod: dict[str, Any]) -> str:
    """What the container that looked has left in the pod's status; empty if it has not come to that."""
    status = pod.get("status") or {}
    for item in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        message: str | None = ((item.get("state") or {}).get("terminated") or {}).get("message")
        if message:
            return message
    return ""


def seen(pod: dict[str, Any]) -> tuple[str, str]:
    """As ``said``, without the line of the environment: (value of NVIDIA_VISIBLE_DEVICES or "", the rest)."""
    lines = said(pod).splitlines()
    name = "NVIDIA_VISIBLE_DEVICES="
    value = [line[len(name) :].strip() for line in lines if line.startswith(name)]
    return (value[0] if value else ""), "\n".join(line for line in lines if not line.startswith(name))
