"""The Docker images of the simulated nodes, built from tests/sim/cluster/image."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import docker, names, paths
from .lock import alone
from .progress import Say

DEBIAN = names.image("debian")
BASE = names.image("base")
PAUSE = names.image("pause")
NODE = names.image("node")
CRIO_NODE = names.image("crio-node")


# As Debian's slim images are made: images are loaded into every node, and more than once, so each megabyte counts.
LEFT_OUT = ("doc", "info", "locale", "man")
# The package usrmerge would bring perl; where it is needed the hook does its work.
MERGED_USR = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")

_ensured: list[bool] = []


def ensure_debian(say: Say) -> None:
    """names.SUITE as an image: $KUBEGPU_SIM_DEBIAN, a registry's, or bootstrapped from Debian's packages."""
    if given := os.environ.get("KUBEGPU_SIM_DEBIAN"):
        docker.run("tag", given, DEBIAN)
    if docker.inspect("image", DEBIAN):
        return
    public = f"docker.io/library/debian:{names.SUITE}-slim"
    say(f"Debian base image: asking the registry for {public}")
    if docker.succeeds("pull", "-q", public, timeout=300):
        docker.run("tag", public, DEBIAN)
        return
    say("Debian base image: no registry answers, bootstrapping from packages (about 30 s)")
    _bootstrap(names.SUITE, DEBIAN, ["ca-certificates"], say)


def ensure_suite(suite: str, tag: str, packages: list[str], say: Say) -> None:
    """Another release of Debian as an image, bootstrapped from its packages."""
    with alone("images"):
        if not docker.inspect("image", tag):
            say(f"image {tag}: bootstrapping from packages (about 30 s)")
            _bootstrap(suite, tag, packages, say)


def _bootstrap(suite: str, tag: str, packages: list[str], say: Say) -> None:
    _need_mmdebstrap(say)
    bootstrap = subprocess.Popen(
        [
            "mmdebstrap",
            "-q",
            '--aptopt=Acquire::Retries "5"',
            '--aptopt=Acquire::http::Timeout "20"',
            f'--aptopt=Acquire::Check-Valid-Until "{_valid_until_counts()}"',
            # mmdebstrap leaves its options in the image, whose tests want apt as it is
            '--customize-hook=sed -i /Check-Valid-Until/d "$1/etc/apt/apt.conf.d/99mmdebstrap"',
            "--variant=minbase",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
            *([f"--hook-dir={MERGED_USR}"] if MERGED_USR.is_dir() else []),
            f"--include={','.join(packages)}",
            suite,
            "-",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert bootstrap.stdout is not None
    docker.run("import", "-", tag, stdin=bootstrap.stdout)
    _, errors = bootstrap.communicate()
    if bootstrap.returncode != 0:
        docker.run("rmi", tag)
        raise docker.DockerError(f"mmdebstrap: {errors.decode(errors='replace')[-1000:]}")


def _valid_until_counts() -> str:
    """As this machine's apt has it: its mirror may be a snapshot, and testing's indexes expire within a week."""
    asked = ["apt-config", "shell", "COUNTS", "Acquire::Check-Valid-Until/b"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return "false" if "false" in said else "true"


def _need_mmdebstrap(say: Say) -> None:
    if shutil.which("mmdebstrap"):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise docker.DockerError(
            f"no registry answers for debian:{names.SUITE}-slim and mmdebstrap is not installed: install it "
            f"(mmdebstrap and debian-archive-keyring) or load an image named {DEBIAN} yourself"
        )
    say("installing mmdebstrap")
    packages = ["mmdebstrap", "debian-archive-keyring"]
    subprocess.run(["apt-get", "-qq", "update"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NOWARNINGS": "yes"},
    )


def ensure(say: Say) -> None:
    """Builds every image; layers that did not change cost nothing. A process does it once."""
    if _ensured:
        return
    with alone("images"):
        ensure_debian(say)
        for target, tag in (("base", BASE), ("pause", PAUSE), ("node", NODE)):
            _build(target, tag, say)
    _ensured.append(True)


def ensure_crio_node(say: Say) -> None:
    """Builds the image of nodes with CRI-O, which most runs do not need."""
    ensure(say)
    with alone("images"):
        _build("crio-node", CRIO_NODE, say)


def _build(target: str, tag: str, say: Say) -> None:
    say(f"image {tag}")
    docker.build(paths.SIM, paths.IMAGE / "Dockerfile", target, tag, DEBIAN=DEBIAN, PAUSE=PAUSE)


def archive(tag: str) -> Path:
    """An image as a file that docker and containerd load, written once per image."""
    image = docker.inspect("image", tag)
    if image is None:
        raise docker.DockerError(f"{tag} is not built")
    # the file holds the tag, and another prefix's image of the same content has another
    folder = paths.cache() / "images" / names.PREFIX / str(image["Id"]).split(":")[1][:12]
    path = folder / f"{tag.split('/')[-1].split(':')[0]}.tar"
    with alone("images"):
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            docker.run("save", "-o", str(partial), tag)
            partial.rename(path)
    return path


def remove() -> None:
    for tag in (CRIO_NODE, NODE, PAUSE, BASE, DEBIAN):
        if docker.inspect("image", tag):
            docker.run("rmi", "-f", tag)  # a failed build may have left a stopped container
