# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container runtime this machine's kubelet uses.

``process`` finds the kubelet, ``settings`` reads what it was told, ``runtimes`` looks at what is installed, and
``facts`` decides. Nothing here may import Ansible; everything reads below a directory that the caller names.
"""
