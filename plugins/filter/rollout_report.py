# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a DaemonSet's pod did not come up on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_report
short_description: Why the device plugin did not come up on a node
version_added: 0.1.0
description:
  - Puts together what a cluster knows of a rollout that did not end, for a person to read.
  - Made for the role P(kubegpu.nvidia.device_plugin#role).
positional: _input
options:
  _input:
    description:
      - What is known, with the keys C(node) (name), C(daemonset) (name), C(waited) (seconds), C(settings) (value of
        the label that the wanted pod has), C(pods) (the plugin's pods, those of other nodes included), C(events)
        (the namespace's warnings), C(taints) (the node's) and C(log) (the last lines).
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Say why the plugin does not run
  ansible.builtin.fail:
    msg: "{{ known | kubegpu.nvidia.rollout_report }}"
"""

RETURN = r"""
_value:
  description: Some lines of text.
  type: str
"""

from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy
from ansible_collections.kubegpu.nvidia.plugins.filter.pod_trouble import newest_event, pod_trouble

SETTINGS_LABEL = "kubegpu.nvidia/settings"
LOG_LINES = 20


def _no_pod(known):
    message = newest_event(known["events"], "DaemonSet", known["daemonset"])
    if message:
        return "the DaemonSet made no pod for it: %s" % message, kubernetes_remedy(message)["remedy"]
    taints = [
        "%s=%s:%s" % (taint.get("key"), taint.get("value", ""), taint.get("effect"))
        for taint in known["taints"]
        if taint.get("effect") != "PreferNoSchedule"
    ]
    if taints:
        return (
            "the DaemonSet made no pod for it; it has the taints %s" % ", ".join(taints),
            "see whether the node is ready, or add tolerations to device_plugin_tolerations",
        )
    return (
        "the DaemonSet made no pod for it",
        "see whether kube-controller-manager runs, and 'kubectl describe daemonset'",
    )


def _is_for(pod, node):
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return spec["nodeName"] == node
    # not scheduled yet: the DaemonSet controller names the node in the affinity
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    return any(
        field.get("key") == "metadata.name" and node in (field.get("values") or [])
        for term in affinity.get("nodeSelectorTerms") or []
        for field in term.get("matchFields") or []
    )


def rollout_report(known):
    """Return some lines of text that say why the plugin does not run on a node."""
    pods = [pod for pod in known["pods"] if _is_for(pod, known["node"])]
    pods = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp") or "")
    log = known.get("log") or ""
    if pods:
        pod = pods[-1]
        trouble = pod_trouble(pod, known["events"])
        cause, remedy = trouble["cause"], trouble["remedy"]
        former = (pod["metadata"].get("labels") or {}).get(SETTINGS_LABEL) != known["settings"]
        if former and trouble["ready"]:
            cause = "its pod still runs with former settings, as the rollout waits for other nodes"
            remedy = (
                "see the other nodes' pods, or raise device_plugin_max_unavailable or device_plugin_rollout_timeout"
            )
        # the words of a container that ended tell more than the log of one that has just been started again
        log = trouble["last_words"] or log
    else:
        cause, remedy = _no_pod(known)
        log = ""
    lines = [
        "The device plugin is not ready on the node %s after %s s: %s."
        % (known["node"], known["waited"], cause.rstrip("."))
    ]
    if remedy:
        lines.append("To do: %s." % remedy)
    if log.strip():
        lines.append("The end of its log:")
        lines.extend("  " + line for line in log.strip().splitlines()[-LOG_LINES:])
    return "\n".join(lines)


class FilterModule(object):
    """The filter rollout_report."""

    def filters(self):
        return {"rollout_report": rollout_report}
