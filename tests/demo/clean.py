"""Removes what the demo and the tests left: clusters, images, the cache."""

from __future__ import annotations

import shutil
import sys

from tests.sim.cluster import cluster, docker, images, names, paths


def built_here() -> list[str]:
    """The daemon's images that stand on the simulated nodes' base image; others were built for real nodes."""
    base = docker.inspect("image", images.BASE)
    if base is None:
        return []
    layers = base["RootFS"]["Layers"]
    listed = docker.run("images", "--format", "{{.Repository}}:{{.Tag}}", "localhost/kubegpu/nvidia-devplugin").split()
    found = {tag: docker.inspect("image", tag) for tag in listed}
    return [tag for tag, image in found.items() if image and image["RootFS"]["Layers"][: len(layers)] == layers]


def main() -> int:
    clusters = paths.clusters()
    found = {folder.name for folder in clusters.iterdir()} if clusters.is_dir() else set()
    for name in sorted(found | {"demo"}):
        print(f"removing cluster {name}", flush=True)
        cluster.down(name)
    print("removing images")
    built = built_here()
    if built:
        docker.run("rmi", "-f", *built)
    images.remove()
    for tag in docker.run("images", "--format", "{{.Repository}}:{{.Tag}}", f"{names.PREFIX}-tk-*").split():
        docker.run("rmi", "-f", tag)
    print(f"removing {paths.cache()}")
    for entry in paths.cache().iterdir():
        if entry.is_dir():  # the files there tell of an engine that was started by hand
            shutil.rmtree(entry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
