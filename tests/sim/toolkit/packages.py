"""Stand-in packages of the NVIDIA Container Toolkit: same names, places and dependencies as NVIDIA's .deb files."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

PAYLOAD = Path(__file__).resolve().parent / "payload"
EPOCH = "1730419200"  # dpkg-deb puts this time on every file: the same input gives the same package
MAINTAINER = "kubegpu.nvidia tests <root@localhost>"


@dataclass(frozen=True)
class Package:
    """One binary package; `{v}` in a relation stands for the version, files map payload name -> place."""

    name: str
    summary: str
    relations: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)  # place -> target
    conffiles: tuple[str, ...] = ()


PACKAGES = (
    Package("libnvidia-container1", "NVIDIA container runtime library (stand-in)"),
    Package(
        "libnvidia-container-tools",
        "NVIDIA container runtime library, command-line tools (stand-in)",
        relations={"Depends": "libnvidia-container1 (>= {v}), python3"},
        files={"nvidia-container-cli": "usr/bin/nvidia-container-cli"},
    ),
    Package(
        "nvidia-container-toolkit-base",
        "NVIDIA Container Toolkit Base (stand-in)",
        relations={
            "Depends": "python3",
            "Breaks": "nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook",
            "Replaces": "nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook",
        },
        files={
            "nvidia-container-runtime": "usr/bin/nvidia-container-runtime",
            "nvidia-ctk": "usr/bin/nvidia-ctk",
            "config.toml": "etc/nvidia-container-runtime/config.toml",
        },
        conffiles=("/etc/nvidia-container-runtime/config.toml",),
    ),
    Package(
        "nvidia-container-toolkit",
        "NVIDIA Container toolkit (stand-in)",
        relations={
            "Depends": "nvidia-container-toolkit-base (= {v}), libnvidia-container-tools (>= {v}), "
            "libnvidia-container-tools (<< 2.0.0), python3",
            "Breaks": "nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook",
            "Replaces": "nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook",
        },
        files={"nvidia-container-runtime-hook": "usr/bin/nvidia-container-runtime-hook"},
        links={"usr/bin/nvidia-container-toolkit": "nvidia-container-runtime-hook"},
    ),
)

# What machines of nvidia-docker's time have; in no index of the repository.
OLD_PACKAGES = {
    "3.14.0-1": Package(
        "nvidia-container-runtime",
        "NVIDIA Container Toolkit meta-package (stand-in)",
        relations={"Depends": "nvidia-container-toolkit (>= 1.14.0), nvidia-container-toolkit (<< 2.0.0)"},
    ),
    "2.14.0-1": Package(
        "nvidia-docker2",
        "NVIDIA Container Toolkit meta-package (stand-in)",
        relations={"Depends": "nvidia-container-toolkit (>= 1.10.0), nvidia-container-toolkit (<< 2.0.0)"},
        files={"daemon.json": "etc/docker/daemon.json", "nvidia-docker": "usr/bin/nvidia-docker"},
        conffiles=("/etc/docker/daemon.json",),
    ),
}


def control(package: Package, version: str, architecture: str) -> str:
    relations = "".join(f"{key}: {value.format(v=version)}\n" for key, value in package.relations.items())
    return (
        f"Package: {package.name}\nVersion: {version}\nArchitecture: {architecture}\nSection: utils\n"
        f"Priority: optional\nMaintainer: {MAINTAINER}\nHomepage: https://github.com/NVIDIA/nvidia-container-toolkit\n"
        f"{relations}Description: {package.summary}\n"
        " Takes the place of NVIDIA's package in tests that have no GPU.\n"
    )


def stage(package: Package, version: str, architecture: str, root: Path) -> None:
    """Lay out the package's files below `root`, as dpkg-deb wants them."""
    for name, place in package.files.items():
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        upstream = version.rsplit("-", 1)[0]
        target.write_text((PAYLOAD / name).read_text().replace("@VERSION@", upstream))
        target.chmod(0o644 if place.startswith("etc/") else 0o755)
    for place, link in package.links.items():
        (root / place).symlink_to(link)
    document = root / "usr/share/doc" / package.name / "copyright"
    document.parent.mkdir(parents=True)
    document.write_text("A stand-in for tests, GPL-3.0-or-later. Contains nothing of NVIDIA's package.\n")
    debian = root / "DEBIAN"
    debian.mkdir()
    (debian / "control").write_text(control(package, version, architecture))
    if package.conffiles:
        (debian / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))


def build(package: Package, version: str, architecture: str, directory: Path) -> Path:
    """Build one .deb into `directory`; subprocess.CalledProcessError if dpkg-deb refuses."""
    target = directory / f"{package.name}_{version}_{architecture}.deb"
    with tempfile.TemporaryDirectory(prefix="kubegpu-deb-") as temporary:
        root = Path(temporary) / "root"
        root.mkdir(mode=0o755)
        stage(package, version, architecture, root)
        for path in [root, *root.rglob("*")]:  # whatever the umask is
            if path.is_dir():
                path.chmod(0o755)
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", str(root), str(target)],
            check=True, capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
        )  # fmt: skip
    return target
