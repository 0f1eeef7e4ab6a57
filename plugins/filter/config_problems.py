# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon's check of configurations found."""

from __future__ import annotations

DOCUMENTATION = r"""
name: config_problems
short_description: What is wrong with the device plugin's configurations
version_added: 0.1.0
description:
  - Puts what C(nvidia-devplugin validate) said of each configuration into sentences.
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
  description: One sentence or more for each configuration that is wrong.
  type: list
  elements: str
"""

# what the command says before the cause: its own name, and the file that it was given
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
        words = (result.get("stderr") or result.get("msg") or "").strip() or "the check ended with %s" % result["rc"]
        problems.append("%s: %s" % (_variable(result["item"]["key"]), _cause(words)))
    return problems


class FilterModule(object):
    """The filter config_problems."""

    def filters(self):
        return {"config_problems": config_problems}
