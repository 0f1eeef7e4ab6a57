"""A cluster without Kubernetes has nothing to do with the build of Kubernetes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.sim.cluster import binaries, cluster, images, paths
from tests.sim.cluster.lock import alone


def test_a_node_without_kubernetes_does_not_wait_for_its_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEGPU_CACHE", str(tmp_path))
    monkeypatch.setattr(cluster.repository, "ensure", lambda say: tmp_path)
    monkeypatch.setattr(images, "ensure", lambda say: None)
    monkeypatch.setattr(binaries, "ensure", lambda say: pytest.fail("it has no Kubernetes"))
    monkeypatch.setattr(cluster, "_running", lambda name: True)
    folder = paths.cluster("bare")
    folder.mkdir(parents=True)
    (folder / "inventory.json").touch()
    found: list[Path] = []
    with alone("kubernetes"):
        up = threading.Thread(
            target=lambda: found.append(cluster.up(cluster.Spec("bare", kubernetes=False), str)), daemon=True
        )
        up.start()
        up.join(30)
        assert found == [folder]
