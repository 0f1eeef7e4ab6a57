# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at a machine by its shell, and decides here which container runtime its kubelet uses."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet import facts
from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet.machine import LookError, Machine

ARGUMENTS = {
    "host_root": {"type": "str", "default": "/"},
    "runtime": {"type": "str", "choices": ["auto", "docker", "containerd", "crio"], "default": "auto"},
    "versions": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """kubegpu.nvidia.kubelet_runtime_facts; its documentation is the module's."""

    TRANSFERS_FILES = False
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec(ARGUMENTS)
        try:
            machine = Machine(self._ask, options["host_root"], options["versions"])
            kubelet_runtime = facts.gather(machine, options["runtime"])
        except LookError as error:
            raise AnsibleActionFail(str(error)) from error
        return {**result, "changed": False, "ansible_facts": {"kubelet_runtime": kubelet_runtime}}

    def _ask(self, script):
        done = self._low_level_execute_command(script)
        return done["rc"], done["stdout"], done["stderr"]
