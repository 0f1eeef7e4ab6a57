"""Which versions the tests ran on, as the nodes say: for the table at the end of a run and docs/tested.json."""

from __future__ import annotations

import json
import os
import re
import uuid
from pathlib import Path

from tests.sim.cluster import docker
from tests.sim.cluster.use import ROOT

PROGRAMS = {
    "Kubernetes": ("/opt/kubernetes/bin/kubelet", "--version"),
    "etcd": ("etcd", "--version"),
    "containerd": ("containerd", "--version"),
    "CRI-O": ("crio", "--version"),
    "runc": ("runc", "--version"),
    "Docker Engine": ("dockerd", "--version"),
    "NVIDIA Container Toolkit": ("nvidia-ctk", "--version"),
    "apt": ("apt-get", "--version"),
    "dnf": ("dnf", "--version"),
    "dnf5": ("dnf5", "--version"),
    "zypper": ("zypper", "--version"),
}
"""Component -> the command that tells its version."""
SYSTEM = "system"
"""The component that is the node's operating system."""


def folder() -> Path:
    """Where records are kept: $KUBEGPU_VERSIONS, else in the checkout's cache."""
    return Path(os.environ.get("KUBEGPU_VERSIONS") or ROOT / ".cache" / "versions")


def record(container: str, system: bool = True) -> None:
    """Asks every program of PROGRAMS that a container has, and keeps the answers, among them which system it is."""
    found = {SYSTEM: _system(docker.run("exec", container, "cat", "/etc/os-release"))} if system else {}
    for component, command in PROGRAMS.items():
        try:
            text = docker.run("exec", container, *command, timeout=30)
        except docker.DockerError:  # not there
            continue
        if version := number(text):
            found[component] = version
    folder().mkdir(parents=True, exist_ok=True)
    (folder() / f"{uuid.uuid4().hex}.json").write_text(json.dumps(found))


def read() -> dict[str, list[str]]:
    """Component -> its versions, each once, in all records."""
    found: dict[str, set[str]] = {}
    for path in folder().glob("*.json"):
        for component, version in json.loads(path.read_text()).items():
            found.setdefault(component, set()).add(version)
    order = [SYSTEM, *PROGRAMS]
    return {component: sorted(found[component]) for component in order if component in found}


def number(text: str) -> str:
    """The version in what a program says of itself: the first number with a dot."""
    match = re.search(r"\b[vV]?(\d+\.\d+[\w.+~-]*)", text)
    return match[1] if match else ""


def table(versions: dict[str, list[str]]) -> str:
    return "\n".join(f"{component:<26}{', '.join(found)}" for component, found in versions.items())


def _system(release: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    return match[1] if match else "unknown"
