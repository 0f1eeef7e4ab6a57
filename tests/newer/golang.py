"""Go, and the Kubernetes libraries for it, from a later suite of Debian; programs that are built with them.

All of it is kept in the cache (about 400 MB). Nothing is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.engines import debian as engines
from tests.sim.cluster import paths
from tests.sim.cluster.lock import alone

SUITE = "forky"
GO = "1.27"
TOOLS = [f"golang-{GO}-go", f"golang-{GO}-src"]
LIBRARIES = [
    f"golang-{name}-dev"
    for name in (
        *("k8s-api", "k8s-apimachinery", "github-kubernetes-kubelet", "google-grpc"),
        # what these import
        *("k8s-klog", "k8s-kube-openapi", "k8s-sigs-json", "k8s-sigs-randfill", "k8s-sigs-structured-merge-diff-v6"),
        *("k8s-sigs-yaml", "k8s-utils", "google-genproto", "google-protobuf", "golang-x-net", "golang-x-sys"),
        *("golang-x-text", "gopkg-inf.v0", "gopkg-yaml.v2", "github-fxamacker-cbor", "github-go-logr-logr"),
        *("github-gogo-protobuf", "github-golang-protobuf-1-5", "github-json-iterator-go"),
        *("github-modern-go-concurrent", "github-modern-go-reflect2", "github-x448-float16"),
    )
]


def program(name: str) -> Path:
    """The program whose sources are the folder ``name`` beside this file; built where its sources changed."""
    sources = Path(__file__).with_name(name)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(sources.glob("*.go")))).hexdigest()[:12]
    target = paths.cache() / "golang" / f"{name}-{digest}"
    with alone("golang"):
        if not target.exists():
            _build(sources, target, _root())
    return target


def _root() -> Path:
    folder = paths.cache() / "golang" / f"{SUITE}-{GO}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        engines.unpack([*TOOLS, *LIBRARIES], SUITE, folder)
    return folder


def _build(sources: Path, target: Path, root: Path) -> None:
    go = root / "usr/lib" / f"go-{GO}"
    partial = target.with_suffix(".partial")
    subprocess.run(
        [go / "bin/go", "build", "-o", partial, "."],
        cwd=sources,
        env={
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "GOROOT": str(go),
            "GOPATH": str(root / "usr/share/gocode"),
            "GOCACHE": str(root / "cache"),
            "GO111MODULE": "off",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        },
        check=True,
    )
    partial.rename(target)
