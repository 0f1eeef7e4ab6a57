# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.filter.pods_with_gpus import pods_with_gpus
from tests.unit.queries import cut

GPU = {"nvidia.com/gpu": "1"}


def pod(name="p", node="n1", phase="Running", limits=GPU, init=None, labels=None, **spec):
    containers = {"containers": [{"name": "main", "resources": {"limits": limits}}]}
    if init is not None:
        containers["initContainers"] = [{"name": "first", "resources": {"limits": init}}]
    if node:
        spec["nodeName"] = node
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {**containers, **spec},
        "status": {"phase": phase},
    }


def uses(item):
    return [found["uses"] for found in pods_with_gpus(cut("device_plugin_gpu_user_query", [item]))]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        pytest.param(pod(), "1 x nvidia.com/gpu", id="gpu"),
        pytest.param(pod(phase="Pending"), "1 x nvidia.com/gpu", id="placed-not-started"),
        pytest.param(pod(limits={"nvidia.com/gpu": 2}), "2 x nvidia.com/gpu", id="number"),
        pytest.param(pod(limits={"nvidia.com/mig-1g.10gb": "1"}), "1 x nvidia.com/mig-1g.10gb", id="mig"),
        pytest.param(pod(limits={}, init={"nvidia.com/gpu": "3"}), "3 x nvidia.com/gpu", id="init-container"),
        pytest.param(pod(limits={}, runtimeClassName="nvidia"), "RuntimeClass nvidia", id="runtime-class"),
    ],
)
def test_pods_that_use_gpus_are_found(item, words):
    assert uses(item) == [words]


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(pod(limits={"cpu": "1"}), id="no-gpu"),
        pytest.param(pod(limits=None), id="no-limits"),
        pytest.param(pod(limits={"nvidia.com/gpu": "0"}), id="none"),
        pytest.param(pod(limits={"amd.com/gpu": "1"}), id="of-another-vendor"),
        pytest.param(pod(phase="Succeeded"), id="succeeded"),
        pytest.param(pod(phase="Failed"), id="failed"),
        pytest.param(pod(node=""), id="without-a-node"),
        pytest.param(
            pod(runtimeClassName="nvidia", labels={"app.kubernetes.io/managed-by": "kubegpu.nvidia"}), id="ours"
        ),
        pytest.param(pod(limits={}, runtimeClassName="gvisor"), id="another-runtime-class"),
    ],
)
def test_others_are_not(item):
    assert uses(item) == []


def test_without_a_runtime_class_of_ours_no_class_counts():
    assert pods_with_gpus([pod(limits={}, runtimeClassName="nvidia")], runtime_class="") == []


@given(st.lists(st.integers(0, 8), min_size=1, max_size=4), st.lists(st.integers(0, 8), max_size=3))
def test_a_pod_needs_its_containers_together_or_its_largest_init_container(containers, starting):
    item = pod()
    item["spec"]["containers"] = [{"resources": {"limits": {"nvidia.com/gpu": str(one)}}} for one in containers]
    item["spec"]["initContainers"] = [{"resources": {"limits": {"nvidia.com/gpu": one}}} for one in starting]
    needed = max([sum(containers), *starting])
    assert uses(item) == ([f"{needed} x nvidia.com/gpu"] if needed else [])


def test_they_are_sorted_and_placed():
    found = pods_with_gpus([pod("b"), pod("a", node="n2")])
    assert [(item["namespace"], item["name"], item["node"]) for item in found] == [
        ("default", "a", "n2"),
        ("default", "b", "n1"),
    ]
