"""Programs of the versions under test that a Kubernetes node gets in addition to its image's."""

from __future__ import annotations

import os
from pathlib import Path

from tests.engines import EngineError, build, debian
from tests.engines.catalogue import series

from .progress import Say

CONTAINERD = series("containerd")
"""Series of containerd that are built from Go modules -> the engine; debian.CONTAINERD has others."""
NEWEST = next(iter(CONTAINERD))
CRIO = "KUBEGPU_CRIO"
"""The variable that names the program crio."""
OF_IMAGE = "image"
"""The value of $KUBEGPU_SIM_CONTAINERD that keeps the image's own containerd."""


def of_node(runtime: str, say: Say) -> dict[str, Path]:
    """Place on the node -> program. $KUBEGPU_SIM_CONTAINERD names a series of containerd (default: NEWEST)."""
    found = crio() if runtime == "crio" else {}
    folders = [] if found else [containerd(os.environ.get("KUBEGPU_SIM_CONTAINERD", NEWEST), say)]
    folders += [build.ensure(next(iter(series(kind).values())), say) for kind in ("etcd", "cri-tools")]
    programs = [program for folder in folders if folder for program in folder.iterdir()]
    return {**found, **{f"/usr/bin/{program.name}": program for program in programs}}


def containerd(wanted: str, say: Say) -> Path | None:
    """The folder with containerd, its shim and ctr; None for the image's own. Raises EngineError."""
    if wanted == OF_IMAGE:
        return None
    if wanted in CONTAINERD:
        return build.ensure(CONTAINERD[wanted], say)
    if wanted not in debian.CONTAINERD:
        known = ", ".join((*CONTAINERD, *debian.CONTAINERD, OF_IMAGE))
        raise EngineError(f"KUBEGPU_SIM_CONTAINERD={wanted}: expected one of {known}")
    return debian.containerd(wanted)


def crio() -> dict[str, Path]:
    """Place on the node -> program of CRI-O, which neither Debian nor a Go proxy serves. Raises EngineError."""
    given = os.environ.get(CRIO)
    if not given:
        raise EngineError(f"{CRIO} is not set: it names the program crio; pinns has to be in the same folder")
    program = Path(given).resolve()
    found = {f"/usr/bin/{name}": program.with_name(name) for name in ("crio", "pinns")}
    if missing := [str(path) for path in found.values() if not os.access(path, os.X_OK)]:
        raise EngineError(f"{CRIO}={given}: {', '.join(missing)} cannot be run")
    return found
