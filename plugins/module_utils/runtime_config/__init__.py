# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes one OCI runtime in the configuration of a container engine, and nothing else.

Pure rooms, importable without Ansible and without the engine: text, json_text, toml_text (scanners and
edits that keep every byte that is not theirs), docker_daemon, containerd_config (which edits are wanted),
memory (what to remember for the way back), docker_flags, docker_paths, pending.
Rooms with effects: files (reading, atomic writing), process (/proc), docker_live (the Engine's API), docker_unit
(what systemd will start), containerd_dump (the containerd binary).
"""
