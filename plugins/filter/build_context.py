# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a folder make up a container image's build context, and what their content is called."""

from __future__ import annotations

DOCUMENTATION = r"""
name: build_context
short_description: Files and content digest of a container build context
version_added: 0.1.0
description:
  - Takes what M(ansible.builtin.find) found below a folder, with O(ansible.builtin.find#module:get_checksum=true).
  - Leaves out caches and build products, and returns the remaining paths with a digest of paths and contents.
  - The digest does not depend on the order of the files, on times, owners or modes, so every checkout of the same
    sources gives the same digest.
positional: _input, root
options:
  _input:
    description: The RV(ansible.builtin.find#module:files) of a recursive search.
    type: list
    elements: dict
    required: true
  root:
    description: The folder that was searched. Paths are taken relative to it.
    type: path
    required: true
  salt:
    description: Whatever else decides what the image contains, for example the base image's name.
    type: str
    default: ""
author:
  - kubegpu.nvidia authors (@kubegpu)
"""

EXAMPLES = r"""
- name: Tag an image by the content of its sources
  ansible.builtin.debug:
    msg: "{{ (found.files | kubegpu.nvidia.build_context('/src/app', salt='debian:12')).digest[:12] }}"
"""

RETURN = r"""
_value:
  description: The context.
  type: dict
  contains:
    paths:
      description: The files' paths, relative to the root, sorted.
      type: list
      elements: str
      sample: [Containerfile, pyproject.toml, src/app/__init__.py]
    digest:
      description: SHA-256 over paths, contents and salt, in hexadecimal digits.
      type: str
      sample: 3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728
"""

import hashlib
import posixpath

from ansible.errors import AnsibleFilterError

IGNORED_FOLDERS = frozenset(
    [
        "__pycache__",
        ".git",
        ".venv",
        "venv",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".tox",
        ".nox",
        "build",
        "dist",
    ]
)
IGNORED_SUFFIXES = (".pyc", ".pyo", ".swp", "~", ".orig", ".rej")
# Put into a copy of the context for one build; never part of what the image is.
IGNORED_FILES = frozenset(["ca-bundle.pem", ".DS_Store"])


def _belongs(path):
    parts = path.split("/")
    if any(part in IGNORED_FOLDERS or part.endswith(".egg-info") for part in parts[:-1]):
        return False
    return parts[-1] not in IGNORED_FILES and not parts[-1].endswith(IGNORED_SUFFIXES)


def build_context(files, root, salt=""):
    """Return ``{"paths": [str], "digest": str}`` for the files found below root.

    :param files: dicts with ``path`` and ``checksum``, as ansible.builtin.find returns them.
    :raises AnsibleFilterError: a file without checksum or outside root, or no file at all.
    """
    prefix = posixpath.normpath(root).rstrip("/") + "/"
    checksums = {}
    for item in files:
        path = posixpath.normpath(item["path"])
        if not path.startswith(prefix):
            raise AnsibleFilterError("build_context: %s does not lie below %s" % (path, prefix))
        relative = path[len(prefix) :]
        if not _belongs(relative):
            continue
        if not item.get("checksum"):
            raise AnsibleFilterError("build_context: %s has no checksum; search with get_checksum: true" % path)
        checksums[relative] = item["checksum"]
    if not checksums:
        raise AnsibleFilterError("build_context: no file to build from below %s" % prefix)
    digest = hashlib.sha256()
    for path in sorted(checksums):
        # NUL can be in neither a path nor a checksum, so no two contexts write the same bytes
        digest.update(("%s\0%s\0" % (path, checksums[path])).encode("utf-8"))
    digest.update(str(salt).encode("utf-8"))
    return {"paths": sorted(checksums), "digest": digest.hexdigest()}


class FilterModule(object):
    """The filter build_context."""

    def filters(self):
        return {"build_context": build_context}
