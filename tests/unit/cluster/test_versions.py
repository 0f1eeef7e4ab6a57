"""The versions that a run of the end-to-end tests tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e import versions


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Kubernetes v1.37.2", "1.37.2"),
        ("containerd github.com/containerd/containerd/v2 v2.4.2 ", "2.4.2"),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", "1.6.20~ds1"),
        ("Docker version 20.10.24+dfsg1, build 297e128", "20.10.24+dfsg1"),
        ("NVIDIA Container Toolkit CLI version 1.20.2\ncommit: unknown", "1.20.2"),
        ("etcd Version: 3.7.3\nGit SHA: v3.7.3", "3.7.3"),
        ("apt 3.0.3 (amd64)", "3.0.3"),
        ("dnf5 version 5.4.6.0\ndnf5 plugin API version 2.0", "5.4.6.0"),
        ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1", "1.1.5+ds1"),
        ("command not found", ""),
    ],
)
def test_the_number_in_what_a_program_says(said: str, version: str) -> None:
    assert versions.number(said) == version


def test_each_version_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEGPU_VERSIONS", str(tmp_path))
    for place, record in enumerate(({"containerd": "2.4.2"}, {"containerd": "1.6.20", "system": "Debian 12"})):
        (tmp_path / f"{place}.json").write_text(json.dumps(record))
    assert versions.read(tmp_path) == {"system": ["Debian 12"], "containerd": ["1.6.20", "2.4.2"]}
    assert versions.table(versions.read(tmp_path)).splitlines()[1].split(maxsplit=1) == ["containerd", "1.6.20, 2.4.2"]
