"""What one does with a cluster that is up: kubectl, commands on a node, playbooks against it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import docker
from .wait import wait_for

__all__ = ["ROOT", "Handle", "PlaybookRun", "wait_for"]

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class PlaybookRun:
    """How a playbook ended. ``stats`` maps a host to its recap line's counters (ok, changed, failed, …)."""

    returncode: int
    output: str
    seconds: float

    @property
    def stats(self) -> dict[str, dict[str, int]]:
        recap = self.output.rpartition("PLAY RECAP")[2]
        return {
            match[1]: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match[2])}
            for match in re.finditer(r"^(\S+)\s+: (ok=.*)$", recap, re.MULTILINE)
        }

    @property
    def changed(self) -> int:
        return sum(counters["changed"] for counters in self.stats.values())


@dataclass(frozen=True)
class Handle:
    """A running cluster: its folder (see cluster.up) and its first node's container."""

    folder: Path
    node: str

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.json"

    def execute(self, *command: str, timeout: float = 120) -> str:
        """Runs a command on the node; returns its output, raises docker.DockerError with its last words."""
        return docker.run("exec", self.node, *command, timeout=timeout)

    def kubectl(self, *arguments: str) -> str:
        return self.execute("kubectl", *arguments)

    def get(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def apply(self, document: dict[str, Any]) -> None:
        """Creates or updates one object; it travels as a file, not as text in a command."""
        path = self.folder / self.node / "apply.json"  # the node's /etc/kubernetes
        path.write_text(json.dumps(document))
        self.kubectl("apply", "-f", f"/etc/kubernetes/{path.name}")
        path.unlink()

    def version(self) -> tuple[int, int]:
        """The cluster's Kubernetes, (major, minor)."""
        found = json.loads(self.kubectl("version", "-o", "json"))["serverVersion"]
        return int(found["major"]), int(re.sub(r"\D", "", found["minor"]))

    def allocated(self, pod: str) -> dict[str, list[str]]:
        """Resource -> devices that the kubelet gave to a pod, in its own record."""
        uid = self.get("pod", pod)["metadata"]["uid"]
        checkpoint = json.loads(self.execute("cat", "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"))
        found: dict[str, list[str]] = {}
        for entry in (entry for entry in checkpoint["Data"]["PodDeviceEntries"] if entry["PodUID"] == uid):
            ids = entry["DeviceIDs"]  # by NUMA node, but for old releases
            given = [item for items in ids.values() for item in items] if isinstance(ids, dict) else ids
            found.setdefault(entry["ResourceName"], []).extend(given)
        return found

    def gpus(self, kind: str = "allocatable") -> int:
        """The node's nvidia.com/gpu in ``capacity`` or ``allocatable``; 0 where it has none."""
        return int(self.get("node", self.node)["status"][kind].get("nvidia.com/gpu", "0"))

    def playbook(self, name: str, *arguments: str, show: bool = False, collections: Path | None = None) -> PlaybookRun:
        """Runs a playbook against the cluster, with its output on the terminal as well if ``show``.

        ``name`` is a file in the checkout's playbooks/ or, with ``collections`` (the folder of an installed
        collection), a playbook of it by its full name.
        """
        tools = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        environment["ANSIBLE_FORCE_COLOR" if show and sys.stdout.isatty() else "ANSIBLE_NOCOLOR"] = "1"
        if collections is None:
            environment["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
            name = f"playbooks/{name}"
        else:
            environment.pop("ANSIBLE_CONFIG", None)
            environment["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
        command = [str(tools / "ansible-playbook"), "-i", str(self.inventory), name, *arguments]
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=collections or ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if show:
                print(line, end="", flush=True)
        output = re.sub(r"\x1b\[[0-9;]*m", "", "".join(lines))
        return PlaybookRun(process.wait(), output, time.monotonic() - started)
