"""Kubernetes' server binaries: a given folder, the official release, or a build from Debian's source package."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from . import docker, images, names, paths

PROGRAMS = ("kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
RELEASE = "v1.31.13"
RELEASE_URL = "https://dl.k8s.io/release/{version}/bin/linux/amd64/{program}"


class BinariesError(RuntimeError):
    """No source of Kubernetes binaries worked."""


def ensure(say: Callable[[str], None]) -> Path:
    """The folder that holds PROGRAMS, ready to run.

    Sources in order: $KUBEGPU_K8S_BIN (a folder), $KUBEGPU_K8S_VERSION or RELEASE downloaded and checked against its
    published SHA-256, a build from Debian's source package (about five minutes on two cores). All but the first are
    kept in the cache.
    """
    if given := os.environ.get("KUBEGPU_K8S_BIN"):
        folder = Path(given).resolve()
        missing = [program for program in PROGRAMS if not os.access(folder / program, os.X_OK)]
        if missing:
            raise BinariesError(f"KUBEGPU_K8S_BIN={given}: no executable {', '.join(missing)} there")
        return folder
    version = os.environ.get("KUBEGPU_K8S_VERSION", RELEASE)
    root = paths.cache() / "kubernetes"
    asked = "KUBEGPU_K8S_VERSION" in os.environ
    for name in (version,) if asked else (version, "debian"):
        if _complete(root / name):
            return root / name
    say(f"Kubernetes {version}: asking for the official release")
    try:
        return _download(version, root / version, say)
    except (urllib.error.URLError, OSError) as error:
        if asked:
            raise BinariesError(f"Kubernetes {version} cannot be downloaded: {error}") from error
        say(f"Kubernetes {version}: not to be had ({error}); building Debian's 1.20 from source, about 5 minutes")
    return _build(root / "debian")


def version(folder: Path) -> tuple[int, int]:
    """(major, minor) of the kubelet in ``folder``."""
    text = subprocess.run([folder / "kubelet", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = text.split()[-1].lstrip("v").split(".")[:2]
    return int(major), int(minor)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in PROGRAMS)


def _download(version: str, folder: Path, say: Callable[[str], None]) -> Path:
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        url = RELEASE_URL.format(version=version, program=program)
        with urllib.request.urlopen(url + ".sha256", timeout=20) as answer:  # noqa: S310  (https, fixed host)
            wanted = answer.read().decode().split()[0]
        say(f"downloading {program}")
        digest = hashlib.sha256()
        with urllib.request.urlopen(url, timeout=60) as answer, (partial / program).open("wb") as target:  # noqa: S310
            while block := answer.read(1 << 20):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != wanted:
            raise BinariesError(f"{url}: SHA-256 is {digest.hexdigest()}, published is {wanted}")
        (partial / program).chmod(0o755)
    partial.rename(folder)
    return folder


def _build(folder: Path) -> Path:
    images.ensure_debian(lambda message: None)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [
        "docker", "run", "--rm", "--init", "--name", f"{names.PREFIX}-sim-build-{os.getpid()}",
        "-v", f"{paths.IMAGE}/build-kubernetes.sh:/build.sh:ro",
        "-v", f"{paths.IMAGE}/apt.conf:/etc/apt/apt.conf.d/80-retries:ro", "-v", f"{partial}:/out",
        "-e", f"OWNER={os.getuid()}:{os.getgid()}",
        images.DEBIAN, "bash", "/build.sh", "/out",
    ]  # fmt: skip
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise docker.DockerError("the build of Kubernetes failed; its last lines are above")
    partial.rename(folder)
    return folder
