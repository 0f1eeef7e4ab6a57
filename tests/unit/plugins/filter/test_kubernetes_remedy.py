# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy, server_message

# as kubernetes.core 6.2 with the client 36 and Kubernetes 1.20 report them
MESSAGES = [
    pytest.param(
        "Failed to import the required Python library (kubernetes) on vm's Python /usr/bin/python3. Please read the",
        "library_missing",
        "'/usr/bin/python3 -m pip install kubernetes'",
        id="library",
    ),
    pytest.param(
        "Could not find or access '/nope' on the Ansible Controller.\nIf you are using a module",
        "kubeconfig_not_found",
        "set kubegpu_kubeconfig",
        id="kubeconfig",
    ),
    pytest.param(
        "Could not create API client: Invalid kube-config. ******** file is empty",
        "kubeconfig_not_found",
        "set kubegpu_kubeconfig",
        id="empty",
    ),
    pytest.param(
        "Could not create API client: Invalid kube-config file. Expected object with name zz in ********/contexts list",
        "context_not_found",
        "set kubegpu_context",
        id="context",
    ),
    pytest.param(
        "Task failed: Module failed: HTTPSConnectionPool(host='127.0.0.1', port=6999): Max retries exceeded with url: "
        '/version (Caused by NewConnectionError("…: [Errno 111] Connection refused"))',
        "api_unreachable",
        "check that it runs",
        id="refused",
    ),
    pytest.param(
        "HTTPSConnectionPool(host='h', port=6443): Max retries exceeded with url: /version (Caused by "
        "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed')))",
        "certificate",
        "fetch a new kubeconfig",
        id="certificate",
    ),
    pytest.param("Failed to retrieve: (401)\nReason: Unauthorized", "unauthorized", "expired", id="expired"),
    pytest.param(
        'Failed to apply object: b\'{"kind":"Status","message":"daemonsets.apps is forbidden: User \\"bob\\" '
        'cannot create resource \\"daemonsets\\" in API group \\"apps\\" in the namespace \\"gpu\\"","code":403}\'',
        "forbidden",
        "ClusterRole",
        id="forbidden",
    ),
    pytest.param(
        'pods "x" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes',
        "pod_security",
        "pod-security.kubernetes.io/enforce=privileged",
        id="psa",
    ),
    pytest.param(
        'admission webhook "psa.example" denied the request: pods "x" is forbidden: violates PodSecurity "baseline"',
        "pod_security",
        "device_plugin_namespace",
        id="psa-webhook",
    ),
    pytest.param(
        'admission webhook "validate.kyverno.svc" denied the request: no',
        "admission",
        "exempt the namespace",
        id="webhook",
    ),
    pytest.param(
        '{"message":"pod rejected: RuntimeClass \\"nosuch\\" not found"}',
        "runtime_class_not_found",
        "verify_runtime_class",
        id="runtime-class",
    ),
    pytest.param(
        'Failed to create object: {"message":"namespaces \\"gpu\\" not found","reason":"NotFound"}',
        "namespace_not_found",
        "verify_namespace",
        id="namespace",
    ),
    pytest.param("the cluster has no node of this name", "no_node", "kubegpu_node_name", id="node"),
    pytest.param(
        "Pod deletion errors: cannot delete Pods not managed by ReplicationController, ReplicaSet, Job, DaemonSet or "
        "StatefulSet (use option force set to yes): a/b.c,d/e. cannot delete Pods with local storage: a/f.",
        "unmanaged_pods",
        '{"force": true}',
        id="unmanaged",
    ),
    pytest.param(
        "Pod deletion errors: cannot delete Pods with local storage: a/b.",
        "local_storage",
        '{"delete_emptydir_data": true}',
        id="local-storage",
    ),
    pytest.param(
        "Failed to delete pod default/web-1 due to: Cannot evict pod as it would violate the pod's disruption budget.",
        "disruption_budget",
        "kubectl get pdb",
        id="budget",
    ),
    pytest.param(
        "timeout reached while pods were still running: default/a, gpu/b.c",
        "pods_remain",
        '"wait_timeout": SECONDS',
        id="slow-pods",
    ),
    pytest.param("something new", "unknown", "see the message", id="unknown"),
]


DRAIN = ("unmanaged", "local-storage", "budget", "slow-pods")


@pytest.mark.parametrize(("message", "code", "remedy"), MESSAGES)
def test_known_messages(message, code, remedy):
    result = kubernetes_remedy(message)
    assert result["code"] == code
    assert remedy in result["remedy"]


def test_what_a_drain_leaves_is_named():
    causes = [kubernetes_remedy(message.values[0])["cause"] for message in MESSAGES if message.id in DRAIN]
    assert causes == [
        "nothing would start these pods again elsewhere: a/b.c,d/e",
        "these pods would lose what they keep in an emptyDir: a/b",
        "a PodDisruptionBudget keeps the pod default/web-1",
        "the pods to be evicted had not ended in time: default/a, gpu/b.c",
    ]
    assert kubernetes_remedy("timeout reached while pods were still running: ")["code"] == "pods_remain"


def test_forbidden_names_user_verb_and_resource():
    message = 'nodes is forbidden: User "bob" cannot list resource "nodes" in API group "" at the cluster scope'
    known = kubernetes_remedy(message)
    assert known["cause"] == "the user bob may not list nodes"
    assert "create clusterrole kubegpu --verb=list --resource=nodes &&" in known["remedy"]
    assert known["remedy"].endswith("--clusterrole=kubegpu --user=bob'")
    message = 'User "bob" cannot create resource "daemonsets" in API group "apps" in the namespace "gpu"'
    known = kubernetes_remedy(message)
    assert known["cause"] == "the user bob may not create daemonsets.apps in the namespace gpu"
    assert "--resource=daemonsets.apps " in known["remedy"]


def test_the_namespace_is_found_in_an_answer_as_it_comes_too():
    message = r"forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"gpu\""
    assert kubernetes_remedy(message)["cause"] == "the user bob may not list pods in the namespace gpu"


def test_a_service_account_is_bound_as_one():
    message = (
        'User "system:serviceaccount:ci:deployer" cannot patch resource "nodes" in API group "" at the cluster scope'
    )
    assert "--serviceaccount=ci:deployer'" in kubernetes_remedy(message)["remedy"]


def test_a_kubeconfig_without_credentials_is_not_a_matter_of_rights():
    message = 'User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope'
    known = kubernetes_remedy(message)
    assert known["code"] == "no_credentials"
    assert "no credentials" in known["cause"] and "ClusterRole" not in known["remedy"]
    message = r'(403)\nReason: Forbidden\n…"message":"forbidden: User \"system:anonymous\" cannot get path \"/apis\""'
    assert kubernetes_remedy(message)["code"] == "no_credentials"


def test_who_may_not_even_ask_what_there_is():
    known = kubernetes_remedy('forbidden: User "bob" cannot get path "/apis"')
    assert known["cause"] == "the user bob may not get /apis"
    assert "--clusterrole=system:discovery --user=bob" in known["remedy"]


def test_an_unknown_message_is_the_cause():
    assert kubernetes_remedy(" oh no ")["cause"] == "oh no"


def test_what_the_api_server_said_is_taken_out_of_a_modules_message():
    # bytes that were made text, as kubernetes.core does
    body = b'{"kind":"Status","message":"pods \\"x\\" is forbidden: no","reason":"Forbidden","code":403}\n'
    assert server_message(f"Failed to create object: {body!r}") == 'pods "x" is forbidden: no'
    assert server_message("Failed to create object: timed out ") == "Failed to create object: timed out"
