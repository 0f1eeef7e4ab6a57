"""A package as Debian's and rpm's builders need it, and the building of .deb files."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

PAYLOAD = Path(__file__).resolve().parent / "payload"
EPOCH = "1730419200"  # dpkg-deb puts this time on every file: the same input gives the same package
MAINTAINER = "kubegpu.nvidia tests <root@localhost>"
LIB = {"deb": "lib", "rpm": "usr/lib"}
"""Where a package of this kind has systemd's and udev's files: ``{lib}`` in a place."""


@dataclass(frozen=True)
class Package:
    """One binary package; `{v}` in a relation or tag stands for the version, files map place -> name of the source."""

    name: str
    summary: str
    relations: dict[str, str] = field(default_factory=dict)  # fields of Debian's control file
    tags: tuple[str, ...] = ()  # the same for rpm: lines of a recipe
    files: dict[str, str] = field(default_factory=dict)
    rpm_files: dict[str, str] = field(default_factory=dict)
    conffiles: tuple[str, ...] = ()
    scripts: dict[str, str] = field(default_factory=dict)  # Debian's maintainer scripts: name -> file in payload/deb
    scriptlets: str = ""  # a file in payload/rpm

    def without_files(self) -> Package:
        return replace(self, files={}, rpm_files={}, conffiles=(), scripts={}, scriptlets="")

    def places(self, kind: str) -> dict[str, str]:
        files = {**self.files, **(self.rpm_files if kind == "rpm" else {})}
        return {place.format(lib=LIB[kind]): name for place, name in files.items()}


def control(package: Package, version: str, architecture: str) -> str:
    relations = "".join(f"{key}: {value.format(v=version)}\n" for key, value in package.relations.items())
    return (
        f"Package: {package.name}\nVersion: {version}\nArchitecture: {architecture}\nSection: utils\n"
        f"Priority: optional\nMaintainer: {MAINTAINER}\nHomepage: https://github.com/NVIDIA/nvidia-container-toolkit\n"
        f"{relations}Description: {package.summary}\n"
        " Takes the place of NVIDIA's package in tests that have no GPU.\n"
    )


def stage(package: Package, version: str, kind: str, programs: Path, root: Path) -> None:
    """Lay out the package's files below `root`; what payload/ does not have comes from the folder `programs`."""
    for place, name in package.places(kind).items():
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        own = PAYLOAD / name
        if own.exists():
            target.write_text(own.read_text().replace("@VERSION@", version.rsplit("-", 1)[0]))
        else:
            target.write_bytes((programs / name).read_bytes())
        target.chmod(0o755 if place.startswith("usr/bin/") else 0o644)
    document = root / "usr/share/doc" / package.name / "copyright"
    document.parent.mkdir(parents=True)
    document.write_text("A package for tests, not NVIDIA's. Programs of nvidia-container-toolkit: Apache-2.0.\n")


def build(package: Package, version: str, architecture: str, programs: Path, directory: Path) -> Path:
    """Build one .deb into `directory`; subprocess.CalledProcessError if dpkg-deb refuses."""
    target = directory / f"{package.name}_{version}_{architecture}.deb"
    with tempfile.TemporaryDirectory(prefix="kubegpu-deb-") as temporary:
        root = Path(temporary) / "root"
        root.mkdir(mode=0o755)
        stage(package, version, "deb", programs, root)
        debian = root / "DEBIAN"
        debian.mkdir()
        (debian / "control").write_text(control(package, version, architecture))
        if package.conffiles:
            (debian / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))
        for name, source in package.scripts.items():
            (debian / name).write_text((PAYLOAD / "deb" / source).read_text())
            (debian / name).chmod(0o755)
        for path in [root, *root.rglob("*")]:  # whatever the umask is
            if path.is_dir():
                path.chmod(0o755)
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", str(root), str(target)],
            check=True, capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
        )  # fmt: skip
    return target
