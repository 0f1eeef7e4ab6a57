"""How much of an extended resource a pod holds: beside the scheduler's rule, told step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.kubernetes.pods import limits, quantity

GPU = "nvidia.com/gpu"


def container(number, **more):
    return {"resources": {"limits": {GPU: number, "cpu": "2"}}, **more}


def sidecar(number):
    return container(number, restartPolicy="Always")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4))), st.lists(st.integers(0, 4)))
def test_as_much_as_the_busiest_moment_needs(starting, running):
    """Each moment of the pod's life: what has stayed until then, and what runs then."""
    stays, moments = 0, [0]
    for restarts, number in starting:
        moments.append(stays + number)
        stays += number if restarts else 0
    moments.append(stays + sum(running))
    spec = {
        "initContainers": [sidecar(number) if restarts else container(number) for restarts, number in starting],
        "containers": [container(str(number)) for number in running],
    }
    assert limits(spec, "nvidia.com/") == ({GPU: max(moments)} if max(moments) else {})


@pytest.mark.parametrize("value", [None, "", "1.5", "many", [], {}])
def test_what_is_no_number_counts_as_nothing(value):
    assert quantity(value) == 0


@pytest.mark.parametrize(
    "spec", [{}, {"containers": None}, {"containers": [{}]}, {"containers": [{"resources": None}]}]
)
def test_a_pod_without_limits_holds_nothing(spec):
    assert limits(spec, "nvidia.com/") == {}
