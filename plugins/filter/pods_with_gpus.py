# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods would suffer if a node's GPUs were taken away."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pods_with_gpus
short_description: Pods that hold NVIDIA GPUs, or wait for a start with them
version_added: 0.1.0
description:
  - Picks from pods those that have been placed on a node, have not ended, and ask for a resource of C(nvidia.com) or
    name the RuntimeClass of the runtime that is to go.
  - Pods of this collection do not count, and neither do pods without a node, since they lose nothing.
positional: _input
options:
  _input:
    description: Pods, as M(kubernetes.core.k8s_info) returns them.
    type: list
    elements: dict
    required: true
  runtime_class:
    description: A pod that names this RuntimeClass counts as well. Empty means that none does.
    type: str
    default: nvidia
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Stop while pods use GPUs
  ansible.builtin.assert:
    that: pods.resources | kubegpu.nvidia.pods_with_gpus | length == 0
"""

RETURN = r"""
_value:
  description: The pods found, sorted by namespace and name.
  type: list
  elements: dict
  contains:
    namespace:
      description: The pod's namespace.
      type: str
      sample: research
    name:
      description: The pod's name.
      type: str
      sample: train-0
    node:
      description: The node that it is on.
      type: str
      sample: gpu-a
    uses:
      description: What it has, for a person to read.
      type: str
      sample: 2 x nvidia.com/gpu
    text:
      description: All of it in a few words.
      type: str
      sample: research/train-0 (2 x nvidia.com/gpu)
"""

from ansible_collections.kubegpu.nvidia.plugins.module_utils.kubernetes.pods import ENDED, limits

PREFIX = "nvidia.com/"
MANAGED_BY = "kubegpu.nvidia"


def _uses(spec, runtime_class):
    words = ["%d x %s" % (amount, name) for name, amount in sorted(limits(spec, PREFIX).items())]
    if not words and runtime_class and spec.get("runtimeClassName") == runtime_class:
        words.append("RuntimeClass %s" % runtime_class)
    return ", ".join(words)


def pods_with_gpus(pods, runtime_class="nvidia"):
    """Return the pods that use GPUs.

    :param pods: Pod objects (v1) as dicts.
    :returns: dicts with ``namespace``, ``name``, ``node``, ``uses``, ``text``, sorted by namespace and name.
    """
    found = []
    for pod in pods:
        metadata, spec = pod["metadata"], pod.get("spec") or {}
        ours = (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") == MANAGED_BY
        if ours or not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in ENDED:
            continue
        uses = _uses(spec, runtime_class)
        if uses:
            namespace, name = metadata.get("namespace", "default"), metadata["name"]
            found.append(
                {
                    "namespace": namespace,
                    "name": name,
                    "node": spec["nodeName"],
                    "uses": uses,
                    "text": "%s/%s (%s)" % (namespace, name, uses),
                }
            )
    return sorted(found, key=lambda pod: (pod["namespace"], pod["name"]))


class FilterModule(object):
    """The filter pods_with_gpus."""

    def filters(self):
        return {"pods_with_gpus": pods_with_gpus}
