"""The recipes of the rpm packages, and the repository itself where rpmbuild and createrepo_c are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.toolkit import build_repo, packages

sys.path.insert(0, str(Path(build_repo.__file__).parent))
import rpmrepo

BY_NAME = {package.name: package for package in packages.PACKAGES}


def test_dependencies_are_those_of_the_debs() -> None:
    assert rpmrepo.requires(BY_NAME["nvidia-container-toolkit"], "1.17.8-1") == [
        "nvidia-container-toolkit-base = 1.17.8-1", "libnvidia-container-tools >= 1.17.8-1",
        "libnvidia-container-tools < 2.0.0",
    ]  # fmt: skip
    assert rpmrepo.requires(BY_NAME["libnvidia-container1"], "1.17.8-1") == []


def test_files_of_a_recipe() -> None:
    recipe = rpmrepo.spec(BY_NAME["nvidia-container-toolkit-base"], "1.18.0~rc.2-1")
    assert "Version: 1.18.0~rc.2\nRelease: 1\n" in recipe
    files = recipe.partition("%files\n")[2].split("\n")
    assert "%config(noreplace) /etc/nvidia-container-runtime/config.toml" in files
    assert "/usr/bin/nvidia-ctk" in files
    assert "/etc/nvidia-container-runtime/config.toml" not in files


def test_repository(tmp_path: Path) -> None:
    missing = [tool for tool in ("rpmbuild", "createrepo_c", "gpg") if not shutil.which(tool)]
    if missing:
        pytest.skip(
            f"{', '.join(missing)} missing (Debian: rpm, createrepo-c, gnupg); tests/e2e builds it in a container"
        )
    script = Path(build_repo.__file__).with_name("build_rpm_repo.py")
    subprocess.run([sys.executable, str(script), str(tmp_path / "out")], check=True)
    folder = tmp_path / "out/libnvidia-container/stable/rpm/x86_64"
    assert len(list(folder.glob("*.rpm"))) == 8
    assert (folder / "repodata/repomd.xml.asc").read_text().startswith("-----BEGIN PGP SIGNATURE-----")
