"""Where the test cluster's Kubernetes comes from, with a release server of the test's own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.engines import EngineError, build
from tests.sim.cluster import binaries, paths

VERSION = "v1.99.0"


def silent(message: str) -> None:
    pass


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served as the release of VERSION; the cache is empty and nothing is given by variable."""
    folder = tmp_path / "served"
    folder.mkdir()
    for program in binaries.PROGRAMS:
        content = f"#!/bin/sh\necho Kubernetes {VERSION}\n".encode()
        (folder / program).write_bytes(content)
        (folder / f"{program}.sha256").write_text(hashlib.sha256(content).hexdigest())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(binaries, "RELEASE_URL", f"http://127.0.0.1:{server.server_port}/{{program}}")
    monkeypatch.setenv("KUBEGPU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBEGPU_K8S_VERSION", VERSION)
    monkeypatch.delenv("KUBEGPU_K8S_BIN", raising=False)
    yield folder
    server.shutdown()
    server.server_close()


def test_a_release_is_downloaded_once_and_kept(release: Path) -> None:
    folder = binaries.ensure(silent)
    assert binaries.version(folder) == (1, 99)
    for file in release.iterdir():
        file.unlink()
    assert binaries.ensure(silent) == folder


def test_a_download_that_is_not_what_was_published_is_refused(release: Path) -> None:
    (release / "kubelet.sha256").write_text("0" * 64)
    with pytest.raises(binaries.BinariesError, match=r"kubelet: SHA-256 is [0-9a-f]{64}, published is 0{64}"):
        binaries.ensure(silent)


def test_a_version_that_was_asked_for_is_not_replaced_by_another(release: Path) -> None:
    (release / "kube-scheduler.sha256").unlink()
    with pytest.raises(binaries.BinariesError, match=rf"Kubernetes {VERSION} cannot be downloaded: .*404"):
        binaries.ensure(silent)


def complete(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for program in binaries.PROGRAMS:
        (folder / program).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        (folder / program).chmod(0o755)
    return folder


def test_nor_by_a_build_that_is_in_the_cache(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = binaries.ENGINES[binaries.MODULES[binaries.NEWEST]]
    built = complete(build.place(newest), newest.version)
    old = complete(paths.cache() / "kubernetes" / "debian", binaries.DEBIAN_VERSION)
    assert binaries.version(binaries.ensure(silent)) == (1, 99)
    # where no release was asked for, the build of the newest serves and spares the attempt to download one
    monkeypatch.delenv("KUBEGPU_K8S_VERSION")
    assert binaries.ensure(silent) == built
    monkeypatch.setenv("KUBEGPU_K8S_VERSION", binaries.DEBIAN)
    assert binaries.ensure(silent) == old


def test_a_release_that_cannot_be_downloaded_is_built(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEGPU_K8S_VERSION", binaries.NEWEST)
    monkeypatch.setattr(binaries, "RELEASE_URL", binaries.RELEASE_URL.replace("{program}", "none/{program}"))
    asked: list[str] = []
    monkeypatch.setattr(build, "ensure", lambda name, say: asked.append(name) or release)
    assert binaries.ensure(silent) == release
    assert asked == [f"kubernetes-{binaries.NEWEST}"]


@pytest.mark.parametrize("asked", [None, binaries.NEWEST])
def test_debians_release_serves_only_where_no_other_was_asked_for(
    release: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    def refuse(name: str, say: object) -> Path:
        raise EngineError(f"{name}: go build: no space left on device")

    monkeypatch.setattr(build, "ensure", refuse)
    monkeypatch.setattr(binaries, "RELEASE_URL", binaries.RELEASE_URL.replace("{program}", "none/{program}"))
    old = complete(paths.cache() / "kubernetes" / "debian", binaries.DEBIAN_VERSION)
    if asked is None:
        monkeypatch.delenv("KUBEGPU_K8S_VERSION")
        assert binaries.ensure(silent) == old
    else:
        monkeypatch.setenv("KUBEGPU_K8S_VERSION", asked)
        with pytest.raises(binaries.BinariesError, match="no space left on device"):
            binaries.ensure(silent)


def test_an_unknown_release_is_refused(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEGPU_K8S_VERSION", "1.2")
    with pytest.raises(binaries.BinariesError, match=r"KUBEGPU_K8S_VERSION=1\.2: expected .*1\.20, or a release as v"):
        binaries.ensure(silent)


def test_an_interrupted_download_is_completed_by_the_next(release: Path) -> None:
    kept = (release / "kube-scheduler").read_bytes()
    (release / "kube-scheduler").unlink()
    with pytest.raises(binaries.BinariesError):
        binaries.ensure(silent)
    (release / "kube-scheduler").write_bytes(kept)
    assert binaries.version(binaries.ensure(silent)) == (1, 99)


def test_a_given_folder_wins_and_must_be_complete(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    monkeypatch.setenv("KUBEGPU_K8S_BIN", str(given))
    with pytest.raises(binaries.BinariesError, match="no executable kubelet, kube-apiserver"):
        binaries.ensure(silent)
    for program in binaries.PROGRAMS:
        (given / program).write_text("#!/bin/sh\n")
        (given / program).chmod(0o755)
    assert binaries.ensure(silent) == given
