# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The problems that the daemon's check of configurations found."""

from __future__ import annotations

DOCUMENTATION = r"""
name: config_problems
short_description: What is wrong with the device plugin's configurations
version_added: 0.1.0
description:
  - Turns the output of C(nvidia-devplugin validate) for each configuration into sentences.
  - Made for the role P(kubegpu.nvidia.device_plugin#role).
positional: _input
options:
  _input:
    description: The registered result of a loop over C({key, value}) of M(ansible.builtin.command). May be empty.
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Stop if a configuration is wrong
  ansible.builtin.assert:
    that: checked | kubegpu.nvidia.config_problems | length == 0
"""

RETURN = r"""
_value:
  description: A sentence for each problem of a configuration.
  type: list
  elements: str
"""

# what the command prints before the cause: its own name, and the file that it was given
_NOISE = ("nvidia-devplugin: ", "config file ", "/dev/stdin: ")


def _variable(name):
    return "device_plugin_config" if name == "config.yaml" else "device_plugin_configs.%s" % name


def _cause(text):
    for noise in _NOISE:
        if text.startswith(noise):
            text = text[len(noise) :]
    return text


def config_problems(checked):
    """Return what is wrong, as a list of str.

    :param checked: a registered result; ``results`` of commands, each with ``rc``, ``stderr`` and ``item.key``.
    """
    problems = []
    for result in checked.get("results") or []:
        if result.get("rc", 0) == 0:
            continue
        text = (result.get("stderr") or result.get("msg") or "").strip() or "the check ended with %s" % result["rc"]
        lines = [line for line in text.splitlines() if line.startswith(_NOISE[0])] or [text]
        problems.extend("%s: %s" % (_variable(result["item"]["key"]), _cause(line)) for line in lines)
    return problems


class FilterModule(object):
    """The filter config_problems."""

    def filters(self):
        return {"config_problems": config_problems}
