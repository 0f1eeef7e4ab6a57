# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the kubelet among the processes, and reads its command line."""

from __future__ import annotations

import os
from typing import Any

from .machine import Machine

# Part of a kubelet's command line or program -> the distribution that starts it so. The first that fits wins.
_FLAVORS = (
    ("rke2", ("/rancher/rke2/",)),
    ("k3s", ("/rancher/k3s/",)),
    ("k0s", ("/k0s/",)),
    ("microk8s", ("/snap/microk8s/",)),
    ("kubeadm", ("/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/kubelet.conf")),
)


def find(machine: Machine) -> dict[str, Any] | None:
    """The kubelet of a machine.

    Processes inside of other PID namespaces are left out: they belong to containers, as the kubelets of kind or of a
    nested node, and say nothing about this machine.

    Returns:
        dict | None: ``pid`` (int), ``arguments`` (list[str], the program first), ``kind`` (``kubelet``: a process of
        its own; ``k3s``: inside k3s; ``kubelite``: inside MicroK8s) and ``flavor`` (``kubeadm``, ``k3s``, ``rke2``,
        ``k0s``, ``microk8s``; None: unknown). A kubelet of its own is preferred, then the lowest PID.
    """
    found = []
    for process in sorted(machine.processes, key=lambda process: process.pid):
        arguments = split(process.cmdline)
        kind = _kind(arguments)
        if kind and not process.nested:
            found.append({"pid": process.pid, "arguments": arguments, "kind": kind, "flavor": _flavor(kind, arguments)})
    return min(found, key=lambda kubelet: kubelet["kind"] != "kubelet") if found else None


def split(cmdline: bytes) -> list[str]:
    """The arguments of a process.

    Args:
        cmdline (bytes): content of /proc/PID/cmdline: arguments that end in NUL. k3s overwrites it with its
            title, one text with spaces and padding.

    Returns:
        list[str]: program and arguments; empty for kernel threads and processes that are gone.
    """
    arguments = cmdline.decode("utf-8", "replace").rstrip("\0").split("\0")
    if len(arguments) == 1:
        arguments = arguments[0].split()
    return arguments


def option(arguments: list[str], name: str) -> str | None:
    """The value of an option on a kubelet's command line.

    Args:
        arguments (list[str]): program and arguments.
        name (str): the option without dashes.

    Returns:
        str | None: the value of ``--name=value`` or ``--name value``, the last one if there are several, as Go's flag
        library takes it; ``true`` for an option without value; None when the option is not there.
    """
    value = None
    for position, argument in enumerate(arguments[1:], start=1):
        if argument == "--":
            break
        for dashes in ("--", "-"):
            if argument == dashes + name:
                following = arguments[position + 1] if position + 1 < len(arguments) else ""
                value = following if following and not following.startswith("-") else "true"
            elif argument.startswith(f"{dashes}{name}="):
                value = argument.partition("=")[2]
    return value


def _kind(arguments: list[str]) -> str | None:
    program = os.path.basename(arguments[0]) if arguments else ""
    if program in ("kubelet", "kubelite"):
        return program
    # "k3s server" and "k3s agent"; k3s names its processes k3s-server and k3s-agent while it starts.
    words = [program, *arguments[1:2]]
    if words in (["k3s", "server"], ["k3s", "agent"]) or program in ("k3s-server", "k3s-agent"):
        return "k3s"
    return None


def _flavor(kind: str | None, arguments: list[str]) -> str | None:
    if kind == "k3s":
        return "k3s"
    if kind == "kubelite":
        return "microk8s"
    line = " ".join(arguments)
    for flavor, signs in _FLAVORS:
        if any(sign in line for sign in signs):
            return flavor
    return None
