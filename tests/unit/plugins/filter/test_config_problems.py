# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.config_problems import config_problems

SOURCES = Path(__file__).parents[4] / "files" / "devplugin" / "src"


def check(name, text):
    """What the role gets when it asks the daemon's code."""
    done = subprocess.run(
        [sys.executable, "-m", "nvidia_devplugin", "validate", "/dev/stdin"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return {"item": {"key": name, "value": text}, "rc": done.returncode, "stderr": done.stderr}


def test_a_valid_or_unchecked_configuration_has_no_problem():
    assert config_problems({"results": [check("config.yaml", "version: v1\n")]}) == []
    assert config_problems({}) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        pytest.param(
            "a10",
            "version: v1\nflags: {migStrategy: some}\n",
            "device_plugin_configs.a10: flags.migStrategy: the string 'some' is not one of none, single, mixed",
            id="value",
        ),
        pytest.param("config.yaml", "version: v1\nflag: {}\n", "device_plugin_config: flag", id="unknown-key"),
    ],
)
def test_the_variable_and_the_path_in_it_are_named(name, text, said):
    (problem,) = config_problems({"results": [check(name, text)]})
    assert problem.startswith(said)


def test_each_problem_is_one():
    text = "version: v1\nmigStrategy: none\nflags: {gdsEnabled: 1}\n"
    assert config_problems({"results": [check("a10", text)]}) == [
        "device_plugin_configs.a10: migStrategy: unknown key; it belongs at flags.migStrategy",
        "device_plugin_configs.a10: flags.gdsEnabled: the number 1 is not a boolean (true or false)",
    ]


def test_a_check_that_could_not_run_is_a_problem():
    result = {"item": {"key": "a"}, "rc": 1, "stderr": "", "msg": "No module named yaml"}
    assert config_problems({"results": [result]}) == ["device_plugin_configs.a: No module named yaml"]
