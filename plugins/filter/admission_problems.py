# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a namespace does not take the device plugin's pods."""

from __future__ import annotations

DOCUMENTATION = r"""
name: admission_problems
short_description: Why a namespace does not take the device plugin's pods
version_added: 0.2.0
description:
  - Reads the API server's answer to a pod that it was asked to try out.
  - Only what would keep the DaemonSet's pods away as well counts. That the kubeconfig's user may not make pods does
    not, and neither does a quota that former pods still use up.
  - Made for the role P(kubegpu.nvidia.device_plugin#role).
positional: _input, namespace
options:
  _input:
    description: Registered result of M(kubernetes.core.k8s) with C(continue_on_error). May be empty.
    type: dict
    required: true
  namespace:
    description: Name of the namespace.
    type: str
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Stop if the namespace does not take the pods
  ansible.builtin.assert:
    that: tried | kubegpu.nvidia.admission_problems('gpu') | length == 0
"""

RETURN = r"""
_value:
  description: What stands in the way, each with its remedy.
  type: list
  elements: str
"""

from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy, server_message


def admission_problems(tried, namespace):
    """Return what stands in the way, as a list of str.

    :param tried: a registered result of the module; ``error.msg`` where the object was refused.
    :param namespace: name of the namespace.
    """
    message = str((tried.get("error") or {}).get("msg") or "")
    known = kubernetes_remedy(message)
    if known["code"] not in ("pod_security", "admission"):
        return []
    return [
        "The namespace %s, which is not ours, does not take the plugin's pods: %s. To do: %s. (%s)"
        % (namespace, known["cause"], known["remedy"], server_message(message))
    ]


class FilterModule(object):
    """The filter admission_problems."""

    def filters(self):
        return {"admission_problems": admission_problems}
