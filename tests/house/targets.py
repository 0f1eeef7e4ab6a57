"""The oldest and the newest Python that a target may have, as far as this machine has them, and modules run by them.

``python -m tests.house.targets`` runs the modules' own tests by each of them, ``--prepare`` only installs the old
ansible-core that the oldest needs. KUBEGPU_TARGET=oldest or newest tells the tests by which Python modules run.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.house import sanity
from tests.house.repository import ROOT

OLDEST = "3.7"
"""What the oldest supported ansible-core, OLD_CORE, asks of targets; the later ones ask for more."""

OLD_CORE = "2.17"
TESTS = ("tests/unit/plugins/modules",)
SELECTED = "not killed and not through_ansible and not target_pythons"
"""What is killed is watched from inside by our own Python; what goes through Ansible has its Python already."""

WHICH = ("oldest", "newest")
COLLECTIONS = ROOT / ".cache/collections"


class MissingError(Exception):
    """This machine lacks what a target's Python needs; the message says what."""


@dataclass(frozen=True)
class Target:
    """A Python, and the environment whose ansible-core sends modules to it."""

    python: Path
    core: Path

    @property
    def ansible(self) -> Path:
        return self.core / "bin" / "ansible"

    @property
    def path(self) -> str:
        """PYTHONPATH by which a module that was not packed finds the collection, Ansible, and our pynvml.

        pynvml is one file that any Python 3 reads.
        """
        folders = [COLLECTIONS]
        for environment in dict.fromkeys((self.core, Path(sys.prefix))):
            folders += (environment / "lib").glob("python3*/site-packages")
        return ":".join(map(str, folders))


pythons = functools.lru_cache(maxsize=1)(sanity.pythons)


def newest() -> Target:
    """The newest Python here, with the ansible-core of the virtual environment."""
    last = max(pythons(), key=lambda minor: int(minor.partition(".")[2]))
    return Target(pythons()[last], Path(sys.prefix))


def oldest() -> Target:
    """Python 3.7 with the ansible-core that prepare() installed. Raises MissingError."""
    if OLDEST not in pythons():
        raise MissingError(f"no Python {OLDEST} on this machine")
    target = Target(pythons()[OLDEST], sanity.HOME / f"core-{OLD_CORE}")
    if not target.ansible.exists():
        raise MissingError(f"no ansible-core {OLD_CORE} here: python -m tests.house.targets --prepare installs it")
    return target


def find(which: str) -> Target:
    """Raises MissingError."""
    return oldest() if which == "oldest" else newest()


def chosen() -> tuple[str, str]:
    """(Python, PYTHONPATH) to run a module by: what KUBEGPU_TARGET names, or our own Python. Raises MissingError."""
    which = os.environ.get("KUBEGPU_TARGET")
    if not which:
        return sys.executable, str(COLLECTIONS)
    target = find(which)
    return str(target.python), target.path


def prepare() -> str:
    """Installs OLD_CORE where the oldest Python is here; what is missing, or nothing."""
    if OLDEST not in pythons():
        return f"no Python {OLDEST} on this machine"
    cores, skipped = sanity.choose(pythons())
    core = next((core for core in cores if core.series == OLD_CORE), None)
    if core is None:
        return skipped[0]
    try:
        sanity.tools(core)
    except subprocess.CalledProcessError as error:
        return f"ansible-core {OLD_CORE} could not be installed: {error}"
    return ""


def main(arguments: list[str]) -> int:
    missing = prepare()
    if missing:
        print(f"modules are not tested by the oldest Python of targets: {missing}", flush=True)
    if "--prepare" in arguments:
        return 0
    status = 0
    for which in WHICH:
        if which == "oldest" and missing:
            continue
        print(f"modules run by {find(which).python}", flush=True)
        command = [sys.executable, "-m", "pytest", "-n", os.environ.get("WORKERS", "2"), "-k", SELECTED, *TESTS]
        environment = {**os.environ, "KUBEGPU_TARGET": which}
        status = max(status, subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
