# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine's NVIDIA driver, PCI bus and kernel say about its GPUs, as one plain dict.

``shape`` names the fields, ``nvml``, ``smi`` and ``host`` read them, ``facts`` merges them and decides what is wrong.
Nothing here may import Ansible: everything is tested without it and runs on Python 3.7 and later.
"""
