# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.filter.pods_to_drain import pods_to_drain


def pod(name="p", phase="Running", owner=None, **metadata):
    owners = {} if owner is None else {"ownerReferences": [{"kind": owner, "name": "o"}]}
    return {"metadata": {"name": name, "namespace": "ns", **owners, **metadata}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("item", "left"),
    [
        pytest.param(pod(), True, id="of-nobody"),
        pytest.param(pod(owner="ReplicaSet"), True, id="replica"),
        pytest.param(pod(phase="Pending"), True, id="starts"),
        pytest.param(pod(phase="Unknown"), True, id="unknown"),
        pytest.param(pod(deletionTimestamp="2026-01-01T00:00:00Z"), True, id="ends"),
        pytest.param({"metadata": {"name": "p", "namespace": "ns"}}, True, id="nothing-said"),
        pytest.param(pod(annotations={"a": "b"}, ownerReferences=None), True, id="null"),
        pytest.param(pod(owner="DaemonSet"), False, id="daemonset"),
        pytest.param(pod(owner="Node", annotations={"kubernetes.io/config.mirror": "x"}), False, id="mirror"),
        pytest.param(pod(phase="Succeeded"), False, id="succeeded"),
        pytest.param(pod(phase="Failed", owner="Job"), False, id="failed"),
    ],
)
def test_what_keeps_a_node_from_being_empty(item, left):
    assert pods_to_drain([item]) == (["ns/p"] if left else [])


@given(st.lists(st.tuples(st.text("ab-", min_size=1), st.sampled_from([None, "Job", "DaemonSet"]))))
def test_each_is_named_once_whatever_the_order(given_pods):
    pods = [pod(name, owner=owner) for name, owner in given_pods]
    names = pods_to_drain(pods)
    assert names == pods_to_drain(pods[::-1])
    assert names == sorted("ns/" + name for name, owner in given_pods if owner != "DaemonSet")
