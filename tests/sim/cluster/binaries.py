"""Kubernetes' programs: a given folder, the official release, a build from Go modules, or Debian's source package."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.engines import EngineError, build
from tests.engines.catalogue import ENGINES, series

from . import docker, images, names, paths
from .progress import Say

PROGRAMS = ("kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
RELEASE_URL = "https://dl.k8s.io/release/{version}/bin/linux/amd64/{program}"

MODULES = series("kubernetes")
"""Minor releases that can be built from Go modules -> the engine of the catalogue."""
NEWEST = next(iter(MODULES))
DEBIAN = "1.20"
"""The minor release whose source Debian 12 has."""
DEBIAN_VERSION = "v1.20.2"


class BinariesError(RuntimeError):
    """No source of Kubernetes binaries worked."""


def ensure(say: Say) -> Path:
    """The folder that holds PROGRAMS, ready to run.

    $KUBEGPU_K8S_BIN names such a folder. Else $KUBEGPU_K8S_VERSION is a minor release of MODULES or DEBIAN (default:
    NEWEST), or an exact release as v1.36.3. Sources in order: the official release, checked against its published
    SHA-256; a build from Go modules (NEWEST: about 12 minutes on two cores); for 1.20, or where no release was asked
    for and there is no other source, a build of Debian's source package (about 5 minutes). All but the first are kept
    in the cache.
    """
    if given := os.environ.get("KUBEGPU_K8S_BIN"):
        folder = Path(given).resolve()
        missing = [program for program in PROGRAMS if not os.access(folder / program, os.X_OK)]
        if missing:
            raise BinariesError(f"KUBEGPU_K8S_BIN={given}: no executable {', '.join(missing)} there")
        return folder
    asked = os.environ.get("KUBEGPU_K8S_VERSION")
    wanted = asked or NEWEST
    if wanted.startswith("v"):
        return _released(wanted, say)
    if wanted not in (*MODULES, DEBIAN):
        raise BinariesError(
            f"KUBEGPU_K8S_VERSION={wanted}: expected {', '.join(MODULES)}, {DEBIAN}, or a release as v1.36.3"
        )
    built = build.place(ENGINES[MODULES[wanted]]) if wanted in MODULES else _debian_folder()
    if _complete(built):
        return built
    version = ENGINES[MODULES[wanted]].version if wanted in MODULES else DEBIAN_VERSION
    try:
        return _released(version, say)
    except BinariesError as error:
        say(f"{error}; building it")
    if wanted == DEBIAN:
        return _build(say)
    try:
        return build.ensure(MODULES[wanted], say)
    except EngineError as error:
        if asked:
            raise BinariesError(str(error)) from error
        say(f"{error}; falling back to Debian's {DEBIAN}: tests that need a newer Kubernetes are skipped")
    return _debian_folder() if _complete(_debian_folder()) else _build(say)


def version(folder: Path) -> tuple[int, int]:
    """(major, minor) of the kubelet in ``folder``."""
    text = subprocess.run([folder / "kubelet", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = text.split()[-1].lstrip("v").split(".")[:2]
    return int(major), int(minor)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in PROGRAMS)


def _released(version: str, say: Say) -> Path:
    folder = paths.cache() / "kubernetes" / version
    if _complete(folder):
        return folder
    say(f"Kubernetes {version}: asking for the official release (about 400 MB)")
    started = time.monotonic()
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        for program in PROGRAMS:
            _download(RELEASE_URL.format(version=version, program=program), partial / program)
            say(f"downloaded {program}, {time.monotonic() - started:.0f} s")
    except (urllib.error.URLError, OSError) as error:
        raise BinariesError(f"Kubernetes {version} cannot be downloaded: {error}") from error
    partial.rename(folder)
    return folder


def _download(url: str, target: Path) -> None:
    with urllib.request.urlopen(url + ".sha256", timeout=20) as answer:  # noqa: S310  (https, fixed host)
        wanted = answer.read().decode().split()[0]
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as file:  # noqa: S310
        while block := answer.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != wanted:
        raise BinariesError(f"{url}: SHA-256 is {digest.hexdigest()}, published is {wanted}")
    target.chmod(0o755)


def _debian_folder() -> Path:
    return paths.cache() / "kubernetes" / "debian"


def _build(say: Say) -> Path:
    say(f"building Kubernetes {DEBIAN} from Debian's source package, about 5 minutes on two cores")
    folder = _debian_folder()
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
