"""The apt repository: gpg verifies it, apt takes packages from it, and a spoilt one is refused."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sim.toolkit import aptrepo, build_repo, contents
from tests.sim.toolkit import repository as engines_of
from tests.unit.sim import programs

NAMES = {"nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools",
         "libnvidia-container1"}  # fmt: skip
ARCHITECTURE = "amd64"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [tool for tool in ("dpkg-deb", "gpg", "gpgv") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: packages cannot be built here (Debian: dpkg, gnupg, gpgv)")
    folder = tmp_path_factory.mktemp("repo")
    programs.make(folder / "programs", contents.PROGRAMS)
    assert build(folder / "out", folder / "programs") == 0
    return folder / "out"


def build(outdir: Path, folder: Path) -> int:
    return build_repo.main([str(outdir), "--architecture", ARCHITECTURE, "--programs", str(folder)])


@pytest.fixture(scope="module")
def keyring(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public key as gpgv wants it: not armoured."""
    target = tmp_path_factory.mktemp("key") / "key.gpg"
    key = repository / "libnvidia-container" / "gpgkey"
    subprocess.run(["gpg", "--batch", "--dearmor", "--output", str(target), str(key)], check=True)
    return target


def flat(repository: Path, channel: str = "stable") -> Path:
    return repository / "libnvidia-container" / channel / "deb" / ARCHITECTURE


def test_layout(repository: Path) -> None:
    files = {path.name for path in flat(repository).iterdir() if path.suffix != ".deb"}
    assert files == {"Packages", "Packages.gz", "Release", "Release.gpg", "InRelease"}
    assert {path.name.split("_")[0] for path in flat(repository).glob("*.deb")} == NAMES
    assert (
        gzip.decompress((flat(repository) / "Packages.gz").read_bytes()) == (flat(repository) / "Packages").read_bytes()
    )
    assert (repository / "libnvidia-container/gpgkey").read_text().startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert not list(repository.rglob("*key.asc")), "the private key must not be served"


@pytest.mark.parametrize("files", [["InRelease"], ["Release.gpg", "Release"]], ids=["inline", "detached"])
def test_signature(repository: Path, keyring: Path, files: list[str]) -> None:
    done = subprocess.run(
        ["gpgv", "--keyring", str(keyring), "--status-fd", "1", *(str(flat(repository) / name) for name in files)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fingerprint = (repository / "libnvidia-container/gpgkey.fingerprint").read_text().strip()
    assert f"VALIDSIG {fingerprint}" in done.stdout


def test_second_build_does_nothing_and_a_forced_one_keeps_the_key(
    repository: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = tmp_path / "out"
    shutil.copytree(repository, copy)
    shutil.copy2(repository.with_name("out.key.asc"), tmp_path / "out.key.asc")
    before = (copy / "libnvidia-container/gpgkey.fingerprint").read_text()
    assert build(copy, repository.with_name("programs")) == 0
    assert capsys.readouterr().out.endswith(": unchanged\n")
    (copy / "libnvidia-container/.built-from").write_text("something older")
    assert build(copy, repository.with_name("programs")) == 0
    assert capsys.readouterr().out.endswith(": built\n")
    assert (copy / "libnvidia-container/gpgkey.fingerprint").read_text() == before


def test_every_version_with_programs_has_an_engine() -> None:
    assert tuple(engines_of.ENGINES) == contents.PROGRAMS


def test_another_program_is_another_repository(repository: Path, tmp_path: Path) -> None:
    folder = programs.make(tmp_path / "programs", contents.PROGRAMS)
    before = build_repo.source_digest(ARCHITECTURE, folder)
    assert before == build_repo.source_digest(ARCHITECTURE, repository.with_name("programs"))
    (folder / contents.PROGRAMS[0] / "nvidia-ctk").write_text("another build")
    assert build_repo.source_digest(ARCHITECTURE, folder) != before


def test_packages_are_reproducible(repository: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again", repository.with_name("programs")) == 0
    one, two = ((flat(root) / "Packages").read_text() for root in (repository, tmp_path / "again"))
    assert one == two


@dataclass
class Apt:
    """apt-get with a root of its own: nothing of this machine is read or written."""

    root: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["apt-get", *arguments], capture_output=True, text=True, check=False,
            env={**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"},
        )  # fmt: skip


@pytest.fixture
def apt(repository: Path, tmp_path: Path) -> Apt:
    if not shutil.which("apt-get"):
        pytest.skip("apt-get is missing: whether apt accepts the repository can only be tried on Debian or Ubuntu")
    served = tmp_path / "served"
    shutil.copytree(repository, served)
    for name in ("etc/sources", "state/lists/partial", "cache/archives/partial", "log"):
        (tmp_path / name).mkdir(parents=True)
    # python3 is a dependency; on a node it is there already
    (tmp_path / "status").write_text(
        f"Package: python3\nStatus: install ok installed\nVersion: 3.11\nArchitecture: {ARCHITECTURE}\n"
        "Maintainer: x\nDescription: x\n"
    )
    key = served / "libnvidia-container/gpgkey"
    source = f"deb [signed-by={key}] file://{served}/libnvidia-container/stable/deb/$(ARCH) /\n"
    (tmp_path / "etc/sources.list").write_text(source)
    (tmp_path / "apt.conf").write_text(
        f'Dir "{tmp_path}";\nDir::Etc::sourcelist "{tmp_path}/etc/sources.list";\n'
        f'Dir::Etc::sourceparts "{tmp_path}/etc/sources";\nDir::Etc::main "/dev/null";\nDir::Etc::parts "/dev/null";\n'
        f'Dir::Etc::preferencesparts "/dev/null";\nDir::State "{tmp_path}/state";\n'
        f'Dir::State::status "{tmp_path}/status";\nDir::Cache "{tmp_path}/cache";\nDir::Log "{tmp_path}/log";\n'
        f'APT::Architecture "{ARCHITECTURE}";\nAPT::Architectures {{ "{ARCHITECTURE}"; }};\n'
        'APT::Sandbox::User "root";\nAcquire::Languages "none";\nDir::Bin::dpkg "/usr/bin/dpkg";\n'
    )
    return Apt(tmp_path)


def test_apt_installs_the_newest_and_the_wanted_version(apt: Apt) -> None:
    updated = apt.run("update")
    assert (updated.returncode, "W:" in updated.stderr) == (0, False), updated.stderr
    newest = apt.run("install", "--simulate", "nvidia-container-toolkit").stdout
    assert {line.split()[1] for line in newest.splitlines() if line.startswith("Inst ")} == NAMES
    assert "Inst nvidia-container-toolkit (1.20.2-1" in newest
    # one version of one package alone cannot be had: the base must be of the same version
    alone = apt.run("install", "--simulate", "nvidia-container-toolkit=1.17.8-1")
    assert alone.returncode == 100
    assert "Depends: nvidia-container-toolkit-base (= 1.17.8-1)" in alone.stdout
    both = [f"nvidia-container-toolkit{part}=1.17.8-1" for part in ("", "-base")]
    old = apt.run("install", "--simulate", *both)
    assert "Inst nvidia-container-toolkit (1.17.8-1" in old.stdout, old.stderr


def test_apt_refuses_a_repository_signed_by_another_key(apt: Apt, tmp_path: Path) -> None:
    with aptrepo.keyring(tmp_path / "other.key.asc") as environment:
        (apt.root / "served/libnvidia-container/gpgkey").write_text(aptrepo.public_key(environment))
    updated = apt.run("update")
    assert updated.returncode == 100
    assert "NO_PUBKEY" in updated.stderr


def test_apt_refuses_a_spoilt_index(apt: Apt) -> None:
    directory = flat(apt.root / "served")
    (directory / "Packages.gz").unlink()
    (directory / "Packages").write_text((directory / "Packages").read_text().replace("1.20.2-1", "9.99.9-1"))
    updated = apt.run("update")
    assert updated.returncode == 100
    assert "unexpected size" in updated.stderr or "Hash Sum mismatch" in updated.stderr


def listing(package: Path) -> set[str]:
    """Every file of a package that is no folder and no documentation."""
    done = subprocess.run(["dpkg-deb", "-c", str(package)], check=True, capture_output=True, text=True)
    paths = {line.split()[5].lstrip(".") for line in done.stdout.splitlines()}
    return {path for path in paths if not path.endswith("/") and not path.startswith("/usr/share/doc/")}


def script(package: Path, name: str) -> str:
    done = subprocess.run(["dpkg-deb", "-I", str(package), name], check=False, capture_output=True, text=True)
    return done.stdout


def packages_of(repository: Path, version: str, channel: str = "stable") -> dict[str, Path]:
    return {path.name.split("_")[0]: path for path in flat(repository, channel).glob(f"*_{version}_*.deb")}


def test_files_are_at_nvidias_places(repository: Path) -> None:
    newest = packages_of(repository, "1.20.2-1")
    base = {"/usr/bin/nvidia-container-runtime", "/usr/bin/nvidia-ctk", "/usr/bin/nvidia-cdi-hook"}
    units = {"/lib/systemd/system/nvidia-cdi-refresh.service", "/lib/systemd/system/nvidia-cdi-refresh.path",
             "/lib/systemd/system/nvidia-cdi-refresh.service.d/10-container-engines.conf",
             "/lib/udev/rules.d/99-nvidia-cdi-refresh.rules",
             "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env"}  # fmt: skip
    assert {name: listing(path) for name, path in newest.items()} == {
        "nvidia-container-toolkit": {"/usr/bin/nvidia-container-runtime-hook"},
        "nvidia-container-toolkit-base": base | units,
        "libnvidia-container-tools": {"/usr/bin/nvidia-container-cli"},
        "libnvidia-container1": set(),
    }
    assert script(newest["nvidia-container-toolkit-base"], "conffiles") == (
        "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env\n"
    )
    older = packages_of(repository, "1.17.8-1")["nvidia-container-toolkit-base"]
    assert (listing(older), script(older, "conffiles")) == (base, "")


def test_the_configuration_is_generated_and_no_file_of_a_package(repository: Path) -> None:
    for version in contents.PROGRAMS:
        package = packages_of(repository, version)["nvidia-container-toolkit-base"]
        assert "nvidia-ctk --quiet config" in script(package, "postinst")


def test_a_version_without_programs_has_no_files(repository: Path) -> None:
    found = packages_of(repository, "1.21.0~rc.1-1", "experimental")
    assert set(found) == NAMES
    assert not any(listing(path) for path in found.values())
    assert not any(script(path, "postinst") for path in found.values())
