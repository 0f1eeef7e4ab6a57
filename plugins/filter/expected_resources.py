# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which resources a node should have, from its GPUs and the device plugin's configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
name: expected_resources
short_description: Resources that a node should have, from its GPUs and the device plugin's configuration
version_added: 0.1.0
description:
  - Counts devices as the device plugin of this collection does, by MIG strategy, names, selection and time-slicing.
positional: _input
options:
  _input:
    description: The node's GPUs, C(ansible_facts.nvidia_gpu) of M(kubegpu.nvidia.nvidia_gpu_facts).
    type: dict
    required: true
  config:
    description: The plugin's configuration, in NVIDIA's format.
    type: dict
    default: {}
  configs:
    description: Several configurations by name, instead of O(config).
    type: dict
    default: {}
  config_name:
    description: The value of the node's label C(nvidia.com/device-plugin.config). Empty means that it has none.
    type: str
    default: ""
  default_config:
    description:
      - The one of O(configs) that applies where the node has no label. Empty means V(default), or the only one.
    type: str
    default: ""
  env:
    description: The plugin's environment variables; E(MIG_STRATEGY) wins over the configuration.
    type: dict
    default: {}
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Compare what the node has with what its GPUs and the configuration mean
  ansible.builtin.assert:
    that: node.status.capacity['nvidia.com/gpu'] | int == expected['nvidia.com/gpu']
  vars:
    expected: "{{ ansible_facts.nvidia_gpu | kubegpu.nvidia.expected_resources(config=device_plugin_config) }}"
"""

RETURN = r"""
_value:
  description:
    - The number of devices by resource.
    - Null if none of the named configurations applies, since the plugin then keeps what it had.
  type: dict
  sample:
    nvidia.com/gpu: 1
    nvidia.com/mig-1g.10gb: 2
"""

from ansible_collections.kubegpu.nvidia.plugins.module_utils.devices import expected


def expected_resources(facts, config=None, configs=None, config_name="", default_config="", env=None):
    """Return the number of devices by resource; see the RETURN documentation.

    :param facts: the GPU facts as a dict.
    """
    applies = expected.chosen(configs or {}, config_name, default_config, config)
    return None if applies is None else expected.resources(facts, applies, env)


class FilterModule(object):
    """The filter expected_resources."""

    def filters(self):
        return {"expected_resources": expected_resources}
