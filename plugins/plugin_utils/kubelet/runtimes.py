# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container runtimes are installed on a machine."""

from __future__ import annotations

import os
import re
from typing import Any, Collection, Iterable

from .machine import PROGRAMS, SOCKETS, Machine


def installed(machine: Machine) -> dict[str, dict[str, Any]]:
    """The runtimes that are there.

    A runtime counts as installed when its socket or its program exists.

    Returns:
        dict[str, dict]: ``docker``, ``containerd``, ``crio``, only those that are installed: ``socket`` (path, None:
        not running), ``program`` (path, None: only the socket was found) and ``version`` (None: unknown).
    """
    runtimes = {}
    for name in SOCKETS:
        socket = first_socket(machine, SOCKETS[name])
        program = next((path for path in machine.programs if os.path.basename(path) == PROGRAMS[name]), None)
        if socket or program:
            said = machine.version(program) if program else None
            runtimes[name] = {"socket": socket, "program": program, "version": version(said)}
    return runtimes


def first_socket(machine: Machine, paths: Iterable[str]) -> str | None:
    """The first of the paths that is a socket; None when none is."""
    return next((path for path in paths if path in machine.sockets), None)


def version(said: str | None) -> str | None:
    """The version in what ``program --version`` printed, without v and a distribution's suffix; None: there is none."""
    match = re.search(r"\bv?(\d+\.\d+(?:\.\d+)?(?:-[0-9A-Za-z.]+)?)", said or "")
    return match.group(1) if match else None


def to_set_up(wanted: str, runtime: str | None, installed: Collection[str]) -> list[str]:
    """The runtimes that are to be set up for GPUs.

    Args:
        wanted (str): ``docker``, ``containerd``, ``crio``; ``auto``: the kubelet's.
        runtime (str | None): the kubelet's; None: unknown.
        installed (Collection[str]): those that are there.

    Returns:
        list[str]: among them Docker wherever it is, since people use it beside Kubernetes too.
    """
    # Without a kubelet and without Docker, what is there must be what is meant; CRI-O brings no containerd.
    alone = next((name for name in ("docker", "crio", "containerd") if name in installed), None)
    chosen = (runtime or alone) if wanted == "auto" else wanted
    return [name for name in SOCKETS if name == chosen or (name == "docker" and name in installed)]


def of_endpoint(endpoint: str) -> str | None:
    """The runtime behind a CRI endpoint.

    Args:
        endpoint (str): like ``unix:///run/containerd/containerd.sock``.

    Returns:
        str | None: ``docker``, ``containerd`` or ``crio``; None for any other.
    """
    name = endpoint.lower()
    # cri-dockerd of k3s lies beside its containerd: Docker's names are looked for first.
    for runtime, signs in (("docker", ("docker",)), ("containerd", ("containerd",)), ("crio", ("crio", "cri-o"))):
        if any(sign in name for sign in signs):
            return runtime
    return None
