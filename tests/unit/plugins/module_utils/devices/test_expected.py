# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node should have is what the daemon would advertise there, for any machine and any configuration."""

from __future__ import annotations

import json

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.filter.expected_resources import expected_resources
from ansible_collections.kubegpu.nvidia.plugins.module_utils.devices.expected import chosen, resources
from nvidia_devplugin.config.settings import ConfigError, parse, resolve
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.model import Gpu, MigDevice

GPU = "nvidia.com/gpu"
MODELS = ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "Tesla T4"]
PROFILES = ["1g.10gb", "1g.10gb+me", "3g.40gb", "1c.3g.40gb"]
NAMES = ["nvidia.com/gpu", "gpu", "h100", "nvidia.com/mig-1g.10gb", "mig-small", "example.org/big"]


@st.composite
def machines(draw):
    """A machine as the facts have it."""
    gpus = []
    pool = draw(st.sampled_from([PROFILES, PROFILES[:1]]))
    for index in range(draw(st.integers(0, 5))):
        split = draw(st.booleans())
        profiles = draw(st.lists(st.sampled_from(pool), max_size=3)) if split else []
        places = draw(st.permutations(range(len(profiles) + 1)))
        gpus.append(
            {
                "index": index,
                "uuid": f"GPU-{index}",
                "name": draw(st.sampled_from(MODELS)),
                "mig": {
                    "mode": "enabled" if split else draw(st.sampled_from(["disabled", None])),
                    "instances": [
                        {"index": places[at], "uuid": f"MIG-{index}-{at}", "profile": profile}
                        for at, profile in enumerate(profiles)
                    ],
                },
            }
        )
    return {"gpus": draw(st.permutations(gpus)), "count": len(gpus)}


def uniform(profile, *counts):
    """A machine that is split alike."""
    return {
        "gpus": [
            {
                "index": index,
                "uuid": f"GPU-{index}",
                "name": MODELS[0],
                "mig": {
                    "mode": "enabled",
                    "instances": [
                        {"index": at, "uuid": f"MIG-{index}-{at}", "profile": profile} for at in range(count)
                    ],
                },
            }
            for index, count in enumerate(counts)
        ]
    }


def whole(index):
    return {"index": index, "uuid": f"GPU-{index}", "name": MODELS[0], "mig": {"mode": "disabled", "instances": []}}


PART_SPLIT = {"gpus": [*uniform("1g.10gb", 2)["gpus"], whole(1)]}
TWO = {"gpus": [whole(1), whole(0)]}
FIRST_AND_NAMED = [{"name": "gpu", "replicas": 2, "devices": 1}, {"name": "gpu", "replicas": 3, "devices": [0]}]


def optional(**fields):
    return st.fixed_dictionaries({}, optional=fields)


NAME = st.sampled_from(NAMES)
SELECTORS = st.lists(st.integers(0, 5) | st.sampled_from(["GPU-0", "GPU-9", "*H100*", "Tesla T4", "*"]), max_size=2)
PATTERNS = st.lists(
    st.fixed_dictionaries({"pattern": st.sampled_from(["*", "*H100*", "1g.*", "3g.40gb"]), "name": NAME}), max_size=2
)
DEVICES = (
    st.just("all")
    | st.integers(1, 3)
    | st.lists(st.sampled_from([0, 1, "1", "0:0", "1:1", "GPU-0", "MIG-0-0"]), min_size=1, max_size=3)
)
CONFIGS = optional(
    flags=optional(migStrategy=st.sampled_from(["none", "single", "mixed"])),
    resources=optional(gpus=PATTERNS, mig=PATTERNS),
    sharing=optional(
        timeSlicing=optional(
            renameByDefault=st.booleans(),
            resources=st.lists(
                st.fixed_dictionaries(
                    {"name": NAME, "replicas": st.integers(2, 4)}, optional={"rename": NAME, "devices": DEVICES}
                ),
                max_size=3,
            ),
        )
    ),
    kubegpu=optional(gpus=optional(include=SELECTORS, exclude=SELECTORS)),
)


def seen_by_the_daemon(facts):
    """The same machine as the daemon sees it."""
    return tuple(
        Gpu(
            index=gpu["index"],
            uuid=gpu["uuid"],
            minor=gpu["index"],
            name=gpu["name"],
            memory_bytes=2**36,
            pci_bus_id="",
            mig_enabled=gpu["mig"]["mode"] == "enabled",
            mig=tuple(
                MigDevice(item["index"], item["uuid"], item["profile"], at, 0)
                for at, item in enumerate(gpu["mig"]["instances"])
            ),
        )
        for gpu in facts["gpus"]
    )


@given(
    machines() | st.builds(uniform, st.sampled_from(PROFILES), st.integers(1, 3), st.integers(1, 3)),
    CONFIGS,
    st.sampled_from(["", "none", "single", "mixed"]),
)
@example(PART_SPLIT, {"flags": {"migStrategy": "single"}}, "")
@example(TWO, {"sharing": {"timeSlicing": {"resources": FIRST_AND_NAMED}}}, "")
def test_it_is_what_the_daemon_would_advertise(facts, config, strategy):
    env = {"MIG_STRATEGY": strategy} if strategy else {}
    try:
        settings = resolve(parse(json.dumps(config).encode()), env, {})
    except ConfigError:
        return  # a contradiction, which the daemon refuses
    made = layout(seen_by_the_daemon(facts), settings.rules)
    event("with problems" if made.problems else "in order")
    assert resources(facts, config, env) == {item.name: len(item.devices) for item in made.resources}


@pytest.mark.parametrize(
    ("configs", "name", "default", "expected"),
    [
        ({}, "a", "b", "single"),
        ({"a": "A", "b": "B"}, "a", "b", "A"),
        ({"a": "A", "b": "B"}, "", "b", "B"),
        ({"a": "A", "default": "D"}, "", "", "D"),
        ({"a": "A"}, "", "", "A"),
        ({"a": "A", "b": "B"}, "", "", None),
        ({"a": "A"}, "gone", "a", None),
    ],
)
def test_the_named_config_that_applies(configs, name, default, expected):
    assert chosen(configs, name, default, "single") == expected


def test_the_filter():
    facts = {"gpus": [{"index": index, "uuid": f"GPU-{index}", "name": MODELS[0], "mig": {}} for index in range(2)]}
    shared = {"sharing": {"timeSlicing": {"resources": [{"name": GPU, "replicas": 10}]}}}
    assert expected_resources(facts) == {GPU: 2}
    assert expected_resources(facts, shared) == {GPU: 20}
    assert expected_resources(facts, configs={"a": {}, "b": shared}, config_name="b") == {GPU: 20}
    assert expected_resources(facts, configs={"a": {}, "b": shared}) is None
    assert expected_resources({"gpus": []}, shared) == {GPU: 0}
    assert expected_resources({"gpus": None}) == {GPU: 0}
