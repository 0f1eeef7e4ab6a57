# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether nodes offer what is expected of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_registered
short_description: Say whether nodes offer what is expected of them
version_added: 0.1.0
description:
  - A kubelet writes what a plugin has registered into its node's status every C(nodeStatusUpdateFrequency), 10 s unless
    configured, so that right after a plugin's start it is worth waiting.
  - Made for the role P(kubegpu.nvidia.verify#role).
positional: _input, hosts
options:
  _input:
    description: Node objects.
    type: list
    elements: dict
    required: true
  hosts:
    description: By inventory name what is expected, with the keys C(node) and C(expected) (by resource).
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Wait until the nodes offer their GPUs
  kubernetes.core.k8s_info:
    kind: Node
  register: nodes
  until: nodes.resources | kubegpu.nvidia.verify_registered(wanted)
  vars:
    wanted:
      gpu-a: {node: gpu-a, expected: {nvidia.com/gpu: 8}}
"""

RETURN = r"""
_value:
  description: Whether every node that is there has the expected capacity.
  type: bool
"""

from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify.links import quantity


def verify_registered(nodes, hosts):
    """Return whether every node that is there has the expected capacity."""
    known = {node["metadata"]["name"]: node for node in nodes}
    return all(
        quantity(known[wanted["node"]], "capacity", resource) == int(amount)
        for wanted in hosts.values()
        if wanted["node"] in known
        for resource, amount in (wanted["expected"] or {}).items()
    )


class FilterModule(object):
    """The filter verify_registered."""

    def filters(self):
        return {"verify_registered": verify_registered}
