"""Programs of the versions under test that a Kubernetes node gets beside those of its image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.engines import build, debian
from tests.engines.catalogue import ENGINES

CONTAINERD = {name.partition("-")[2]: name for name in ENGINES if name.startswith("containerd-")}
"""Series of containerd that are built from Go modules -> the engine; debian.CONTAINERD has others."""
NEWEST = max(CONTAINERD, key=lambda series: [int(part) for part in series.split(".")])
CRIO = "KUBEGPU_CRIO"
"""The variable that names the program crio."""
OF_IMAGE = "image"
"""The value of $KUBEGPU_SIM_CONTAINERD that keeps the image's own containerd."""


class ProgramsError(RuntimeError):
    """A program that was asked for cannot be had; the text tells why."""


def of_node(runtime: str, say: Callable[[str], None]) -> dict[str, Path]:
    """Place on the node -> program. $KUBEGPU_SIM_CONTAINERD names a series of containerd (default: NEWEST)."""
    found = crio() if runtime == "crio" else {}
    folders = [] if found else [containerd(os.environ.get("KUBEGPU_SIM_CONTAINERD", NEWEST), say)]
    folders += [build.ensure(name, say) for name in ENGINES if name.startswith(("etcd-", "cri-tools-"))]
    programs = [program for folder in folders if folder for program in folder.iterdir()]
    return {**found, **{f"/usr/bin/{program.name}": program for program in programs}}


def containerd(series: str, say: Callable[[str], None]) -> Path | None:
    """The folder with containerd, its shim and ctr; None for the image's own. Raises ProgramsError."""
    if series == OF_IMAGE:
        return None
    if series in CONTAINERD:
        return build.ensure(CONTAINERD[series], say)
    if series not in debian.CONTAINERD:
        known = ", ".join((*CONTAINERD, *debian.CONTAINERD, OF_IMAGE))
        raise ProgramsError(f"KUBEGPU_SIM_CONTAINERD={series}: expected one of {known}")
    try:
        return debian.containerd(series)
    except debian.EngineError as error:
        raise ProgramsError(f"containerd {series}: {error}") from error


def crio() -> dict[str, Path]:
    """Place on the node -> program of CRI-O, which neither Debian nor a Go proxy serves. Raises ProgramsError."""
    given = os.environ.get(CRIO)
    if not given:
        raise ProgramsError(f"{CRIO} is not set: it names the program crio, beside which pinns is")
    program = Path(given).resolve()
    found = {f"/usr/bin/{name}": program.with_name(name) for name in ("crio", "pinns")}
    if missing := [str(path) for path in found.values() if not os.access(path, os.X_OK)]:
        raise ProgramsError(f"{CRIO}={given}: {', '.join(missing)} cannot be run")
    return found
