"""What the settings say about resources: which devices are advertised, under which names, and how they are shared."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from .checks import LARGEST, ConfigError, Keys, ListOf, boolean, choice, describe, integer, string
from .setting import setting
from .values import LABEL

DOMAIN = "nvidia.com/"
SHARED_SUFFIX = ".shared"
MOST_REPLICAS = 16384


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

    name: the resource before it is shared. rename: what the shared devices are advertised as; empty for the usual name.
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


_RESOURCE = re.compile(rf"({LABEL}(\.{LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")


def _resource(value: Any, path: str) -> str:
    """The name of a resource, with its domain."""
    if not _RESOURCE.fullmatch(string(value, path)) or len(value) > 253:
        raise ConfigError(
            f"{path}: {describe(value)} is not a resource name (letters, digits, - _ . within, 63 at most after a /)"
        )
    return qualified(value)


def _selector(value: Any, path: str) -> Selector:
    """A GPU by index, UUID or model: 0, GPU-…, or a pattern such as *H100*."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Selector(index=integer(0)(value, path))
    if not string(value, path):
        raise ConfigError(f"{path}: an empty string selects nothing; give an index, a UUID or a model's pattern")
    return Selector(uuid=value) if value.startswith("GPU-") else Selector(model=value)


def _device(value: Any, path: str) -> str:
    """An index as a number or text, a MIG device's index (`0:1`), or a UUID."""
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
    text = str(value) if number else value
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,4}(:[0-9]{1,4})?|(GPU|MIG)-\S{1,64}", text):
        raise ConfigError(f"{path}: {describe(value)} is not an index (0, or 0:1 for a MIG device) or a UUID")
    return text


def _devices(value: Any, path: str) -> int | tuple[str, ...] | None:
    """`devices` of a shared resource."""
    if value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return int(integer(1)(value, path))
    if isinstance(value, list) and value:
        return tuple(ListOf(_device)(value, path))
    raise ConfigError(f"{path}: {describe(value)} is not all, a count or a list of GPUs")


def _distinct(entries: tuple[Shared, ...], path: str) -> tuple[Shared, ...]:
    """No device may be shared in two ways."""
    owners: dict[tuple[str, str], int] = {}
    problems = []
    for at, entry in enumerate(entries):
        for device in entry.devices if isinstance(entry.devices, tuple) else ("",):
            before = owners.setdefault((entry.name, device), at)
            if before != at:
                what = f"device {device}" if device else f"{entry.name} without a list of devices"
                problems.append(f"{path}[{at}]: {what} is in resources[{before}] already")
    if problems:
        raise ConfigError(*problems)
    return entries


def _no_mps(found: dict[str, Any], path: str) -> dict[str, Any]:
    if found.get("resources"):
        raise ConfigError(
            f"{path}: MPS is not supported: it needs a control daemon for each GPU, which this plugin does not run, "
            "and without it nothing would enforce the limits on memory and threads; use sharing.timeSlicing"
        )
    return found


_SHARED = Keys(
    {"name": _resource, "rename": _resource, "devices": _devices, "replicas": integer(2, MOST_REPLICAS)},
    required=("name", "replicas"),
    together=lambda found, _path: Shared(**{"rename": "", **found}),
)
_PATTERNS = ListOf(
    Keys(
        {"pattern": string, "name": _resource},
        required=("pattern", "name"),
        together=lambda found, _path: NamePattern(**found),
    )
)
MPS = Keys(
    {"renameByDefault": boolean, "failRequestsGreaterThanOne": boolean, "resources": ListOf(_SHARED)}, together=_no_mps
)


@dataclass(frozen=True)
class Rules:
    """Everything that decides which devices are advertised under which names."""

    mig_strategy: str = setting(
        choice("none", "single", "mixed"), "none", "how MIG devices are advertised: none, single or mixed",
        flag="mig-strategy", env="MIG_STRATEGY GFD_MIG_STRATEGY", path="flags.migStrategy",
    )  # fmt: skip
    gpu_names: tuple[NamePattern, ...] = setting(
        _PATTERNS, [], "names of GPUs by their model; without effect in NVIDIA's plugin", path="resources.gpus"
    )
    mig_names: tuple[NamePattern, ...] = setting(
        _PATTERNS, [], "names of MIG devices by their profile; without effect in NVIDIA's plugin", path="resources.mig"
    )
    shared: tuple[Shared, ...] = setting(
        ListOf(_SHARED, _distinct), [], "which resources are shared, and between how many",
        path="sharing.timeSlicing.resources",
    )  # fmt: skip
    rename_by_default: bool = setting(
        boolean, False, "shared devices are advertised as NAME.shared", path="sharing.timeSlicing.renameByDefault"
    )
    single_requests: bool = setting(
        boolean, False, "refuse more than one shared device for a container",
        path="sharing.timeSlicing.failRequestsGreaterThanOne",
    )  # fmt: skip
    include: tuple[Selector, ...] = setting(
        ListOf(_selector), [], "only these GPUs, by index, UUID or model; all if empty", path="kubegpu.gpus.include"
    )
    exclude: tuple[Selector, ...] = setting(
        ListOf(_selector), [], "not these GPUs, even if they are included", path="kubegpu.gpus.exclude"
    )

    def __post_init__(self) -> None:
        named = tuple(replace(entry, rename=entry.rename or self._usual(entry)) for entry in self.shared)
        object.__setattr__(self, "shared", named)

    def _usual(self, entry: Shared) -> str:
        return entry.name + (SHARED_SUFFIX if self.rename_by_default else "")

    @property
    def ignored_by_nvidia(self) -> tuple[str, ...]:
        """Paths in the file that have an effect here, and none in NVIDIA's plugin (0.20)."""
        named = (("resources.gpus", self.gpu_names), ("resources.mig", self.mig_names))
        paths = [path for path, patterns in named if patterns]
        for at, entry in enumerate(self.shared):
            path = f"sharing.timeSlicing.resources[{at}]"
            paths += [f"{path}.rename"] if entry.rename != self._usual(entry) else []
            paths += [f"{path}.devices"] if entry.devices is not None else []
        return tuple(paths)
