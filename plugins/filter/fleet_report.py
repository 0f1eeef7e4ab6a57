# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a fleet of GPU nodes as one dict."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Put together what was observed of a fleet of GPU nodes
version_added: 0.1.0
description:
  - Judges every node and its GPUs, says who uses which GPU, and in what nodes differ that should be the same.
  - The same observations give the same report.
  - Made for the role P(kubegpu.nvidia.report#role).
positional: _input, api, generated
options:
  _input:
    description: By inventory name what was observed of each host. A key that is missing or null was not observed.
    type: dict
    required: true
  api:
    description: What the Kubernetes API answered, as C(asked), and the results C(nodes), C(pods) and C(events).
    type: dict
    required: true
  generated:
    description: The time of the observations, as the report shall show it.
    type: str
    required: true
  resource:
    description: A resource of the device plugin; what is before its slash selects the resources that matter.
    type: str
    default: nvidia.com/gpu
  verified:
    description: By inventory name the links as P(kubegpu.nvidia.verify_chain#filter) returned them, where it was asked.
    type: dict
    default: {}
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Put together what was observed
  ansible.builtin.set_fact:
    fleet: "{{ observed | kubegpu.nvidia.fleet_report({'asked': false}, '2026-11-23 12:00 UTC') }}"
"""

RETURN = r"""
_value:
  description: The report. Keys may be added in later versions; C(version) is raised when one changes its meaning.
  type: dict
  contains:
    version:
      description: Version of the format.
      type: int
      sample: 1
    generated:
      description: The time of the observations.
      type: str
    cluster:
      description: Whether the API was asked, and its C(problem) (C(cause) and C(remedy)) if it did not answer.
      type: dict
    summary:
      description: Numbers of nodes by state, GPUs by health, requested and allocatable devices, waiting pods.
      type: dict
    nodes:
      description:
        - One dict for each host, with C(host), C(name) (in Kubernetes), C(state) (V(unreachable), V(broken),
          V(attention) or V(ok)), C(findings) (C(level), C(what), C(remedy)), C(driver_version), C(cuda_version),
          C(toolkit_version), C(runtime), C(kubernetes), C(gpus) (with C(health), C(reasons) and C(used_by)), C(links)
          (of the chain) and C(links_source) (V(verify), V(checks) or V(none)), C(group) and C(settings).
      type: list
      elements: dict
    pods:
      description: Pods that ask for GPUs and have not ended, with C(resources), C(node), C(host) and C(gpus) (indices).
      type: list
      elements: dict
    differences:
      description: Settings in which nodes of one group differ, as C(group), C(setting) and C(values).
      type: list
      elements: dict
    topologies:
      description: Matrices of connections (C(rows)) and the C(hosts) that have them.
      type: list
      elements: dict
"""

import base64
import binascii

from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy
from ansible_collections.kubegpu.nvidia.plugins.filter.pod_trouble import pod_trouble
from ansible_collections.kubegpu.nvidia.plugins.filter.verify_chain import verify_chain
from ansible_collections.kubegpu.nvidia.plugins.module_utils.devices.expected import resources

_NOT_TRIED = "the report starts nothing: kubegpu.nvidia.verify tries it"


def _answer(result):
    """Objects and error of a k8s_info result that may not be there."""
    result = result or {}
    if result.get("failed") or "resources" not in result:
        return [], "%s" % (result.get("msg") or "there was no answer",)
    return [thing for thing in result["resources"] if isinstance(thing, dict)], ""


def _text(encoded):
    """The text of a slurped file; what cannot be decoded is none."""
    try:
        return base64.b64decode(encoded or "", validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _links(seen, node, pods, known, resource):
    """The chain of a host: as the role verify left it, else as far as looking shows it."""
    gpu = seen.get("gpu") or {}
    if seen.get("unreachable") or "count" not in gpu:
        return [], "none"
    name = seen.get("node_name")
    expected = seen.get("expected")
    if expected is not None and int(expected) >= 0:
        expected = {resource: int(expected)}
    else:
        expected = None if gpu.get("problem") else resources(gpu, seen.get("config") or {}, seen.get("env"))
    links = verify_chain(
        {
            "gpu": gpu,
            "docker": seen.get("docker"),
            "containerd": seen.get("containerd"),
            "crio": seen.get("crio"),
            "cluster": known["asked"] and not known["problem"],
            "api": {"msg": ""},
            "node": node or {},
            "node_name": name,
            "pods": pods,
            "resource": resource,
            "expected": expected,
            "container_engines": {name: {"skip": _NOT_TRIED} for name in ("docker", "containerd")},
            "pod_skip": _NOT_TRIED,
            "all_skip": _NOT_TRIED,
        }
    )
    if known["problem"]:
        # that the API does not answer is said once, at the top, and is no fault of the node
        links = [dict(link, detail=known["problem"]["cause"]) if link["name"] == "node" else link for link in links]
    return links, "checks"


def fleet_report(hosts, api, generated, resource="nvidia.com/gpu", verified=None):
    """Return the report; see the RETURN documentation."""
    # here, since Ansible loads all of a collection's filters, in every process that needs one of them
    from ansible_collections.kubegpu.nvidia.plugins.module_utils.report import cluster, fleet

    prefix = resource.partition("/")[0] + "/"
    nodes, problem = _answer(api.get("nodes"))
    pods, pods_problem = _answer(api.get("pods"))
    events, _no_events = _answer(api.get("events"))
    asked = bool(api.get("asked"))
    problem = (problem or pods_problem) if asked else ""
    known = {
        "asked": asked,
        "problem": {key: kubernetes_remedy(problem)[key] for key in ("cause", "remedy")} if problem else None,
        "nodes": {cluster.at(node, "metadata", "name"): node for node in nodes},
        "pods": cluster.gpu_pods(pods, prefix, lambda pod: pod_trouble(pod)["cause"]),
        "events": events,
    }
    by_node = {}
    for pod in pods:
        by_node.setdefault(cluster.at(pod, "spec", "nodeName"), []).append(pod)
    observed = {}
    for host, seen in hosts.items():
        seen = dict(seen or {"gpu_error": "a task before the report failed on the host, so it was not asked"})
        name = seen["node_name"] = seen.get("node_name") or host
        seen["checkpoint"] = _text(seen.get("checkpoint"))
        for runtime in ("docker", "containerd", "crio"):
            # changed_when keeps the recap at changed=0, and would hide it
            if (seen.get(runtime) or {}).get("in_place") is False:
                seen[runtime] = dict(seen[runtime], changed=True)
        links = (verified or {}).get(host)
        seen["links"], seen["links_source"] = (
            (list(links), "verify")
            if links and not seen.get("unreachable")
            else _links(seen, known["nodes"].get(name), by_node.get(name, []), known, resource)
        )
        observed[host] = seen
    return fleet.build(observed, known, generated, prefix)


class FilterModule(object):
    """The filter fleet_report."""

    def filters(self):
        return {"fleet_report": fleet_report}
