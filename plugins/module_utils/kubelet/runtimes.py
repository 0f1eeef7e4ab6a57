# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container runtimes are installed on this machine."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Callable, Collection

# Sockets, in the order of preference, and the program of each runtime. k3s and RKE2 bring a containerd of their own.
SOCKETS = {
    "docker": ("run/docker.sock", "var/run/docker.sock"),
    "containerd": (
        "run/containerd/containerd.sock",
        "run/k3s/containerd/containerd.sock",
        "run/k0s/containerd.sock",
        "var/snap/microk8s/common/run/containerd.sock",
    ),
    "crio": ("run/crio/crio.sock",),
}
PROGRAMS = {"docker": "dockerd", "containerd": "containerd", "crio": "crio"}
_DIRECTORIES = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "bin", "sbin", "opt/bin", "snap/bin")

# Docker's side of the CRI: the kubelet's own shim (until 1.23), Mirantis's cri-dockerd, and that of k3s.
DOCKER_SHIMS = (
    "run/dockershim.sock",
    "run/cri-dockerd.sock",
    "run/k3s/cri-dockerd/cri-dockerd.sock",
)


def installed(root: str = "/", run: Callable[..., Any] | None = None) -> dict[str, dict[str, Any]]:
    """The runtimes that are there.

    A runtime counts as installed when its socket or its program exists.

    Args:
        root (str): directory below which the machine's file systems lie.
        run (Callable[[list[str]], tuple[int, str, str]] | None): runs a program, for the versions; None: no versions.

    Returns:
        dict[str, dict]: ``docker``, ``containerd``, ``crio``, only those that are installed: ``socket`` (path, None:
        not running), ``program`` (path, None: only the socket was found) and ``version`` (None: unknown).
    """
    runtimes = {}
    for name in SOCKETS:
        socket = first_socket(root, SOCKETS[name])
        program = _program(root, PROGRAMS[name])
        if socket or program:
            runtimes[name] = {
                "socket": socket,
                "program": program,
                "version": version(run, os.path.join(root, program.lstrip("/"))) if run and program else None,
            }
    return runtimes


def first_socket(root: str, paths: tuple[str, ...]) -> str | None:
    """The first of the paths that is a socket; None when none is.

    Returns:
        str | None: the absolute path as the machine itself sees it.
    """
    for path in paths:
        try:
            if stat.S_ISSOCK(os.stat(os.path.join(root, path)).st_mode):
                return "/" + path
        except OSError:
            continue
    return None


def version(run: Callable[..., Any], program: str) -> str | None:
    """The version that ``program --version`` prints, without v and a distribution's suffix; None: it prints none."""
    status, output, _errors = run([program, "--version"])
    match = re.search(r"\bv?(\d+\.\d+(?:\.\d+)?(?:-[0-9A-Za-z.]+)?)", output) if status == 0 else None
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


def _program(root: str, name: str) -> str | None:
    for directory in _DIRECTORIES:
        path = os.path.join(directory, name)
        if os.access(os.path.join(root, path), os.X_OK):
            return "/" + path
    return None
