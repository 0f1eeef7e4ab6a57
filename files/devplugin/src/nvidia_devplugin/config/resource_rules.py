"""What the settings say about resources: plain frozen values between config, which makes them, and resources.

This room imports nothing of ours and does nothing but compare names.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "nvidia.com/"
SHARED_SUFFIX = ".shared"


def matches(pattern: str, name: str) -> bool:
    """Whether `pattern`, in which * stands for anything, matches the whole `name`; as in NVIDIA's plugin."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    *middle, last = rest
    if not name.startswith(first):
        return False
    at = len(first)
    for part in middle:  # the first place is as good as any other, so that many stars cost no more than a few
        at = name.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(name) - at >= len(last) and name.endswith(last)


def qualified(name: str) -> str:
    """A resource name with its domain: NVIDIA's where none is given."""
    return name if "/" in name else DOMAIN + name


@dataclass(frozen=True)
class NamePattern:
    """Devices whose model (GPUs) or profile (MIG) matches `pattern` are advertised as `name`."""

    pattern: str
    name: str


@dataclass(frozen=True)
class Shared:
    """Time-slicing of one resource.

    name: the resource before it is shared. rename: what the shared devices are advertised as; the same for no change.
    devices: None for all, a count for the first so many, or names: indices (`0`, `0:1`) and UUIDs.
    """

    name: str
    rename: str
    replicas: int
    devices: int | tuple[str, ...] | None = None


@dataclass(frozen=True)
class Selector:
    """GPUs by one property: an index, a UUID, or a pattern of the model's name."""

    index: int | None = None
    uuid: str | None = None
    model: str | None = None

    def selects(self, index: int, uuid: str, model: str) -> bool:
        if self.index is not None:
            return self.index == index
        if self.uuid is not None:
            return self.uuid == uuid
        return self.model is not None and matches(self.model, model)


@dataclass(frozen=True)
class Rules:
    """Everything that decides which devices are advertised under which names.

    include: only these GPUs, if any are named; exclude: not these, whatever include says.
    single_requests: refuse more than one shared device for a container.
    """

    mig_strategy: str = "none"
    gpu_names: tuple[NamePattern, ...] = ()
    mig_names: tuple[NamePattern, ...] = ()
    shared: tuple[Shared, ...] = ()
    single_requests: bool = False
    include: tuple[Selector, ...] = ()
    exclude: tuple[Selector, ...] = ()
