"""Which facts a list of names asks for."""

import pytest
from ansible.module_utils.facts.collector import get_collector_names
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import subsets
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu

ALL = frozenset(subsets.SUBSETS)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(["all"], ALL, id="all"),
        pytest.param([], ALL, id="nothing-asked"),
        pytest.param(["min"], {"driver"}, id="min"),
        pytest.param(["!all"], {"driver"}, id="not-all"),
        pytest.param(["!all", "!min"], set(), id="nothing"),
        pytest.param(["!all", "!min", "host"], {"host"}, id="one-alone"),
        pytest.param(["!all", "mig"], {"driver", "gpus", "mig"}, id="a-part-of-a-gpu-brings-the-gpus"),
        pytest.param(["!topology", "!nvlink"], ALL - {"topology", "nvlink"}, id="all-but-two"),
        pytest.param(["!gpus"], {"driver", "services", "toolkit", "host"}, id="no-gpus"),
        pytest.param(["!gpus", "power"], {"driver", "gpus", "power"}, id="named-wins"),
        pytest.param(["all", "!ecc", "ecc"], ALL, id="named-wins-over-not"),
    ],
)
def test_choose(wanted, expected):
    assert subsets.choose(wanted) == expected


@pytest.mark.parametrize("wanted", ["gpu", "!gpu", "", "!"])
def test_a_name_that_does_not_exist_is_named(wanted):
    with pytest.raises(ValueError, match=f"^gather_subset: {wanted!r} is not one of all, min, clocks, driver"):
        subsets.choose([wanted])


# Where a list only takes away, Ansible's own function gathers the minimum, against its documentation.
LISTS = st.lists(st.sampled_from(["all", "min", "!min", "host", "toolkit", "!host", "!toolkit", "services"])).filter(
    lambda words: any(not word.startswith("!") for word in words)
)


@given(LISTS)
def test_the_rules_are_those_of_ansibles_setup(words):
    assert subsets.choose(words) == get_collector_names(
        valid_subsets=ALL, minimal_gather_subset=subsets.MINIMAL, gather_subset=words
    )


def test_the_mask_puts_back_what_was_not_asked_for_and_nothing_else():
    gpu = dict.fromkeys(empty_gpu(), "filled")
    subsets.mask(gpu, empty_gpu(), frozenset(("gpus", "power")))
    masked = {key for key, value in gpu.items() if value != "filled"}
    assert masked == {field for name, fields in subsets.GPU_FIELDS.items() if name != "power" for field in fields}
    assert all(gpu[key] == empty_gpu()[key] for key in masked)
