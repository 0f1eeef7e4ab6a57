"""The recipes of the rpm packages, and the repository itself where rpmbuild and createrepo_c are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.toolkit import build_repo, contents
from tests.unit.sim import programs

sys.path.insert(0, str(Path(build_repo.__file__).parent))
import rpmrepo


def recipe(name: str, version: str) -> str:
    return rpmrepo.spec(next(package for package in contents.of(version) if package.name == name), version)


def requirements(name: str, version: str) -> list[str]:
    return [line for line in recipe(name, version).splitlines() if line.startswith("Requires:")]


def test_since_1_18_all_packages_are_of_one_version() -> None:
    assert requirements("nvidia-container-toolkit", "1.17.8-1") == [
        "Requires: libnvidia-container-tools >= 1.17.8-1, libnvidia-container-tools < 2.0.0",
        "Requires: nvidia-container-toolkit-base = 1.17.8-1",
    ]
    assert requirements("nvidia-container-toolkit", "1.20.2-1") == [
        "Requires: libnvidia-container-tools = 1.20.2-1, libnvidia-container-tools < 2.0.0",
        "Requires: nvidia-container-toolkit-base = 1.20.2-1",
    ]
    assert requirements("libnvidia-container1", "1.20.2-1") == []


def test_files_of_a_recipe() -> None:
    text = recipe("nvidia-container-toolkit-base", "1.20.2-1")
    assert "Version: 1.20.2\nRelease: 1\n" in text
    assert "nvidia-ctk --quiet config" in text.partition("%post\n")[2].partition("%preun")[0]
    files = text.partition("%files\n")[2].split("\n")
    assert "%config(noreplace) /etc/nvidia-container-toolkit/nvidia-cdi-refresh.env" in files
    assert "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env" not in files
    assert "/usr/bin/nvidia-ctk" in files
    assert "/usr/lib/systemd/system/nvidia-cdi-refresh.service" in files
    assert "/usr/lib/systemd/system-preset/90-nvidia-container-toolkit.preset" in files
    assert "%post" not in recipe("nvidia-container-toolkit-base", "1.17.8-1")


def test_a_version_without_programs_runs_nothing() -> None:
    text = recipe("nvidia-container-toolkit-base", "1.21.0~rc.1-1")
    assert "Version: 1.21.0~rc.1\nRelease: 1\n" in text
    assert "%post" not in text
    assert "/usr/bin" not in text


def test_repository(tmp_path: Path) -> None:
    missing = [tool for tool in ("rpmbuild", "createrepo_c", "gpg") if not shutil.which(tool)]
    if missing:
        pytest.skip(
            f"{', '.join(missing)} missing (Debian: rpm, createrepo-c, gnupg); tests/e2e builds it in a container"
        )
    script = Path(build_repo.__file__).with_name("build_rpm_repo.py")
    folder = programs.make(tmp_path / "programs", contents.PROGRAMS)
    subprocess.run([sys.executable, str(script), str(tmp_path / "out"), "--programs", str(folder)], check=True)
    folder = tmp_path / "out/libnvidia-container/stable/rpm/x86_64"
    assert len(list(folder.glob("*.rpm"))) == 8
    assert (folder / "repodata/repomd.xml.asc").read_text().startswith("-----BEGIN PGP SIGNATURE-----")
