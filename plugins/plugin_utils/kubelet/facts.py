# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decides which container runtime the kubelet uses, and says from where that is known."""

from __future__ import annotations

import re
from typing import Any

from . import process, runtimes, settings
from .machine import (
    DOCKER_SHIMS,
    DOCKERSHIMS,
    K3S_CONFIG,
    K3S_CONFIGS,
    K3S_CRI_DOCKERD,
    K3S_DOCKER,
    K3S_ENDPOINT,
    K3S_KUBELET,
    KUBEADM_CONFIG,
    KUBEADM_FLAGS,
    MICROK8S_FLAGS,
    Machine,
)

# The default since dockershim has gone (Kubernetes 1.24; kubelet's reference, --container-runtime-endpoint).
_DEFAULT_ENDPOINT = "unix:///run/containerd/containerd.sock"
_K3S_CONTAINERD = "unix:///run/k3s/containerd/containerd.sock"

# Options that went away together with dockershim in 1.24: only a kubelet before it can have been started with them.
_DOCKERSHIM_OPTIONS = ("docker-endpoint", "network-plugin", "cni-bin-dir", "cni-conf-dir")
_KEY = "containerRuntimeEndpoint"


def gather(machine: Machine, wanted: str = "auto") -> dict[str, Any]:
    """The facts as the module returns them.

    Args:
        machine (Machine): where the kubelet is looked for. Raises its LookError.
        wanted (str): the runtime that is to be set up, ``auto`` for the kubelet's.

    Returns:
        dict: see the module's documentation. The keys are the same whatever is known.
    """
    found = process.find(machine)
    installed = runtimes.installed(machine)
    endpoint, runtime, source = _decide(machine, found, installed)
    return {
        "kubelet_running": found is not None,
        "kubelet_pid": found["pid"] if found else None,
        "endpoint": endpoint,
        "runtime": runtime,
        "source": source,
        "flavor": found["flavor"] if found else None,
        "installed": installed,
        "to_set_up": runtimes.to_set_up(wanted, runtime, installed),
    }


def _decide(
    machine: Machine, found: dict[str, Any] | None, installed: dict[str, Any]
) -> tuple[str | None, str | None, str | None]:
    """(endpoint, runtime, source): the first of command line, files, defaults and sockets that tells."""
    if found is None:
        told = _kubeadm_leftovers(machine)
    elif found["kind"] == "k3s":
        told = _k3s(machine, found["arguments"])
    else:
        told = _kubelet(machine, found)
    if told is not None:
        return told
    runtime = _by_sockets(machine, installed)
    return None, runtime, "sockets" if runtime else None


def _named(endpoint: str, source: str) -> tuple[str | None, str | None, str | None]:
    endpoint = endpoint if "://" in endpoint else "unix://" + endpoint
    return endpoint, runtimes.of_endpoint(endpoint), source


def _kubelet(machine: Machine, found: dict[str, Any]) -> tuple[str | None, str | None, str | None] | None:
    arguments = found["arguments"]
    if found["kind"] == "kubelite":
        arguments = [arguments[0], *_kubelite_words(machine, arguments)]
    if process.option(arguments, "container-runtime") == "docker":
        return None, "docker", "command line"
    endpoint = process.option(arguments, "container-runtime-endpoint")
    if endpoint:
        return _named(endpoint, "command line")
    directory, file = process.option(arguments, "config-dir"), process.option(arguments, "config")
    endpoint = settings.directory_key(machine, directory, _KEY, ".conf") if directory else None
    if endpoint:
        return _named(endpoint, "config directory")
    endpoint = settings.file_key(machine, file, _KEY) if file else None
    if endpoint:
        return _named(endpoint, "config file")
    before_1_24 = _before_1_24(machine, found, arguments)
    if before_1_24 is None:
        return None
    return (None, "docker", "default") if before_1_24 else _named(_DEFAULT_ENDPOINT, "default")


def _kubelite_words(machine: Machine, arguments: list[str]) -> list[str]:
    path = process.option(arguments, "kubelet-args-file") or MICROK8S_FLAGS
    return [word.replace("${SNAP_COMMON}", "/var/snap/microk8s/common") for word in settings.words(machine, path)]


def _k3s(machine: Machine, arguments: list[str]) -> tuple[str | None, str | None, str | None]:
    endpoint = process.option(arguments, K3S_ENDPOINT) or _k3s_key(machine, K3S_ENDPOINT)
    if endpoint:
        return _named(endpoint, "config file")
    if process.option(arguments, K3S_DOCKER) == "true" or _k3s_key(machine, K3S_DOCKER) == "true":
        return _named(K3S_CRI_DOCKERD, "config file")
    endpoint = settings.directory_key(machine, K3S_KUBELET, _KEY, ".conf")
    if endpoint:
        return _named(endpoint, "config directory")
    # k3s hides its own command line: where its file says nothing, the socket that it listens on tells.
    if runtimes.first_socket(machine, (K3S_CRI_DOCKERD,)):
        return _named(K3S_CRI_DOCKERD, "sockets")
    return _named(_K3S_CONTAINERD, "default")


def _k3s_key(machine: Machine, name: str) -> str | None:
    in_folder = settings.directory_key(machine, K3S_CONFIGS, name, (".yaml", ".yml"))
    return in_folder or settings.file_key(machine, K3S_CONFIG, name)


def _kubeadm_leftovers(machine: Machine) -> tuple[str | None, str | None, str | None] | None:
    """What kubeadm wrote down for a kubelet that does not run right now."""
    words = ["kubelet", *settings.words(machine, KUBEADM_FLAGS)]
    words = [word.replace("KUBELET_KUBEADM_ARGS=", "") for word in words]
    if process.option(words, "container-runtime") == "docker":
        return None, "docker", "config file"
    endpoint = process.option(words, "container-runtime-endpoint")
    endpoint = endpoint or settings.file_key(machine, KUBEADM_CONFIG, _KEY)
    return _named(endpoint, "config file") if endpoint else None


def _before_1_24(machine: Machine, found: dict[str, Any], arguments: list[str]) -> bool | None:
    """Whether this kubelet still has dockershim; None when nothing tells."""
    if runtimes.first_socket(machine, DOCKERSHIMS):
        return True
    if any(process.option(arguments, name) for name in _DOCKERSHIM_OPTIONS):
        return True
    # The running program itself, even if the file was replaced meanwhile.
    match = re.search(r"v(\d+)\.(\d+)", machine.version_now(f"/proc/{found['pid']}/exe") or "")
    return (int(match.group(1)), int(match.group(2))) < (1, 24) if match else None


def _by_sockets(machine: Machine, installed: dict[str, Any]) -> str | None:
    """The runtime that a kubelet would most likely find; Docker before the containerd that it runs on."""
    if runtimes.first_socket(machine, DOCKER_SHIMS):
        return "docker"
    for name in ("crio", "docker", "containerd"):
        if name in installed and installed[name]["socket"]:
            return name
    return None
