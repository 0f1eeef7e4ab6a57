# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of the NVIDIA Container Toolkit's tools."""

from __future__ import annotations

import re
from typing import Any, Callable

from .errors import SourceError

_CTK = re.compile(r"NVIDIA Container Toolkit CLI version (\S+)")
_CLI = re.compile(r"^(?:cli-version|version): (\S+)", re.MULTILINE)
_LIB = re.compile(r"^lib-version: (\S+)", re.MULTILINE)


def read(find: Callable[[str], str | None], run: Callable[..., tuple[int, str, str]]) -> dict[str, Any]:
    """What is installed of the toolkit.

    Args:
        find (Callable[[str], str | None]): full path of a program, None where there is none.
        run (Callable[[list[str]], tuple[int, str, str]]): runs a program; exit status, standard output and error.

    Returns:
        dict: ``version`` (of nvidia-ctk, else of nvidia-container-cli; None: not installed), ``cli_version`` and
        ``libnvidia_container_version``, and the paths ``ctk_path``, ``cli_path``, ``runtime_path``, ``hook_path``.
    """
    paths = {
        "ctk_path": find("nvidia-ctk"),
        "cli_path": find("nvidia-container-cli"),
        "runtime_path": find("nvidia-container-runtime"),
        "hook_path": find("nvidia-container-runtime-hook"),
    }
    ctk = _output(run, paths["ctk_path"])
    cli = _output(run, paths["cli_path"])
    cli_version = _first(_CLI, cli)
    facts = {
        "version": _first(_CTK, ctk) or cli_version,
        "cli_version": cli_version,
        "libnvidia_container_version": _first(_LIB, cli),
    }
    facts.update(paths)
    return facts


def unknown() -> dict[str, Any]:
    """The same keys where nobody looked."""
    keys = (
        "version",
        "cli_version",
        "libnvidia_container_version",
        "ctk_path",
        "cli_path",
        "runtime_path",
        "hook_path",
    )
    return dict.fromkeys(keys)


def _output(run: Callable[..., tuple[int, str, str]], path: str | None) -> str:
    if path is None:
        return ""
    try:
        status, output, _errors = run([path, "--version"])
    except SourceError:
        # A broken toolkit has no version; whoever needs one says so.
        return ""
    return output if status == 0 else ""


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match.group(1) if match else None
