"""What is built: a sub-folder has the module (go.mod, go.sum), an entry here how its programs are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
_COMPONENT_BASE = "k8s.io/component-base/version"
_CLIENT_GO = "k8s.io/client-go/pkg/version"


@dataclass(frozen=True)
class Engine:
    """``programs`` are what the build leaves; ``go`` is the release of Go that upstream builds with."""

    name: str
    version: str
    go: str
    programs: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    """Go variables that the linker sets (-X)."""
    tags: tuple[str, ...] = ()
    cgo: bool = False
    renamed: dict[str, str] = field(default_factory=dict)
    """Names that Go gives a program -> the names that it is known by."""
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Module -> files of it that belong to the programs; they are kept in the same folder."""
    minutes: float = 1
    """How long a build takes on two cores with nothing cached, about."""

    @property
    def folder(self) -> Path:
        return HERE / self.name


def _kubernetes(series: str, version: str, go: str, minutes: float) -> Engine:
    # The kubelet's version steers what the tests configure, and clients compare it.
    major, minor = series.split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return Engine(
        name=f"kubernetes-{series}",
        version=version,
        go=go,
        programs=("kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
        variables={f"{base}.{key}": value for base in (_COMPONENT_BASE, _CLIENT_GO) for key, value in values.items()},
        minutes=minutes,
    )


_TOOLKIT = "github.com/NVIDIA/nvidia-container-toolkit"
_TOOLKIT_UNITS = (
    "deployments/systemd/10-container-engines.conf",
    "deployments/systemd/90-nvidia-container-toolkit.preset",
    "deployments/systemd/nvidia-cdi-refresh.env",
    "deployments/systemd/nvidia-cdi-refresh.path",
    "deployments/systemd/nvidia-cdi-refresh.service",
    "deployments/udev/99-nvidia-cdi-refresh.rules",
)


def _toolkit(series: str, version: str, minutes: float, files: tuple[str, ...] = ()) -> Engine:
    return Engine(
        name=f"nvidia-container-toolkit-{series}",
        version=version,
        go="1.26.10",
        programs=("nvidia-ctk", "nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-cdi-hook"),
        variables={f"{_TOOLKIT}/internal/info.version": version},
        cgo=True,  # NVML is a C library
        files={_TOOLKIT: files} if files else {},
        minutes=minutes,
    )


_ENGINES = (
    _kubernetes("1.37", "v1.37.2", "1.26.10", 12),
    _kubernetes("1.35", "v1.35.4", "1.25.9", 12),
    Engine(
        "etcd-3.7",
        "v3.7.3",
        "1.26.10",
        ("etcd",),
        renamed={"server": "etcd"},
        variables={"go.etcd.io/etcd/api/v3/version.GitSHA": "v3.7.3"},
    ),
    Engine(
        "containerd-2.4",
        "v2.4.2",
        "1.26.10",
        ("containerd", "containerd-shim-runc-v2", "ctr"),
        variables={"github.com/containerd/containerd/v2/version.Version": "v2.4.2"},
    ),
    Engine(
        "cri-tools-1.37",
        "v1.37.0",
        "1.26.10",
        ("crictl",),
        variables={"sigs.k8s.io/cri-tools/pkg/version.Version": "v1.37.0"},
    ),
    _toolkit("1.20", "1.20.2", 1.5, _TOOLKIT_UNITS),
    _toolkit("1.17", "1.17.8", 1),
)

ENGINES = {engine.name: engine for engine in _ENGINES}


def series(kind: str) -> dict[str, str]:
    """Minor releases of a kind (kubernetes, containerd …) -> names of engines, the newest first."""
    found = {name[len(kind) + 1 :]: name for name in ENGINES if name.rpartition("-")[0] == kind}
    newest_first = sorted(found, key=lambda minor: [int(part) for part in minor.split(".")], reverse=True)
    return {minor: found[minor] for minor in newest_first}
