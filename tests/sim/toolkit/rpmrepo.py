"""The packages as .rpm files, and the signed index of an rpm repository. Needs rpmbuild and createrepo_c."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import aptrepo
import packages


def spec(package: packages.Package, version: str) -> str:
    """The recipe. The distribution's own dependencies are left out, since a machine that is made of another
    distribution's packages has none in rpm's database."""
    upstream, release = version.rsplit("-", 1)
    files = [f"%config(noreplace) {path}" for path in package.conffiles]
    files += [f"/{place}" for place in package.places("rpm") if f"/{place}" not in package.conffiles]
    files.append(f"/usr/share/doc/{package.name}")
    tags = "".join(f"{tag.format(v=version)}\n" for tag in package.tags)
    scriptlets = (packages.PAYLOAD / "rpm" / package.scriptlets).read_text() if package.scriptlets else ""
    listed = "\n".join(["%defattr(-,root,root,-)", *files])
    return (
        f"Name: {package.name}\nVersion: {upstream}\nRelease: {release}\nSummary: {package.summary}\n"
        f"License: Apache-2.0\nAutoReqProv: no\n{tags}\n%description\n"
        "Takes the place of NVIDIA's package in tests that have no GPU.\n\n"
        "%install\ncp -a %{staged}/. %{buildroot}/\n\n" + scriptlets + f"\n%files\n{listed}\n"
    )


def build(package: packages.Package, version: str, architecture: str, programs: Path, directory: Path) -> None:
    """Build one .rpm into `directory`; subprocess.CalledProcessError if rpmbuild refuses."""
    with tempfile.TemporaryDirectory(prefix="kubegpu-rpm-") as temporary:
        root = Path(temporary) / "root"
        root.mkdir()
        packages.stage(package, version, "rpm", programs, root)
        recipe = Path(temporary) / "package.spec"
        recipe.write_text(spec(package, version))
        defines = {"_topdir": f"{temporary}/top", "_rpmdir": str(directory), "staged": str(root),
                   "_build_name_fmt": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm", "__os_install_post": "%{nil}",
                   "_build_id_links": "none", "debug_package": "%{nil}", "_binary_payload": "w1.gzdio"}  # fmt: skip
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
