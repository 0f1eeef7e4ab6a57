# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which test pods tell something about which nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_pod_plan
short_description: Decide which GPU pods to try on which nodes
version_added: 0.1.0
description:
  - Says for each host why a test pod would tell nothing, for example when all GPUs are taken, and else which pods to
    make.
  - Sees all hosts at once, so that the cluster is asked once and not once for each of them.
  - Made for the role P(kubegpu.nvidia.verify#role).
positional: _input, answers, options
options:
  _input:
    description:
      - By inventory name what is wanted of each host, with the keys C(node) (its name in the cluster), C(resource),
        C(image) (empty for the device plugin's own), C(runtime_class) (V(auto), a name, or empty),
        C(tolerations) and C(all) (whether a pod with all GPUs may be tried).
    type: dict
    required: true
  answers:
    description: Results of M(kubernetes.core.k8s_info), as C(nodes) and as C(pods) that have not ended.
    type: dict
    required: true
  options:
    description: For all pods, C(namespace), C(timeout), C(run) (a label's value of this run alone) and C(check_mode).
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Say why no test pod is tried
  ansible.builtin.debug:
    msg: "{{ (wanted | kubegpu.nvidia.verify_pod_plan(answers, options)).hosts[inventory_hostname].skip }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    hosts:
      description:
        - By inventory name C(node) (the object, empty if there is none, V(null) if nodes could not be read),
          C(node_error), C(pods) (of the node, V(null) if they could not be read), C(pods_error), C(skip) and
          C(skip_all) (why no pod, or none with all GPUs, is tried), C(amount) (how many are all), C(image) and
          C(runtime_class).
      type: dict
    pods:
      description: The pods to make first.
      type: list
      elements: dict
    more:
      description: By the mark of its node the pod to make once all GPUs are held.
      type: dict
    leftovers:
      description: Pods of an earlier run that still hold GPUs of these nodes.
      type: list
      elements: str
    run:
      description: What tells the pods of this run from those of another, as it was given.
      type: str
    selector:
      description: Label selector of the pods that any run has made for these nodes. Empty if none is to be removed.
      type: str
"""

from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify import pods as test_pods
from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify.links import (
    condition,
    plugin_pod,
    quantity,
    takers,
)


def _read(result):
    """(objects or None, error) of a k8s_info result that may not be there."""
    result = result or {}
    if result.get("failed") or "resources" not in result:
        return None, str(result.get("msg") or "there was no answer")
    return result["resources"], ""


def _skip(seen, check_mode):
    node = seen["node"]
    if not node:
        return "the node is not known"
    if seen["pods"] is None:
        return "the node's pods are not known"
    if check_mode:
        return "check mode makes no pods"
    if not seen["image"]:
        return "there is no image for it: neither verify_image nor a device plugin on the node"
    if condition(node, "Ready").get("status") != "True":
        return "the node is not ready"
    if seen["amount"] == 0:
        return "the node has no allocatable %s" % seen["resource"]
    if sum(seen["takers"].values()) >= seen["amount"]:
        return "all %d %s of the node are taken, by %s" % (seen["amount"], seen["resource"], _named(seen["takers"]))
    return ""


def _named(found):
    names = sorted(found)
    return ", ".join(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")


def _skip_all(seen, wanted):
    if seen["skip"]:
        return seen["skip"]
    if not wanted:
        return "verify_all_gpus is false"
    if seen["takers"]:
        used = sum(seen["takers"].values())
        return "%d of %d are in use, by %s" % (used, seen["amount"], _named(seen["takers"]))
    return ""


def verify_pod_plan(hosts, answers, options):
    """Return the plan; see the RETURN documentation."""
    nodes, node_error = _read(answers.get("nodes"))
    pods, pods_error = _read(answers.get("pods"))
    known = {node["metadata"]["name"]: node for node in nodes or []}
    by_node = {}
    for pod in pods or []:
        by_node.setdefault((pod.get("spec") or {}).get("nodeName"), []).append(pod)
    marks = {test_pods.mark(wanted["node"]) for wanted in hosts.values()}
    plan = {"hosts": {}, "pods": [], "more": {}, "selector": "", "run": options["run"]}
    if pods is not None and marks and not options["check_mode"]:
        plan["selector"] = "%s in (%s)" % (test_pods.MARK, ",".join(sorted(marks)))
    # also one that was never placed: it would get the first GPU that is free
    plan["leftovers"] = sorted(
        pod["metadata"]["name"] for pod in pods or [] if test_pods.label(pod, test_pods.MARK) in marks
    )
    for host, wanted in hosts.items():
        here = by_node.get(wanted["node"], [])
        node = known.get(wanted["node"], {})
        # leftovers will be gone by then
        others = [pod for pod in here if not test_pods.label(pod, test_pods.MARK)]
        ours = plugin_pod(here)
        seen = {
            "node": None if nodes is None else node,
            "node_error": node_error,
            "pods": None if pods is None else here,
            "pods_error": pods_error,
            "resource": wanted["resource"],
            "amount": quantity(node, "allocatable", wanted["resource"]),
            "takers": takers(others, wanted["resource"]),
            "image": wanted["image"] or (ours["spec"]["containers"][0]["image"] if ours else ""),
            "runtime_class": wanted["runtime_class"],
        }
        if seen["runtime_class"] == "auto":  # the role device_plugin has decided that already
            seen["runtime_class"] = (ours["spec"].get("runtimeClassName") or "") if ours else ""
        seen["skip"] = _skip(seen, options["check_mode"])
        seen["skip_all"] = _skip_all(seen, wanted["all"])
        plan["hosts"][host] = seen
        make = dict(
            options, image=seen["image"], runtime_class=seen["runtime_class"], tolerations=wanted["tolerations"]
        )
        common = (wanted["node"], wanted["resource"])
        if not seen["skip"]:
            plan["pods"].append(test_pods.definition(test_pods.ONE, *common, 1, options["run"], make))
        if not seen["skip_all"]:
            # after the former: the scheduler takes them in this order, and it waits until the former has ended
            plan["pods"].append(test_pods.definition(test_pods.ALL, *common, seen["amount"], options["run"], make))
            plan["more"][test_pods.mark(wanted["node"])] = test_pods.definition(
                test_pods.MORE, *common, 1, options["run"], make
            )
    return plan


class FilterModule(object):
    """The filter verify_pod_plan."""

    def filters(self):
        return {"verify_pod_plan": verify_pod_plan}
