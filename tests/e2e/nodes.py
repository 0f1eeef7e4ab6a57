"""Clusters for one test file: a fresh one, and gone when the file's tests are through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e import versions
from tests.sim.cluster import cluster, progress
from tests.sim.cluster.use import ROOT, Handle, wait_for


@contextmanager
def fresh_cluster(spec: cluster.Spec) -> Iterator[Handle]:
    """A new cluster and its first node; progress goes to the terminal. KUBEGPU_E2E_KEEP=1 leaves it running."""
    cluster.down(spec.name)
    yield Handle(cluster.up(spec, progress.timed(sys.__stderr__, spec.name)), spec.node_name(1))
    versions.record(spec.node_name(1))
    if not os.environ.get("KUBEGPU_E2E_KEEP"):
        cluster.down(spec.name)


def kill_when(what: str, condition: Callable[[], object], machine: Handle, playbook: str, *arguments: str) -> None:
    """Start a playbook, and end it with all its processes, without a word, as soon as ``condition`` is true."""
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", machine.inventory, f"playbooks/{playbook}"]
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(what, lambda: condition() or process.poll() is not None, 900)
        assert process.poll() is None, f"{playbook} ended before {what}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
