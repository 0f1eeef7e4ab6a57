# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
from pathlib import Path

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.device_plugin_rights import device_plugin_rights
from ansible_collections.kubegpu.nvidia.plugins.filter.toolkit_problems import toolkit_problems

PACKAGED = (Path(__file__).parents[1] / "modules" / "data" / "config.toml").read_text()
ENVVAR = "accept-nvidia-visible-devices-envvar-when-unprivileged"
MOUNTS = "accept-nvidia-visible-devices-as-volume-mounts"


def read(text):
    """The registered result of slurp."""
    return {"content": base64.b64encode(text.encode()).decode(), "encoding": "base64"}


def toolkit(envvar, mounts):
    lines = {ENVVAR: envvar, MOUNTS: mounts}
    return read("\n".join(f"{key} = {value}" for key, value in lines.items()) + "\n\n[nvidia-container-runtime]\n")


def rights(strategy=None, mig="none"):
    return device_plugin_rights({"a": {"flags": {"migStrategy": mig, "plugin": {"deviceListStrategy": strategy}}}})


def found(result, **settings):
    """Who gets nothing, by the problems that are told."""
    who = {"the device plugin no driver": "plugin", "pods no GPU": "pods"}
    problems = toolkit_problems(result, rights(**settings))
    return [name for problem in problems for text, name in who.items() if f"gives {text}" in problem]


@pytest.mark.parametrize(
    "result",
    [
        pytest.param({}, id="not-read"),
        pytest.param({"failed": True, "msg": "file not found"}, id="no-file"),
        pytest.param({"skipped": True}, id="skipped"),
        pytest.param(read("= 1"), id="not-toml"),
        pytest.param({"content": base64.b64encode(b"\xff").decode()}, id="not-text"),
    ],
)
@pytest.mark.parametrize("strategy", ["envvar", "volume-mounts"])
def test_nothing_is_said_of_a_configuration_that_is_not_known(result, strategy):
    assert found(result, strategy=strategy) == []


@pytest.mark.parametrize("text", [PACKAGED, ""], ids=["packaged", "empty"])
def test_the_toolkits_defaults_accept_the_variable_and_no_mounts(text):
    assert found(read(text)) == []
    assert found(read(text), strategy="volume-mounts") == ["pods"]
    assert found(read(text), strategy=["volume-mounts", "envvar"]) == []


@pytest.mark.parametrize(
    ("envvar", "mounts", "settings", "expected"),
    [
        ("false", "true", {}, ["pods"]),
        ("false", "true", {"strategy": "volume-mounts"}, []),
        ("false", "true", {"strategy": "cdi-cri"}, []),
        ("false", "false", {}, ["plugin", "pods"]),
        ("false", "false", {"strategy": "cdi-cri"}, ["plugin"]),
        ("false", "false", {"strategy": "cdi-annotations", "mig": "mixed"}, []),
        ("false", "false", {"strategy": ["envvar", "volume-mounts"], "mig": "single"}, ["pods"]),
        ("true", "true", {"strategy": "volume-mounts"}, []),
    ],
)
def test_what_the_toolkit_refuses_is_told(envvar, mounts, settings, expected):
    assert found(toolkit(envvar, mounts), **settings) == expected


def test_the_messages_name_the_settings_and_what_to_do():
    driver, pods = toolkit_problems(toolkit("false", "false"), rights())
    assert f"{ENVVAR} is false, and {MOUNTS} is not true. To do: set accept_as_volume_mounts to true" in driver
    assert f"with the deviceListStrategy envvar: {ENVVAR} is false. To do: set flags.plugin.deviceListStrategy" in pods
