"""Which versions the tests ran on, as the nodes say: for the table at the end of a run and docs/tested.json."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping
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


def read(place: Path) -> dict[str, list[str]]:
    """Component -> its versions in all records of a folder."""
    records = [json.loads(path.read_text()) for path in place.glob("*.json")]
    return merged({component: [version] for component, version in record.items()} for record in records)


def merged(records: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, list[str]]:
    """Component -> its versions in all records, each once, the lowest first."""
    found: dict[str, set[str]] = {}
    for record in records:
        for component, versions in record.items():
            found.setdefault(component, set()).update(versions)
    return {name: sorted(found[name], key=_by_number) for name in (SYSTEM, *PROGRAMS) if name in found}


def number(text: str) -> str:
    """The version in what a program says of itself: the first number with a dot."""
    match = re.search(r"\b[vV]?(\d+\.\d+[\w.+~-]*)", text)
    return match[1] if match else ""


def table(versions: dict[str, list[str]]) -> str:
    return "\n".join(f"{component:<26}{', '.join(found)}" for component, found in versions.items())


def _by_number(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", version)]


def _system(release: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    return match[1] if match else "unknown"
