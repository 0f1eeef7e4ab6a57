"""The stand-in packages as .rpm files, and the signed index of an rpm repository. Needs rpmbuild and createrepo_c."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import aptrepo
import packages

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def requires(package: packages.Package, version: str) -> list[str]:
    """The package's dependencies on its own kind, as rpm spells them; the distribution's (python3) are left out, since
    a machine that is made of another distribution's packages has none in rpm's database."""
    text = package.relations.get("Depends", "").format(v=version)
    found = []
    for name, comparison, wanted in re.findall(r"(\S*nvidia-container\S*) \(([<>=]+) ([^)]+)\)", text):
        found.append(f"{name} {comparison.replace('<<', '<').replace('>>', '>')} {wanted}")
    return found


def spec(package: packages.Package, version: str) -> str:
    upstream, release = version.rsplit("-", 1)
    files = [f"%config(noreplace) {path}" for path in package.conffiles]
    places = [f"/{place}" for place in (*package.files.values(), *package.links)]
    files += [place for place in places if place not in package.conffiles]
    files.append(f"/usr/share/doc/{package.name}")
    needs = "".join(f"Requires: {relation}\n" for relation in requires(package, version))
    return (
        f"Name: {package.name}\nVersion: {upstream}\nRelease: {release}\nSummary: {package.summary}\n"
        f"License: GPL-3.0-or-later\nAutoReqProv: no\n{needs}\n%description\n"
        "Takes the place of NVIDIA's package in tests that have no GPU.\n\n"
        "%install\ncp -a %{staged}/. %{buildroot}/\n\n%files\n" + "\n".join(files) + "\n"
    )


def build(package: packages.Package, version: str, architecture: str, directory: Path) -> None:
    """Build one .rpm into `directory`; subprocess.CalledProcessError if rpmbuild refuses."""
    with tempfile.TemporaryDirectory(prefix="kubegpu-rpm-") as temporary:
        root = Path(temporary) / "root"
        root.mkdir()
        packages.stage(package, version, architecture, root)
        subprocess.run(["rm", "-r", str(root / "DEBIAN")], check=True)
        recipe = Path(temporary) / "package.spec"
        recipe.write_text(spec(package, version))
        defines = {"_topdir": f"{temporary}/top", "_rpmdir": str(directory), "staged": str(root),
                   "_build_name_fmt": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm", "__os_install_post": "%{nil}",
                   "_build_id_links": "none", "debug_package": "%{nil}"}  # fmt: skip
        options = [word for key, value in defines.items() for word in ("--define", f"{key} {value}")]
        subprocess.run(
            ["rpmbuild", "-bb", "--quiet", "--target", f"{architecture}-linux", *options, str(recipe)],
            check=True, capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": packages.EPOCH},
        )  # fmt: skip


def sign(directory: Path, environment: dict[str, str]) -> None:
    """repodata/repomd.xml.asc, which repo_gpgcheck wants."""
    index = directory / "repodata/repomd.xml"
    signature = index.with_name("repomd.xml.asc")
    signature.unlink(missing_ok=True)
    aptrepo.run(
        ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--armor", "--detach-sign",
         "--output", str(signature), str(index)],
        env=environment,
    )  # fmt: skip


def write_indexes(directory: Path, environment: dict[str, str]) -> None:
    """repodata with its signature for the .rpm files in `directory`."""
    aptrepo.run(["createrepo_c", "--quiet", str(directory)])
    sign(directory, environment)
