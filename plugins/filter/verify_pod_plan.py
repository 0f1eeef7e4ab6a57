# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a test pod can be tried on a node, and what it looks like."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_pod_plan
short_description: Decide whether and how to try a GPU pod on a node
version_added: 0.1.0
description:
  - Says why a test pod would tell nothing, for example when all GPUs are taken, and else which image and
    RuntimeClass it needs.
  - Made for the role P(kubegpu.nvidia.verify#role).
positional: _input
options:
  _input:
    description:
      - What was observed, with the keys C(cluster), C(node), C(pods), C(resource), C(image) (empty for the device
        plugin's own), C(runtime_class) (V(auto), a name, or empty), C(runtime), C(default_runtime) and C(check_mode).
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Say why no test pod is tried
  ansible.builtin.debug:
    msg: "{{ (observed | kubegpu.nvidia.verify_pod_plan).skip }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    skip:
      description: Why no pod is tried, empty if one is.
      type: str
    image:
      description: The image.
      type: str
    runtime_class:
      description: The RuntimeClass, empty for none.
      type: str
"""

from ansible_collections.kubegpu.nvidia.plugins.filter.verify_chain import plugin_pod, quantity, requested


def _skip(seen, image):
    if not seen["cluster"]:
        return "kubegpu_cluster is false"
    if not seen.get("node"):
        return "the node is not known"
    if seen["check_mode"]:
        return "check mode makes no pods"
    if not image:
        return "there is no image for it: neither verify_image nor a device plugin on the node"
    allocatable = quantity(seen["node"], "allocatable", seen["resource"])
    if allocatable == 0:
        return "the node has no allocatable %s" % seen["resource"]
    if requested(seen.get("pods"), seen["resource"]) >= allocatable:
        return "all %d %s of the node are taken" % (allocatable, seen["resource"])
    return ""


def _runtime_class(seen):
    if seen["runtime_class"] != "auto":
        return seen["runtime_class"]
    # dockershim knows no handlers; and what is the default anyway is tried as users will use it
    if seen["runtime"] == "docker" or seen["default_runtime"] == "nvidia":
        return ""
    return "nvidia"


def verify_pod_plan(seen):
    """Return ``{"skip": str, "image": str, "runtime_class": str}``."""
    image = seen["image"]
    if not image:
        pod = plugin_pod(seen.get("pods"))
        image = pod["spec"]["containers"][0]["image"] if pod else ""
    return {"skip": _skip(seen, image), "image": image, "runtime_class": _runtime_class(seen)}


class FilterModule(object):
    """The filter verify_pod_plan."""

    def filters(self):
        return {"verify_pod_plan": verify_pod_plan}
