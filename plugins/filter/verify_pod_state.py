# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the test pods have come."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_pod_state
short_description: Say how far the test pods have come
version_added: 0.1.0
description:
  - Tells whether there is nothing more to wait for, and where all GPUs are held.
  - Made for the role P(kubegpu.nvidia.verify#role).
positional: _input
options:
  _input:
    description: The test pods, as M(kubernetes.core.k8s_info) returns them.
    type: list
    elements: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Wait for the test pods
  kubernetes.core.k8s_info:
    kind: Pod
    namespace: nvidia-device-plugin
    label_selectors: [kubegpu.nvidia/verify-run=4711]
  register: tried
  until: (tried.resources | kubegpu.nvidia.verify_pod_state).settled
"""

RETURN = r"""
_value:
  description: Their state.
  type: dict
  contains:
    settled:
      description: Whether there is nothing more to wait for.
      type: bool
    succeeded:
      description: Whether all of them have come to what is wanted of them.
      type: bool
    held:
      description: Marks of the nodes whose GPUs are all held.
      type: list
      elements: str
"""

from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify import pods as test_pods

_WANTED = {test_pods.ONE: "Succeeded", test_pods.ALL: "Running", test_pods.MORE: "Pending"}


def verify_pod_state(pods):
    """Return the state; see the RETURN documentation."""
    found = [(pod, test_pods.label(pod, test_pods.KIND), (pod.get("status") or {}).get("phase")) for pod in pods]
    return {
        "settled": all(test_pods.settled(pod) for pod in pods),
        "succeeded": all(phase == _WANTED.get(kind) for _pod, kind, phase in found),
        "held": sorted(
            test_pods.label(pod, test_pods.MARK)
            for pod, kind, phase in found
            if kind == test_pods.ALL and phase == "Running"
        ),
    }


class FilterModule(object):
    """The filter verify_pod_state."""

    def filters(self):
        return {"verify_pod_state": verify_pod_state}
