# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kubernetes.core's action for its own modules: a kubeconfig is found as Ansible finds files, and may be in a vault."""

from __future__ import annotations

from ansible_collections.kubernetes.core.plugins.action.k8s_info import ActionModule

__all__ = ["ActionModule"]
