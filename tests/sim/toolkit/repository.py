"""The simulated repository on this computer: made by a container that has the tools, of engines from the cache.

python -m tests.sim.toolkit.repository      # prints the folder that a node's repository container serves
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.engines import build
from tests.sim.cluster import docker, images, names, paths
from tests.sim.cluster.lock import alone
from tests.sim.cluster.progress import Say

ENGINES = {"1.17.8-1": "nvidia-container-toolkit-1.17", "1.20.2-1": "nvidia-container-toolkit-1.20"}
"""Version of the packages -> the engine whose programs they have; as contents.PROGRAMS."""


def ensure(say: Say) -> Path:
    """The apt repository for the nodes. Each prefix has its own; it is built again only when its sources changed."""
    outdir = paths.cache() / "toolkit-repository" / names.PREFIX
    outdir.mkdir(parents=True, exist_ok=True)
    with alone(f"toolkit-repository-{names.PREFIX}"):
        return apt(outdir, say)


def apt(outdir: Path, say: Say) -> Path:
    """An apt repository in outdir/srv, its private key in outdir."""
    images.ensure(say)
    return _built(images.NODE, "build_repo.py", ["--architecture", "amd64"], outdir, say)


def rpm(image: str, outdir: Path, say: Say) -> Path:
    """An rpm repository in outdir/srv, built in an image that has rpmbuild."""
    return _built(image, "build_rpm_repo.py", [], outdir, say)


def _built(image: str, script: str, options: list[str], outdir: Path, say: Say) -> Path:
    mounts = [f"{paths.SIM / 'toolkit'}:/src:ro", f"{outdir}:/out"]
    mounts += [f"{build.ensure(engine, say)}:/programs/{version}:ro" for version, engine in ENGINES.items()]
    volumes = [word for mount in mounts for word in ("--volume", mount)]
    user = f"{os.getuid()}:{os.getgid()}"
    docker.run("run", "--rm", "--network", "none", "--user", user, *volumes, "--entrypoint", "python3", image,
               "-B", f"/src/{script}", "/out/srv", "--programs", "/programs", *options)  # fmt: skip
    return outdir / "srv"


if __name__ == "__main__":
    print(ensure(print))
