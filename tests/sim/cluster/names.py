"""Names of containers, networks and images. Two checkouts on one Docker Engine each set a prefix of their own."""

from __future__ import annotations

import os
import re

SUITES = ("bookworm", "trixie")
"""Releases of Debian that a node can be made of."""


def _setting(variable: str, default: str, pattern: str) -> str:
    value = os.environ.get(variable) or default
    if not re.fullmatch(pattern, value):
        raise SystemExit(f"{variable}={value}: expected {pattern}")
    return value


PREFIX = _setting("KUBEGPU_SIM_PREFIX", "kubegpu", "[a-z][a-z0-9-]{0,30}")
SUITE = _setting("KUBEGPU_SIM_SUITE", "bookworm", "|".join(SUITES))


def image(name: str) -> str:
    """The tag of an image of the nodes' suite."""
    return f"{PREFIX}-sim/{name}:{SUITE}"


def container(cluster: str, part: int | str) -> str:
    """The name of a node (its index, from 1) or of another container of a cluster."""
    return f"{PREFIX}-{cluster}-{part}"


def network(cluster: str) -> str:
    return f"{PREFIX}-{cluster}"
