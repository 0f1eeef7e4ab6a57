# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads single keys and words out of the kubelet's configuration."""

from __future__ import annotations

import shlex

import yaml

from .machine import Machine

# libyaml's, where PyYAML was built with it, takes a tenth of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def key(text: str, name: str) -> str | None:
    """The text of a key at the top level of a YAML or JSON document.

    Args:
        text (str): the document, the first if there are several.
        name (str): the key.

    Returns:
        str | None: its value, ``true`` and ``false`` for a truth value; None when the key is missing, empty, neither of
        these, or the document is none.
    """
    try:
        document = next(iter(yaml.load_all(text, Loader=_Loader)), None)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2026-99-99
        return None
    value = document.get(name) if isinstance(document, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return (value.strip() or None) if isinstance(value, str) else None


def file_key(machine: Machine, path: str, name: str) -> str | None:
    """As ``key``, of a file; None when the file is missing or unreadable."""
    content = machine.text(path)
    return None if content is None else key(content, name)


def directory_key(machine: Machine, folder: str, name: str, suffix: str | tuple[str, str]) -> str | None:
    """As ``file_key``, over a directory of drop-ins: the last file that has the key wins.

    The kubelet sorts the ``*.conf`` files of ``--config-dir`` by name (Kubernetes, "Set Kubelet Parameters Via A
    Configuration File"), and so does k3s with ``config.yaml.d``.
    """
    value = None
    for file in machine.names(folder):
        if file.endswith(suffix):
            value = file_key(machine, f"{folder}/{file}", name) or value
    return value


def words(machine: Machine, path: str) -> list[str]:
    """The words of a file of command line options, like MicroK8s's ``args/kubelet`` or kubeadm's environment file.

    Returns:
        list[str]: the words without quotes and comments; empty when the file is missing.
    """
    found = []
    for line in (machine.text(path) or "").splitlines():
        try:
            parts = shlex.split(line, comments=True)
        except ValueError:  # a quote without its partner
            parts = [line]
        for part in parts:
            # An environment file has all options in one pair of quotes.
            found.extend(part.split())
    return found
