# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.filter.device_plugin_rights import device_plugin_rights
from nvidia_devplugin.config import settings

NO_CAPABILITY = {"drop": ["ALL"]}
MIG_CAPABILITIES = {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
MONITOR = "NVIDIA_MIG_MONITOR_DEVICES"


def config(strategy=None, **plugin):
    return {"version": "v1", "flags": {"migStrategy": strategy, "plugin": plugin}}


def test_a_configuration_that_asks_for_nothing_gets_the_least():
    assert device_plugin_rights({"config.yaml": {"version": "v1"}}) == {
        "capabilities": NO_CAPABILITY,
        "environment": {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"},
        "imex_channels": False,
        "device_list_strategies": ["envvar"],
    }


MIG = {
    "nothing": ({}, {}, False),
    "none": ({"a": config("none")}, {}, False),
    "null": ({"a": config(None)}, {}, False),
    "no-flags": ({"a": {"version": "v1", "flags": None}}, {}, False),
    "empty-file": ({"a": None}, {}, False),
    "single": ({"a": config("single")}, {}, True),
    "mixed": ({"a": config("mixed")}, {}, True),
    "one-of-several": ({"default": {"version": "v1"}, "split": config("mixed")}, {}, True),
    "none-of-several": ({"default": {"version": "v1"}, "whole": config("none")}, {}, False),
    "environment": ({"a": {"version": "v1"}}, {"MIG_STRATEGY": "single"}, True),
    "environment-wins": ({"a": config("mixed")}, {"MIG_STRATEGY": "none"}, False),
    "empty-environment": ({"a": config("mixed")}, {"MIG_STRATEGY": ""}, True),
    "null-environment": ({"a": config("mixed")}, {"MIG_STRATEGY": None}, True),
    "another-variable": ({"a": config("none")}, {"DP_LOG_LEVEL": "debug"}, False),
}


@pytest.mark.parametrize("case", MIG)
def test_the_right_to_monitor_mig_is_for_configurations_with_mig_devices(case):
    configs, env, wanted = MIG[case]
    rights = device_plugin_rights(configs, env)
    assert rights["capabilities"] == (MIG_CAPABILITIES if wanted else NO_CAPABILITY)
    assert rights["environment"].get(MONITOR) == ("all" if wanted else None)


@pytest.mark.parametrize(
    ("configs", "env", "wanted"),
    [
        pytest.param({"a": config(passDeviceSpecs=True)}, {}, True, id="config"),
        pytest.param({"a": config(passDeviceSpecs=False)}, {}, False, id="false"),
        pytest.param({"a": {"version": "v1"}, "b": config(passDeviceSpecs=True)}, {}, True, id="one-of-several"),
        pytest.param({"a": config()}, {"PASS_DEVICE_SPECS": "true"}, True, id="environment"),
        pytest.param({"a": config()}, {"PASS_DEVICE_SPECS": True}, True, id="boolean-of-the-inventory"),
        pytest.param({"a": config()}, {"PASS_DEVICE_SPECS": "1"}, True, id="number"),
        pytest.param({"a": config(passDeviceSpecs=True)}, {"PASS_DEVICE_SPECS": "false"}, False, id="environment-wins"),
    ],
)
def test_who_passes_device_nodes_on_sees_those_of_compute(configs, env, wanted):
    found = device_plugin_rights(configs, env)
    assert found["environment"]["NVIDIA_DRIVER_CAPABILITIES"] == ("compute,utility" if wanted else "utility")
    assert found["capabilities"] == NO_CAPABILITY


@pytest.mark.parametrize(
    ("configs", "env", "wanted"),
    [
        pytest.param({"a": {"imex": {"channelIDs": [0], "required": False}}}, {}, True, id="config"),
        pytest.param({"a": {"imex": {"channelIDs": []}}, "b": {"imex": None}}, {}, False, id="none"),
        pytest.param({"a": {}}, {"IMEX_CHANNEL_IDS": "0"}, True, id="environment"),
    ],
)
def test_imex_channels_are_shown_where_a_configuration_names_some(configs, env, wanted):
    assert device_plugin_rights(configs, env)["imex_channels"] is wanted


def test_further_variables_are_text_and_win():
    env = {"DP_GPU_TELEMETRY": True, "DP_LOG_LEVEL": "debug", "EMPTY": None, "NVIDIA_DRIVER_CAPABILITIES": "all"}
    assert device_plugin_rights({"a": {}}, env)["environment"] == {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "all",
        "DP_GPU_TELEMETRY": "true",
        "DP_LOG_LEVEL": "debug",
        "EMPTY": "",
    }


WAYS = ["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]
BOOLEANS = ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"]
absent = st.none()
ways = st.lists(st.sampled_from(WAYS), min_size=1, max_size=3)
configurations = st.fixed_dictionaries(
    {"version": st.just("v1")},
    optional={
        "flags": absent
        | st.fixed_dictionaries(
            {},
            optional={
                "migStrategy": absent | st.sampled_from(["none", "single", "mixed"]),
                "plugin": absent
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "passDeviceSpecs": absent | st.booleans(),
                        "deviceListStrategy": absent | st.sampled_from(WAYS) | ways | ways.map(", ".join),
                    },
                ),
            },
        ),
        "imex": absent
        | st.fixed_dictionaries({}, optional={"channelIDs": absent | st.lists(st.integers(0, 3)) | st.just("0,1")}),
    },
)
environments = st.fixed_dictionaries(
    {},
    optional={
        "MIG_STRATEGY": st.sampled_from(["", "none", "single", "mixed"]),
        "PASS_DEVICE_SPECS": st.sampled_from(["", *BOOLEANS]),
        "DEVICE_LIST_STRATEGY": st.just("") | ways.map(",".join),
        "IMEX_CHANNEL_IDS": st.sampled_from(["", "0", "1,2"]),
    },
)


@given(st.dictionaries(st.sampled_from(["config.yaml", "a", "b"]), configurations, min_size=1), environments)
def test_the_rights_are_what_the_daemon_needs_for_any_of_the_configurations(configs, env):
    rights = device_plugin_rights(configs, env)
    daemon = [settings.resolve(settings.parse(json.dumps(one).encode()), env, {}) for one in configs.values()]
    mig = any(one.rules.mig_strategy != "none" for one in daemon)
    assert rights["capabilities"] == (MIG_CAPABILITIES if mig else NO_CAPABILITY)
    assert (MONITOR in rights["environment"]) is mig
    compute = "compute" in rights["environment"]["NVIDIA_DRIVER_CAPABILITIES"]
    assert compute is any(one.pass_device_specs for one in daemon)
    assert rights["imex_channels"] is any(one.imex_channels for one in daemon)
    assert rights["device_list_strategies"] == sorted({way for one in daemon for way in one.device_list_strategies})
