"""Where the simulated nodes keep what is expensive to make, and what a running cluster consists of on disk."""

from __future__ import annotations

import os
from pathlib import Path

from . import names

SIM = Path(__file__).resolve().parent.parent
IMAGE = SIM / "cluster" / "image"


def cache() -> Path:
    """The folder that outlives a checkout: $KUBEGPU_CACHE, else the user's cache folder."""
    if given := os.environ.get("KUBEGPU_CACHE"):
        return Path(given).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kubegpu"


def cluster(name: str) -> Path:
    """The folder of a running cluster: its PKI, its nodes' configuration and the administrator's kubeconfig."""
    return clusters() / name


def clusters() -> Path:
    """The folder of all running clusters that have this checkout's prefix."""
    return cache() / "clusters" / names.PREFIX
