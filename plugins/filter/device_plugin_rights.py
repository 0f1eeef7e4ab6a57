# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the device plugin's container needs for its configurations, and no more."""

from __future__ import annotations

DOCUMENTATION = r"""
name: device_plugin_rights
short_description: What the device plugin's container needs for its configurations
version_added: 0.2.0
description:
  - Returns the capabilities, the environment and the view of the host's devices that the container needs. Any of the
    configurations can come into force while the pod runs, so the container gets what any of them needs.
  - Made for the role P(kubegpu.nvidia.device_plugin#role).
positional: _input
options:
  _input:
    description: The configurations by name, in the format of NVIDIA's device plugin.
    type: dict
    required: true
  env:
    description: Further environment variables of the container. The plugin prefers them to its configuration.
    type: dict
    default: {}
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Show which capabilities the container gets
  ansible.builtin.debug:
    msg: "{{ (device_plugin_configs | kubegpu.nvidia.device_plugin_rights(device_plugin_env)).capabilities }}"
"""

RETURN = r"""
_value:
  description: What the container gets.
  type: dict
  contains:
    capabilities:
      description: C(capabilities) of the container's security context.
      type: dict
      sample: {drop: [ALL], add: [SYS_ADMIN]}
    environment:
      description: The container's environment variables, those of O(env) included. All values are text.
      type: dict
      sample: {NVIDIA_VISIBLE_DEVICES: all, NVIDIA_DRIVER_CAPABILITIES: utility}
    imex_channels:
      description: Whether the container has to see which IMEX channels the node has.
      type: bool
    device_list_strategies:
      description: How the configurations give devices to pods, each way once.
      type: list
      elements: str
      sample: [envvar]
"""

# as the daemon reads them: files/devplugin/src/nvidia_devplugin/config
_TRUE = ("1", "t", "T", "true", "TRUE", "True")


def _text(value):
    """A value of the environment as text; null is as left out."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(configs, environment, variable, *path):
    """What a setting is in each of the configurations, or by the environment variable that wins over all of them."""
    if environment.get(variable):
        return [environment[variable]]
    values = []
    for node in configs.values():
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        values.append(node)
    return values


def device_plugin_rights(configs, env=None):
    """Return what the container needs, as a dict; see the RETURN documentation.

    :param configs: configurations by name.
    :param env: further environment variables.
    """
    env = {name: _text(value) for name, value in (env or {}).items()}
    mig = _values(configs, env, "MIG_STRATEGY", "flags", "migStrategy")
    device_nodes = _values(configs, env, "PASS_DEVICE_SPECS", "flags", "plugin", "passDeviceSpecs")
    channels = _values(configs, env, "IMEX_CHANNEL_IDS", "imex", "channelIDs")
    strategies = _values(configs, env, "DEVICE_LIST_STRATEGY", "flags", "plugin", "deviceListStrategy")
    # The toolkit gives /dev/nvidia-uvm for "compute" only, and the plugin passes on the device nodes that it sees.
    compute = any(value is True or value in _TRUE for value in device_nodes)
    environment = {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility" if compute else "utility",
    }
    capabilities = {"drop": ["ALL"]}
    if any(value in ("single", "mixed") for value in mig):
        # The toolkit honours the variable only in a container with the capability, and refuses to start others.
        environment["NVIDIA_MIG_MONITOR_DEVICES"] = "all"
        capabilities["add"] = ["SYS_ADMIN"]
    environment.update(env)
    found = set()
    for value in strategies:
        names = value.split(",") if isinstance(value, str) else value or ["envvar"]
        found.update(str(name).strip() for name in names)
    return {
        "capabilities": capabilities,
        "environment": environment,
        "imex_channels": any(channels),
        "device_list_strategies": sorted(found),
    }


class FilterModule(object):
    """The filter device_plugin_rights."""

    def filters(self):
        return {"device_plugin_rights": device_plugin_rights}
