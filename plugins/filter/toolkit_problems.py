# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's NVIDIA Container Toolkit would not give to the device plugin and to pods."""

from __future__ import annotations

DOCUMENTATION = r"""
name: toolkit_problems
short_description: What a node's NVIDIA Container Toolkit refuses to the device plugin and to pods
version_added: 0.2.0
description:
  - Compares the toolkit's configuration with the ways in which the plugin's container and pods ask for devices.
  - Made for the role P(kubegpu.nvidia.device_plugin#role).
positional: _input, rights
options:
  _input:
    description: Registered result of M(ansible.builtin.slurp) for the toolkit's C(config.toml). May be empty or failed.
    type: dict
    required: true
  rights:
    description: What P(kubegpu.nvidia.device_plugin_rights#filter) returned.
    type: dict
    required: true
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Stop if the toolkit refuses what is needed
  ansible.builtin.assert:
    that: read | kubegpu.nvidia.toolkit_problems(rights) | length == 0
"""

RETURN = r"""
_value:
  description: What is refused, each with its remedy. Empty where the configuration is not known or cannot be parsed.
  type: list
  elements: str
"""

import base64

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError

_ENVVAR = "accept-nvidia-visible-devices-envvar-when-unprivileged"
_MOUNTS = "accept-nvidia-visible-devices-as-volume-mounts"


def toolkit_problems(read, rights):
    """Return what the toolkit refuses, as a list of str.

    :param read: a registered result of slurp, with ``content`` (base64) where the file could be read.
    :param rights: what the filter device_plugin_rights returned.
    """
    if read.get("content") is None:
        return []
    try:
        text = base64.b64decode(read["content"]).decode("utf-8")
        settings = toml_text.to_python(toml_text.scan(text).root)
    except (ConfigError, ValueError):
        return []
    # the toolkit's defaults: https://github.com/NVIDIA/nvidia-container-toolkit, api/config/v1/config.go
    accepted = {"envvar": settings.get(_ENVVAR, True), "volume-mounts": settings.get(_MOUNTS, False)}
    reasons = {"envvar": "%s is false" % _ENVVAR, "volume-mounts": "%s is not true" % _MOUNTS}
    problems = []
    # the toolkit takes a container with CAP_SYS_ADMIN for privileged, and then accepts the variable
    privileged = "SYS_ADMIN" in rights["capabilities"].get("add", [])
    if not privileged and not any(accepted.values()):
        problems.append(
            "The node's NVIDIA Container Toolkit gives the device plugin no driver: %s, and %s. To do: set "
            "accept_as_volume_mounts to true in container_toolkit_config, and run the role container_toolkit. Only "
            "pods that may mount host paths can ask for GPUs in this way."
            % (reasons["envvar"], reasons["volume-mounts"])
        )
    strategies = rights["device_list_strategies"]
    if not any(accepted.get(strategy, True) for strategy in strategies):
        problems.append(
            "The node's NVIDIA Container Toolkit gives pods no GPU with the deviceListStrategy %s: %s. To do: set "
            "flags.plugin.deviceListStrategy to volume-mounts, with accept_as_volume_mounts: true in "
            "container_toolkit_config, or to cdi-cri."
            % (", ".join(strategies), ", and ".join(reasons[strategy] for strategy in strategies))
        )
    return problems


class FilterModule(object):
    """The filter toolkit_problems."""

    def filters(self):
        return {"toolkit_problems": toolkit_problems}
