# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads single keys out of the kubelet's configuration, without PyYAML, which a target may not have."""

from __future__ import annotations

import json
import os
import re
import shlex

_KEY = re.compile(r"""^(?P<key>"[^"]*"|'[^']*'|[^\s#:'"\[\]{},&*!|>%@`?-][^#:]*?)\s*:(?:\s+(?P<value>.*))?$""")
_NULL = ("", "~", "null", "Null", "NULL")


def key(text: str, name: str) -> str | None:
    """The text of a key at the top level of a YAML or JSON document.

    Only what a kubelet's configuration holds there is understood: a mapping in block style, or JSON. A key of the same
    name further in, in a comment or in a block of text does not count.

    Args:
        text (str): the document, the first if there are several.
        name (str): the key.

    Returns:
        str | None: its value; None when the key is missing, null, empty or no scalar.
    """
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text).get(name)
        except ValueError:
            return None
        return value if isinstance(value, str) and value else None
    indent = None
    for line in text.lstrip("\ufeff").splitlines():
        content = line.strip()
        if not content or content.startswith(("#", "%")):
            continue
        if re.match(r"^(---|\.\.\.)(\s|$)", line):
            if indent is not None:
                return None
            continue
        own = len(line) - len(line.lstrip(" "))
        indent = own if indent is None else indent
        match = _KEY.match(content) if own == indent else None
        if match and _scalar(match.group("key")) == name:
            return _scalar(match.group("value") or "")
    return None


def file_key(root: str, path: str, name: str) -> str | None:
    """As ``key``, of a file below ``root``; None when the file is missing or unreadable."""
    content = _read(root, path)
    return None if content is None else key(content, name)


def directory_key(root: str, path: str, name: str, suffix: str | tuple[str, str]) -> str | None:
    """As ``file_key``, over a directory of drop-ins: the last file that has the key wins.

    The kubelet sorts the ``*.conf`` files of ``--config-dir`` by name (Kubernetes, "Set Kubelet Parameters Via A
    Configuration File"), and so does k3s with ``config.yaml.d``.
    """
    value = None
    try:
        files = sorted(os.listdir(os.path.join(root, path.lstrip("/"))))
    except OSError:
        return None
    for file in files:
        if file.endswith(suffix):
            value = file_key(root, os.path.join(path, file), name) or value
    return value


def words(root: str, path: str) -> list[str]:
    """The words of a file of command line options, like MicroK8s's ``args/kubelet`` or kubeadm's environment file.

    Returns:
        list[str]: the words without quotes and comments; empty when the file is missing.
    """
    found = []
    for line in (_read(root, path) or "").splitlines():
        try:
            parts = shlex.split(line, comments=True)
        except ValueError:  # a quote without its partner
            parts = [line]
        for part in parts:
            # An environment file has all options in one pair of quotes.
            found.extend(part.split())
    return found


def _read(root: str, path: str) -> str | None:
    try:
        with open(os.path.join(root, path.lstrip("/")), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _scalar(text: str) -> str | None:
    """A YAML scalar on one line: plain, 'single' or "double" quoted; None for null and for anything that goes on."""
    text = text.strip()
    if text.startswith("'"):
        match = re.match(r"^'((?:[^']|'')*)'\s*(?:#.*)?$", text)
        return (match.group(1).replace("''", "'") or None) if match else None
    if text.startswith('"'):
        match = re.match(r'^("(?:[^"\\]|\\.)*")\s*(?:\s#.*)?$', text)
        try:
            return (json.loads(match.group(1)) or None) if match else None
        except ValueError:
            return None
    text = re.split(r"\s+#|^#", text, maxsplit=1)[0].strip()
    if text in _NULL or text[:1] in "|>[{&*!@`%":
        return None
    return text
