"""Images as files: what a node loads has the tag that it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.cluster import docker, images, names


def test_the_same_image_under_another_prefix_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> str:
        Path(arguments[2]).write_text(arguments[-1])
        return ""

    monkeypatch.setenv("KUBEGPU_CACHE", str(tmp_path))
    monkeypatch.setattr(docker, "inspect", lambda *_: {"Id": "sha256:0123456789abcdef"})
    monkeypatch.setattr(docker, "run", run)
    saved = {}
    for prefix in ("one", "two"):
        monkeypatch.setattr(names, "PREFIX", prefix)
        tag = names.image("pause")
        saved[tag] = images.archive(tag).read_text()
    assert saved == {tag: tag for tag in saved}
    assert len(saved) == 2
