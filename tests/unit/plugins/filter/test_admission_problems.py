# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.admission_problems import admission_problems

# as Kubernetes says it since 1.23
HOST_PATHS = 'violates PodSecurity "restricted:latest": hostPath volumes (volumes "device-plugins", "pod-resources")'


def refused(message):
    """What kubernetes.core returns with continue_on_error for an object that the API server refused."""
    body = json.dumps({"kind": "Status", "message": message, "reason": "Forbidden", "code": 403}, separators=(",", ":"))
    return {"changed": False, "error": {"msg": f"Failed to create object: {body.encode()!r}"}}


def test_a_namespace_that_forbids_host_paths_is_named_with_what_to_do():
    (problem,) = admission_problems(refused(f'pods "x" is forbidden: {HOST_PATHS}'), "gpu")
    assert "namespace gpu, which is not ours" in problem
    assert "pod-security.kubernetes.io/enforce=privileged" in problem
    assert problem.endswith(f'(pods "x" is forbidden: {HOST_PATHS})')


def test_a_webhook_that_refuses_is_named():
    (problem,) = admission_problems(refused('admission webhook "policy.example.com" denied the request: no'), "gpu")
    assert "policy.example.com" in problem


@pytest.mark.parametrize(
    "tried",
    [
        pytest.param({}, id="not-asked"),
        pytest.param({"skipped": True}, id="skipped"),
        pytest.param({"changed": True, "result": {"kind": "Pod"}}, id="taken"),
        # the DaemonSet's controller makes the pods, and not the kubeconfig's user
        pytest.param(
            refused('pods is forbidden: User "eve" cannot create resource "pods" in API group ""'), id="rights"
        ),
        pytest.param(refused('pods "x" is forbidden: exceeded quota: none'), id="quota"),
        pytest.param(refused('admission webhook "w" does not support dry run'), id="no-dry-run"),
    ],
)
def test_what_would_not_keep_the_daemonsets_pods_away_is_no_problem(tried):
    assert admission_problems(tried, "gpu") == []
