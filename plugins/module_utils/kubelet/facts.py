# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decides which container runtime the kubelet uses, and says from where that is known."""

from __future__ import annotations

import os
import re
from typing import Any, Callable

from . import process, runtimes, settings

# The default since dockershim has gone (Kubernetes 1.24; kubelet's reference, --container-runtime-endpoint).
_DEFAULT_ENDPOINT = "unix:///run/containerd/containerd.sock"
_K3S_CONTAINERD = "unix:///run/k3s/containerd/containerd.sock"
_K3S_CRI_DOCKERD = "unix:///run/k3s/cri-dockerd/cri-dockerd.sock"

# Options that went away together with dockershim in 1.24: only a kubelet before it can have been started with them.
_DOCKERSHIM_OPTIONS = ("docker-endpoint", "network-plugin", "cni-bin-dir", "cni-conf-dir")
_KEY = "containerRuntimeEndpoint"


def gather(
    root: str = "/", run: Callable[..., Any] | None = None, versions: bool = True, wanted: str = "auto"
) -> dict[str, Any]:
    """The facts as the module returns them.

    Args:
        root (str): directory below which the machine's file systems lie.
        run (Callable[[list[str]], tuple[int, str, str]] | None): runs a program; exit status, output and errors.
            None: no program is run, and versions stay unknown.
        versions (bool): whether the runtimes' programs are run for their versions.
        wanted (str): the runtime that is to be set up, ``auto`` for the kubelet's.

    Returns:
        dict: see the module's documentation. The keys are the same whatever is known.
    """
    found = process.find(root)
    installed = runtimes.installed(root, run if versions else None)
    endpoint, runtime, source = _decide(root, found, installed, run)
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
    root: str, found: dict[str, Any] | None, installed: dict[str, Any], run: Callable[..., Any] | None
) -> tuple[str | None, str | None, str | None]:
    """(endpoint, runtime, source): the first of command line, files, defaults and sockets that tells."""
    if found is None:
        told = _kubeadm_leftovers(root)
    elif found["kind"] == "k3s":
        told = _k3s(root, found["arguments"])
    else:
        told = _kubelet(root, found, run)
    if told is not None:
        return told
    runtime = _by_sockets(root, installed)
    return None, runtime, "sockets" if runtime else None


def _named(endpoint: str, source: str) -> tuple[str | None, str | None, str | None]:
    endpoint = endpoint if "://" in endpoint else "unix://" + endpoint
    return endpoint, runtimes.of_endpoint(endpoint), source


def _kubelet(
    root: str, found: dict[str, Any], run: Callable[..., Any] | None
) -> tuple[str | None, str | None, str | None] | None:
    arguments = found["arguments"]
    if found["kind"] == "kubelite":
        arguments = [arguments[0], *_kubelite_words(root, arguments)]
    if process.option(arguments, "container-runtime") == "docker":
        return None, "docker", "command line"
    endpoint = process.option(arguments, "container-runtime-endpoint")
    if endpoint:
        return _named(endpoint, "command line")
    directory, file = process.option(arguments, "config-dir"), process.option(arguments, "config")
    for source, value in (
        ("config directory", directory and settings.directory_key(root, directory, _KEY, ".conf")),
        ("config file", file and settings.file_key(root, file, _KEY)),
    ):
        if value:
            return _named(value, source)
    before_1_24 = _before_1_24(root, found, arguments, run)
    if before_1_24 is None:
        return None
    return (None, "docker", "default") if before_1_24 else _named(_DEFAULT_ENDPOINT, "default")


def _kubelite_words(root: str, arguments: list[str]) -> list[str]:
    path = process.option(arguments, "kubelet-args-file") or "/var/snap/microk8s/current/args/kubelet"
    return [word.replace("${SNAP_COMMON}", "/var/snap/microk8s/common") for word in settings.words(root, path)]


def _k3s(root: str, arguments: list[str]) -> tuple[str | None, str | None, str | None]:
    endpoint = process.option(arguments, "container-runtime-endpoint") or _k3s_key(root, "container-runtime-endpoint")
    if endpoint:
        return _named(endpoint, "config file")
    if process.option(arguments, "docker") == "true" or _k3s_key(root, "docker") == "true":
        return _named(_K3S_CRI_DOCKERD, "config file")
    endpoint = settings.directory_key(root, "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d", _KEY, ".conf")
    if endpoint:
        return _named(endpoint, "config directory")
    # k3s hides its own command line: where its file says nothing, the socket that it listens on tells.
    if runtimes.first_socket(root, ("run/k3s/cri-dockerd/cri-dockerd.sock",)):
        return _named(_K3S_CRI_DOCKERD, "sockets")
    return _named(_K3S_CONTAINERD, "default")


def _k3s_key(root: str, name: str) -> str | None:
    return settings.directory_key(root, "/etc/rancher/k3s/config.yaml.d", name, (".yaml", ".yml")) or settings.file_key(
        root, "/etc/rancher/k3s/config.yaml", name
    )


def _kubeadm_leftovers(root: str) -> tuple[str | None, str | None, str | None] | None:
    """What kubeadm wrote down for a kubelet that does not run right now."""
    words = ["kubelet", *settings.words(root, "/var/lib/kubelet/kubeadm-flags.env")]
    words = [word.replace("KUBELET_KUBEADM_ARGS=", "") for word in words]
    if process.option(words, "container-runtime") == "docker":
        return None, "docker", "config file"
    endpoint = process.option(words, "container-runtime-endpoint")
    endpoint = endpoint or settings.file_key(root, "/var/lib/kubelet/config.yaml", _KEY)
    return _named(endpoint, "config file") if endpoint else None


def _before_1_24(root: str, found: dict[str, Any], arguments: list[str], run: Callable[..., Any] | None) -> bool | None:
    """Whether this kubelet still has dockershim; None when nothing tells."""
    if runtimes.first_socket(root, ("run/dockershim.sock", "var/run/dockershim.sock")):
        return True
    if any(process.option(arguments, name) for name in _DOCKERSHIM_OPTIONS):
        return True
    if run is None:
        return None
    # The running program itself, even if the file was replaced meanwhile.
    status, output, _errors = run([os.path.join(root, "proc", str(found["pid"]), "exe"), "--version"])
    match = re.search(r"v(\d+)\.(\d+)", output) if status == 0 else None
    return (int(match.group(1)), int(match.group(2))) < (1, 24) if match else None


def _by_sockets(root: str, installed: dict[str, Any]) -> str | None:
    """The runtime that a kubelet would most likely find; Docker before the containerd that it runs on."""
    if runtimes.first_socket(root, runtimes.DOCKER_SHIMS):
        return "docker"
    for name in ("crio", "docker", "containerd"):
        if name in installed and installed[name]["socket"]:
            return name
    return None
