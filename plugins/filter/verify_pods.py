# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the test pods of a node say."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_pods
short_description: Judge the test pods of a node
version_added: 0.1.0
description:
  - Says whether a pod with one GPU saw exactly that one, a pod with all GPUs saw all, one more had to wait, and whether
    all of them are gone again.
  - Made for the role P(kubegpu.nvidia.verify#role).
positional: _input
options:
  _input:
    description:
      - What was observed, with the keys C(gpu) (facts), C(node_name), C(resource), C(namespace), C(runtime_class),
        C(pod_skip) and C(all_skip) (reasons), C(amount) (how many are all), C(pods_wanted) and C(pods_made) (of
        M(kubernetes.core.k8s)), C(more_made), C(pods_tried) and C(more_tried) (the pods, before and after the last one
        was made), C(pod_events), C(pod_removed) and C(pods_left).
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Judge the pods
  ansible.builtin.debug:
    msg: "{{ observed | kubegpu.nvidia.verify_pods }}"
"""

RETURN = r"""
_value:
  description: The links C(pod), C(all_gpus), C(one_more), and C(cleanup) if that failed, as
    P(kubegpu.nvidia.verify_chain#filter) returns them.
  type: list
  elements: dict
"""

import re

from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy
from ansible_collections.kubegpu.nvidia.plugins.filter.pod_trouble import pod_trouble
from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify import pods as test_pods
from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify.containers import remedy as container_remedy
from ansible_collections.kubegpu.nvidia.plugins.module_utils.verify.links import (
    condition,
    count,
    failed,
    passed,
    skipped,
    uuids,
)

# ours, and NVIDIA's device plugin's words for it
_SHARED = re.compile(r"failRequestsGreaterThanOne|maximum request size for shared resources")


def _refusal(seen, kind):
    """Why the API server did not take the pod of this kind for this node; empty if it did."""
    made = seen.get("pods_made") or {}
    if made.get("msg") and "result" not in made:
        return made["msg"]
    # one definition has its result by itself, several a list of them
    results = (made.get("result") or {}).get("results")
    results = [made] if results is None else results
    for wanted, result in zip(seen.get("pods_wanted") or [], results):  # noqa: B905 (strict= came with Python 3.10)
        if test_pods.label(wanted, test_pods.KIND) == kind and _here(wanted, seen) and (result or {}).get("error"):
            return str(result["error"].get("msg") or result["error"])
    return ""


def _here(pod, seen):
    return test_pods.label(pod, test_pods.MARK) == test_pods.mark(seen["node_name"])


def _tried(seen, key, kind):
    for pod in seen.get(key) or []:
        if test_pods.label(pod, test_pods.KIND) == kind and _here(pod, seen):
            return pod
    return None


def _not_as_wanted(name, what, pod, kind, seen):
    """The link if the pod has not come to what is wanted of it, else None."""
    if pod is None:
        refusal = _refusal(seen, kind)
        if refusal:
            known = kubernetes_remedy(refusal)
            return failed(name, "%s was refused: %s" % (what, known["cause"]), known["remedy"])
        return failed(name, "%s vanished" % what, "see the namespace's events ('kubectl get events')")
    phase = (pod.get("status") or {}).get("phase")
    if phase == ("Running" if kind == test_pods.ALL else "Succeeded"):
        return None
    trouble = pod_trouble(pod, seen.get("pod_events"))
    detail = "%s did not succeed (%s): %s" % (what, phase, trouble["cause"])
    words = (trouble["last_words"] or test_pods.said(pod)).strip()
    if words and words not in detail:
        detail += "; it said: %s" % words
    return failed(name, detail, trouble["remedy"] or container_remedy(detail))


def _one(seen):
    name = "pod"
    if seen.get("pod_skip"):
        return skipped(name, seen["pod_skip"])
    pod = _tried(seen, "pods_tried", test_pods.ONE)
    broken = _not_as_wanted(name, "the test pod", pod, test_pods.ONE, seen)
    if broken:
        return broken
    value, output = test_pods.seen(pod)
    gpus, mig = uuids(output)
    if len(gpus) != 1:
        remedy = "the container got more than was allocated: do other pods or images set NVIDIA_VISIBLE_DEVICES?"
        if not gpus:
            remedy = "no GPU was put into the container: is the runtime that the pod used the one of the toolkit?"
        detail = "a pod with limits 1 saw %s (NVIDIA_VISIBLE_DEVICES=%s)" % (count(len(gpus), "GPU"), value)
        return failed(name, detail, remedy)
    names = {item.get("uuid"): item.get("name") for item in seen["gpu"].get("gpus") or []}
    uuid = gpus[0]
    if names and uuid not in names:
        return failed(
            name, "the pod saw the GPU %s, which the driver on the node does not have" % uuid, "is it the right node?"
        )
    # void: what a CDI specification sets, where the runtime is not told by this variable
    if value in ("", "all", "none") or "," in value:
        return failed(
            name,
            "the pod's NVIDIA_VISIBLE_DEVICES is %r instead of one device" % value,
            "the device did not come from the kubelet's allocation: see which device plugin answers for %s"
            % seen["resource"],
        )
    if value.startswith("GPU-") and value != uuid:
        return failed(name, "the pod was given %s but saw %s" % (value, uuid), "see the toolkit's log on the node")
    what = "%s (%s)" % (names.get(uuid) or "GPU", mig[0] if mig else uuid)
    via = "RuntimeClass %s" % seen["runtime_class"] if seen.get("runtime_class") else "the default runtime"
    return passed(name, "a pod with limits 1 saw exactly one GPU, %s, through %s" % (what, via))


def _all(seen):
    name = "all_gpus"
    if seen.get("all_skip"):
        return skipped(name, seen["all_skip"])
    amount = seen["amount"]
    pod = _tried(seen, "pods_tried", test_pods.ALL)
    broken = _not_as_wanted(name, "a pod with limits %d" % amount, pod, test_pods.ALL, seen)
    if broken and _SHARED.search(broken["detail"]):
        return skipped(name, "the GPUs are shared, and the device plugin allows no pod more than one share")
    if broken:
        return broken
    gpus, mig = uuids(test_pods.seen(pod)[1])
    has = seen["gpu"].get("count") or 0
    # shares of a GPU are several devices, which a container sees as one
    if amount in (len(gpus), len(mig)) or len(gpus) == has < amount:
        what = count(len(mig), "MIG device") + " on " if mig else ""
        return passed(name, "a pod with limits %d saw %s%s" % (amount, what, count(len(gpus), "GPU")))
    return failed(
        name,
        "a pod with limits %d saw %s" % (amount, count(len(gpus), "GPU")),
        "see which GPUs the node's container toolkit knows ('nvidia-container-cli info')",
    )


def _more(seen):
    name = "one_more"
    if seen.get("all_skip"):
        return skipped(name, seen["all_skip"])
    if (_tried(seen, "pods_tried", test_pods.ALL) or {}).get("status", {}).get("phase") != "Running":
        return skipped(name, "not all GPUs were held")
    made = seen.get("more_made") or {}
    pod = _tried(seen, "more_tried", test_pods.MORE)
    if pod is None:
        known = kubernetes_remedy(made.get("msg") or "the pod vanished")
        return failed(name, "one more pod was refused: %s" % known["cause"], known["remedy"])
    scheduled = condition(pod, "PodScheduled")
    message = scheduled.get("message") or ""
    phase = (pod.get("status") or {}).get("phase")
    if phase == "Pending" and scheduled.get("status") == "False" and seen["resource"] in message:
        return passed(name, "with all GPUs held one more pod had to wait: Insufficient %s" % seen["resource"])
    if phase == "Pending" and scheduled.get("status") != "True":
        return failed(
            name,
            "one more pod waits, but not for a GPU: %s" % (message or "the scheduler said nothing"),
            "see that the cluster's scheduler runs ('kubectl -n kube-system get pods')",
        )
    return failed(
        name,
        "with all %d %s held one more pod was placed on the node" % (seen["amount"], seen["resource"]),
        "two device plugins, or a scheduler that does not count the resource: see who owns %s" % seen["resource"],
    )


def _removed(seen):
    removed = seen.get("pod_removed") or {}
    left = [pod["metadata"]["name"] for pod in seen.get("pods_left") or [] if _here(pod, seen)]
    if removed.get("msg") and "result" not in removed:
        cause = kubernetes_remedy(removed["msg"])["cause"]
    elif left:
        cause = "%s did not go" % ", ".join(left)
    else:
        return []
    return [
        failed(
            "cleanup",
            "the test pods could not be removed: %s" % cause,
            "remove them ('kubectl -n %s delete pods -l kubegpu.nvidia/verify')" % seen.get("namespace"),
        )
    ]


def verify_pods(seen):
    """Return the links as a list of dicts; see the RETURN documentation."""
    return [_one(seen), _all(seen), _more(seen), *_removed(seen)]


class FilterModule(object):
    """The filter verify_pods."""

    def filters(self):
        return {"verify_pods": verify_pods}
