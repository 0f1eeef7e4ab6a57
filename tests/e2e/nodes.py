"""Clusters for one test file: a fresh one, and gone when the file's tests are through."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle


@contextmanager
def fresh_cluster(spec: cluster.Spec) -> Iterator[Handle]:
    """A new cluster and its first node; progress goes to the terminal. KUBEGPU_E2E_KEEP=1 leaves it running."""
    started = time.monotonic()

    def say(message: str) -> None:
        print(f"[{spec.name} {time.monotonic() - started:5.0f} s] {message}", file=sys.__stderr__, flush=True)

    cluster.down(spec.name)
    yield Handle(cluster.up(spec, say), spec.node_name(1))
    if not os.environ.get("KUBEGPU_E2E_KEEP"):
        cluster.down(spec.name)
