"""One simulated node for all end-to-end tests. KUBEGPU_E2E_KEEP=1 leaves it running for a look afterwards."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest

from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle

SPEC = cluster.Spec("e2e", gpus=2)


@pytest.fixture(scope="session")
def node() -> Iterator[Handle]:
    """A fresh node with two GPUs and a Kubernetes, as a person finds it before the first run of site.yml."""
    started = time.monotonic()

    def say(message: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {message}", file=sys.__stderr__, flush=True)

    cluster.down(SPEC.name)
    yield Handle(cluster.up(SPEC, say), SPEC.node_name(1))
    if not os.environ.get("KUBEGPU_E2E_KEEP"):
        cluster.down(SPEC.name)
