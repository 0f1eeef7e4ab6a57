# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error of the Kubernetes modules means, and what to do about it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kubernetes_remedy
short_description: Cause and remedy for an error of the Kubernetes modules
version_added: 0.1.0
description:
  - Turns the message of a failed C(kubernetes.core) module into one sentence on what is wrong and one on what to do.
positional: _input
options:
  _input:
    description: The failed task's C(msg).
    type: str
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Say what is wrong with the connection to the cluster
  ansible.builtin.debug:
    msg: "{{ (ansible_failed_result.msg | kubegpu.nvidia.kubernetes_remedy).remedy }}"
"""

RETURN = r"""
_value:
  description: Cause and remedy.
  type: dict
  contains:
    code:
      description: A stable name of the cause, V(unknown) if the message is none of the known ones.
      type: str
      sample: api_unreachable
    cause:
      description: What is wrong.
      type: str
      sample: the API server does not accept connections
    remedy:
      description: What to do.
      type: str
      sample: check that the API server runs
"""

import re

_FORBIDDEN = re.compile(
    r"""User \\*"(?P<user>[^"\\]+)\\*" cannot (?P<verb>[a-z]+) resource \\*"(?P<resource>[^"\\]+)\\*\""""
    r"""(?: in API group \\*"(?P<group>[^"\\]*)\\*")?(?: in the namespace \\*"(?P<namespace>[^"\\]+))?"""
)
# what is asked first, which resources there are, is a path and no resource
_FORBIDDEN_PATH = re.compile(r"""User \\*"(?P<user>[^"\\]+)\\*" cannot (?P<verb>[a-z]+) path \\*"(?P<path>[^"\\]+)""")
# what a client is called that shows neither a certificate nor a token
_NOBODY = "system:anonymous"
_ACCOUNT = "system:serviceaccount:"

# code, pattern, cause, remedy; the first that matches wins
_KNOWN = (
    # what k8s_drain says; the names are "namespace/name", with commas between them
    (
        "pods_remain",
        re.compile(r"timeout reached while pods were still running(?P<pods>: \S.*)?"),
        "the pods to be evicted had not ended in time{pods}",
        "see why they do not end ('kubectl describe pod'), or give them longer: "
        '-e \'{{"kubegpu_drain_options": {{"wait_timeout": SECONDS}}}}\'',
    ),
    (
        "unmanaged_pods",
        re.compile(r"cannot delete Pods not managed by .*?\(use option force set to yes\): (?P<pods>\S+)[.](?:\s|$)"),
        "nothing would start these pods again elsewhere: {pods}",
        'end them, or have them deleted: -e \'{{"kubegpu_drain_options": {{"force": true}}}}\'',
    ),
    (
        "local_storage",
        re.compile(r"cannot delete Pods with local storage: (?P<pods>\S+)[.](?:\s|$)"),
        "these pods would lose what they keep in an emptyDir: {pods}",
        'end them, or let them lose it: -e \'{{"kubegpu_drain_options": {{"delete_emptydir_data": true}}}}\'',
    ),
    (
        "disruption_budget",
        re.compile(r"Failed to delete pod (?P<pod>\S+) due to: .*disruption budget"),
        "a PodDisruptionBudget keeps the pod {pod}",
        "start more of its kind elsewhere, or relax the budget ('kubectl get pdb --all-namespaces'), and run it again",
    ),
    (
        "library_missing",
        re.compile(
            r"import the required Python library \((?P<library>[^)]+)\) on (?P<host>\S+)'s Python "
            r"(?P<python>[^\s.]\S*?)\.?(?:\s|$)"
        ),
        "the Python library {library} is missing for {python} on {host}",
        "install it there ('{python} -m pip install {library}'), or set ansible_python_interpreter of that host to a "
        "Python that has it, or choose another host with kubegpu_api_host",
    ),
    (
        "kubeconfig_not_found",
        re.compile(r"Could not find or access '(?P<path>[^']+)'"),
        "the kubeconfig {path} does not exist on the control host, or may not be read",
        "set kubegpu_kubeconfig to the kubeconfig's path on kubegpu_api_host",
    ),
    (
        "kubeconfig_not_readable",
        re.compile(r"Permission denied|not readable", re.IGNORECASE),
        "the kubeconfig may not be read by the user that the task runs as",
        "set kubegpu_api_become to true to read it as root, or set kubegpu_kubeconfig to one that this user may read",
    ),
    (
        "context_not_found",
        re.compile(r"Expected object with name (?P<name>\S+) in"),
        "the kubeconfig has no context, cluster or user named {name}",
        "set kubegpu_context to one that 'kubectl config get-contexts' lists",
    ),
    (
        "kubeconfig_not_found",
        re.compile(r"No configuration found|[Ii]nvalid kube-?config|file is empty"),
        "there is no kubeconfig, or it is empty or not a kubeconfig",
        "set kubegpu_kubeconfig to the kubeconfig's path on kubegpu_api_host; "
        "kubeadm writes one to /etc/kubernetes/admin.conf",
    ),
    (
        "certificate",
        re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|certificate has expired", re.IGNORECASE),
        "the API server's certificate does not match what the kubeconfig trusts",
        "fetch a new kubeconfig from the cluster, and check the clocks of both machines",
    ),
    (
        "unauthorized",
        re.compile(r"\b401\b|Unauthorized|certificate.expired|alert certificate", re.IGNORECASE),
        "the API server does not know the user of the kubeconfig",
        "its certificate or token has probably expired: fetch a new kubeconfig "
        "(kubeadm: 'kubeadm certs check-expiration')",
    ),
    (
        "api_unreachable",
        re.compile(r"Name or service not known|name resolution|NameResolutionError"),
        "the API server's name cannot be resolved",
        "check the 'server' entry of the kubeconfig and the name service of kubegpu_api_host",
    ),
    (
        "api_unreachable",
        re.compile(
            r"Connection refused|Max retries exceeded|No route to host|timed out|time frame|"
            r"Connection reset|ProtocolError"
        ),
        "the API server cannot be reached",
        "check that it runs ('kubectl get --raw /readyz') and that kubegpu_api_host "
        "can connect to the 'server' of the kubeconfig",
    ),
    (
        "pod_security",
        re.compile(r"violates PodSecurity|against any pod security policy|unable to admit pod", re.IGNORECASE),
        "the cluster's pod security forbids this pod",
        "the namespace needs the label pod-security.kubernetes.io/enforce=privileged (hostPath volumes are needed): "
        "set it, or set device_plugin_namespace to a namespace that is the plugin's alone, which the role labels",
    ),
    (
        "admission",
        re.compile(r'admission webhook \\*"?(?P<webhook>[^"\\ ]+)\\*"? denied'),
        "the admission webhook {webhook} denied the object",
        "exempt the namespace from that policy",
    ),
    (
        "no_node",
        re.compile(r"the cluster has no node of this name"),
        "the cluster has no node of this name",
        "set kubegpu_node_name for this host to its node's name ('kubectl get nodes')",
    ),
    (
        "runtime_class_not_found",
        re.compile(r"RuntimeClass \\*\"(?P<name>[^\"\\]+)\\*\" not found"),
        "the cluster has no RuntimeClass {name}",
        "run the play with the tag device_plugin, or set verify_runtime_class",
    ),
    (
        "namespace_not_found",
        re.compile(r"namespaces \\*\"(?P<name>[^\"\\]+)\\*\" not found"),
        "the cluster has no namespace {name}",
        "run the play with the tag device_plugin, or set verify_namespace",
    ),
    (
        "quota",
        re.compile(r"exceeded quota|insufficient quota"),
        "a quota of the namespace is used up",
        "raise the quota or choose another namespace",
    ),
)


_STATUS = re.compile(r'"message":"(?P<message>.*?)(?<!\\)"[,}]')


def server_message(text):
    """What the API server itself said, from a module's message that has its Status object inside; else the text.

    :param text: a failed task's ``msg``, str.
    """
    found = _STATUS.search(text)
    return re.sub(r"\\+([\"'])", r"\1", found.group("message")) if found else text.strip()


def _not_allowed(user, verb, resource, group, namespace):
    resource += ("." + group) if group else ""
    if user == _NOBODY:
        return _no_credentials(verb, resource)
    return {
        "code": "forbidden",
        "cause": "the user %s may not %s %s%s"
        % (user, verb, resource, " in the namespace %s" % namespace if namespace else ""),
        "remedy": "use a kubeconfig with more rights, or allow it with a ClusterRole and a ClusterRoleBinding: "
        "'kubectl create clusterrole kubegpu --verb=%s --resource=%s && kubectl create clusterrolebinding kubegpu "
        "--clusterrole=kubegpu %s'" % (verb, resource, _subject(user)),
    }


def _not_allowed_path(user, verb, path):
    if user == _NOBODY:
        return _no_credentials(verb, path)
    return {
        "code": "forbidden",
        "cause": "the user %s may not %s %s" % (user, verb, path),
        "remedy": "use a kubeconfig with more rights, or allow it: "
        "'kubectl create clusterrolebinding kubegpu-discovery --clusterrole=system:discovery %s'" % _subject(user),
    }


def _subject(user):
    return "--serviceaccount=" + user[len(_ACCOUNT) :] if user.startswith(_ACCOUNT) else "--user=" + user


def _no_credentials(verb, what):
    return {
        "code": "no_credentials",
        "cause": "the kubeconfig showed the API server no credentials, and nobody may %s %s" % (verb, what),
        "remedy": "see its user ('kubectl config view'): if a command gets the token, that command must work on "
        "kubegpu_api_host, for the user that Ansible is there",
    }


def kubernetes_remedy(message):
    """Return ``{"code": str, "cause": str, "remedy": str}`` for an error of a kubernetes.core module."""
    text = str(message)
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        return _not_allowed(**forbidden.groupdict())
    forbidden = _FORBIDDEN_PATH.search(text)
    if forbidden:
        return _not_allowed_path(**forbidden.groupdict())
    for code, pattern, cause, remedy in _KNOWN:
        match = pattern.search(text)
        if match:
            names = match.groupdict(default="")
            return {"code": code, "cause": cause.format(**names), "remedy": remedy.format(**names)}
    return {"code": "unknown", "cause": text.strip() or "no message", "remedy": "see the message"}


class FilterModule(object):
    """The filter kubernetes_remedy."""

    def filters(self):
        return {"kubernetes_remedy": kubernetes_remedy}
