# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods keep a node from being empty."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pods_to_drain
short_description: Pods that must be gone before a node is empty
version_added: 0.1.0
description:
  - Picks from a node's pods those that a drain evicts. What belongs to a DaemonSet, what the kubelet runs by itself
    (mirror pods), and what has ended does not count.
  - After a drain they are what is left, since M(kubernetes.core.k8s_drain) only warns when its time is up.
positional: _input
options:
  _input:
    description: Pods of one node, as M(kubernetes.core.k8s_info) returns them.
    type: list
    elements: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Fail where pods are left
  ansible.builtin.assert:
    that: pods.resources | kubegpu.nvidia.pods_to_drain | length == 0
"""

RETURN = r"""
_value:
  description: Namespace and name of each, with a slash between them, sorted.
  type: list
  elements: str
  sample: [research/train-0]
"""

from ansible_collections.kubegpu.nvidia.plugins.module_utils.kubernetes.pods import ENDED

# On what the kubelet made of a file: https://kubernetes.io/docs/reference/labels-annotations-taints/
MIRROR = "kubernetes.io/config.mirror"


def pods_to_drain(pods):
    """Return the names of the pods that a drain evicts.

    :param pods: Pod objects (v1) of one node as dicts.
    :returns: ``namespace/name`` of each, sorted.
    """
    return sorted(
        "%s/%s" % (pod["metadata"].get("namespace", "default"), pod["metadata"]["name"])
        for pod in pods
        if (pod.get("status") or {}).get("phase") not in ENDED
        and MIRROR not in (pod["metadata"].get("annotations") or {})
        and not any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences") or [])
    )


class FilterModule(object):
    """The filter pods_to_drain."""

    def filters(self):
        return {"pods_to_drain": pods_to_drain}
