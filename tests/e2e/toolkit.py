"""Machines without systemd and without a network for the tests of the role container_toolkit.

A machine is a container with ``--network none``: what the role would fetch from anywhere but the repository that its
variables name cannot be had. The repository is a folder of this computer, served inside the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sim.cluster import docker
from tests.sim.cluster.use import ROOT, PlaybookRun

URL = "http://127.0.0.1:8080/libnvidia-container"
PACKAGES = ("libnvidia-container-tools", "libnvidia-container1", "nvidia-container-toolkit",
            "nvidia-container-toolkit-base")  # fmt: skip


@dataclass
class Machine:
    """A container, and the variables that every run of the role on it gets."""

    name: str
    work: Path
    variables: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    def execute(self, *command: str) -> str:
        return docker.run("exec", self.name, *command)

    def shell(self, script: str) -> str:
        return self.execute("sh", "-c", script)

    def serve(self) -> None:
        """Serves /srv at URL's place."""
        server = ["python3", "-m", "http.server", "--directory", "/srv", "--bind", "127.0.0.1", "8080"]
        docker.run("exec", "--detach", self.name, *server)
        self.shell(
            "for i in $(seq 50); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8080))'"
            " 2>/dev/null && exit; sleep 0.1; done; exit 1"
        )

    def role(self, *options: str, **variables: Any) -> PlaybookRun:
        """Runs the role with variables of the role (without its prefix) on top of the machine's own."""
        options = (*self.options, *options)
        everything = {f"container_toolkit_{key}": value for key, value in {**self.variables, **variables}.items()}
        inventory = self.work / "inventory.json"
        host = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
        inventory.write_text(json.dumps({"all": {"hosts": {self.name: host}}}))
        play = self.work / "play.json"
        tasks = [{"ansible.builtin.import_role": {"name": "kubegpu.nvidia.container_toolkit"}}]
        play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": everything, "tasks": tasks}]))
        tools = Path(sys.executable).parent
        done = subprocess.run(
            [tools / "ansible-playbook", "-i", inventory, play, *options],
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        return PlaybookRun(done.returncode, done.stdout + done.stderr, 0)

    def works(self, *options: str, **variables: Any) -> PlaybookRun:
        run = self.role(*options, **variables)
        assert run.returncode == 0, run.output
        return run

    def settles(self, **variables: Any) -> None:
        """The role works, and a second run has nothing to do."""
        self.works(**variables)
        again = self.works(**variables)
        assert again.changed == 0, again.output

    def refuses(self, *words: str, options: tuple[str, ...] = (), **variables: Any) -> None:
        """The role fails and says these words."""
        run = self.role(*options, **variables)
        assert run.returncode != 0, run.output
        said = " ".join(run.output.split())
        assert [word for word in words if word not in said] == [], run.output

    def files(self, *places: str) -> str:
        """All files below the places, with their content's digest."""
        return self.shell(
            f"find {' '.join(places)} -type f -print0 2>/dev/null | sort -z | xargs -0r sha256sum;"
            f" find {' '.join(places)} -type l -print 2>/dev/null | sort"
        )


@contextmanager
def machine(image: str, served: Path, work: Path) -> Iterator[Machine]:
    name = f"kubegpu-tk-{uuid.uuid4().hex[:8]}"
    docker.run("run", "--detach", "--network", "none", "--name", name, "--entrypoint", "sleep",
               "--volume", f"{served}:/srv", image, "infinity")  # fmt: skip
    try:
        yield Machine(name, work)
    finally:
        docker.run("rm", "--force", name)
