"""What the end-to-end tests share: a node for those that ask for no other, and their division among processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle

SPEC = cluster.Spec("e2e", gpus=2)


@pytest.fixture(scope="session")
def node() -> Iterator[Handle]:
    """A fresh node with two GPUs and a Kubernetes, as a person finds it before the first run of site.yml."""
    with fresh_cluster(SPEC) as handle:
        yield handle


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (-n 2 --dist loadgroup) a file's tests stay together: they build on each other.

    A test that uses another file's node says so with the marker xdist_group and that file's name.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
