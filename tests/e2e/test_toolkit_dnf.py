"""The role container_toolkit with a real dnf and rpm, on a machine made of Debian's packages of both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.toolkit import PACKAGES, URL, Machine, machine
from tests.sim.cluster import docker, images, paths

IMAGE = "kubegpu-tk-dnf:1"
OLDER, NEWER, EXPERIMENTAL = "1.16.2-1", "1.17.8-1", "1.18.0~rc.2-1"
STABLE = "libnvidia-container/stable/rpm/x86_64"
# Ansible takes the package manager from the distribution, and this machine's distribution has another.
DNF = ("-e", "__container_toolkit_pkg_mgr=dnf")
PLACES = ("/etc", "/usr/bin", "/var/lib/kubegpu")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rpm repository, built inside the image since few machines that run these tests have rpmbuild."""
    images.ensure(print)
    toolkit = paths.SIM / "toolkit"
    docker.build(toolkit, toolkit / "rpm-node.Dockerfile", "node", IMAGE, BASE=images.BASE)
    outdir = tmp_path_factory.mktemp("rpm")
    docker.run("run", "--rm", "--network", "none", "--volume", f"{toolkit}:/src:ro", "--volume", f"{outdir}:/out",
               "--entrypoint", "python3", IMAGE, "-B", "/src/build_rpm_repo.py", "/out/srv")  # fmt: skip
    return outdir / "srv"


@pytest.fixture
def node(repository: Path, tmp_path: Path) -> Iterator[Machine]:
    served = tmp_path / "srv"
    shutil.copytree(repository, served)
    with machine(IMAGE, served, tmp_path) as node:
        # Debian's rpm keeps its database in the user's home
        node.shell("echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros; mkdir -p /var/lib/rpm; rpm --initdb")
        fingerprint = (repository / "libnvidia-container/gpgkey.fingerprint").read_text().strip()
        node.variables = {"repo_url": URL, "repo_key_fingerprint": fingerprint, "apt_lock_timeout": 5}
        node.options = DNF
        node.serve()
        yield node


def versions(node: Machine) -> dict[str, str]:
    rows = node.shell("rpm -qa --queryformat '%{NAME} %{VERSION}-%{RELEASE}\\n'").splitlines()
    return dict(row.split() for row in rows)


def all_of(version: str) -> dict[str, str]:
    return dict.fromkeys(PACKAGES, version)


def test_a_life(node: Machine) -> None:
    """Preview, pin, upgrade, refuse and allow a downgrade, hold, remove without a trace."""
    before = node.files(*PLACES)
    node.works("--check", "--diff")
    assert (versions(node), node.files(*PLACES)) == ({}, before)
    node.settles(version="1.16.2")
    assert versions(node) == all_of(OLDER)
    node.settles(version=">=1.17")
    assert versions(node) == all_of(NEWER)
    node.refuses("newer than the wanted 1.16.2", version="1.16.2")
    node.settles(version="1.16.2", allow_downgrade=True, hold=True)
    assert versions(node) == all_of(OLDER)
    node.execute("dnf", "-y", "--disablerepo=_dnf_local", "upgrade")
    assert versions(node) == all_of(OLDER)
    node.settles(hold=False)
    assert versions(node) == all_of(NEWER)
    node.settles(state="absent")
    assert (versions(node), node.files(*PLACES)) == ({}, before)
    assert "nvidia" not in node.shell("find /var/cache/dnf")


def test_versions_channels_and_a_folder(node: Machine) -> None:
    node.refuses(f"It has: {NEWER}, {OLDER}.", version="1.17.9")
    node.settles(package_folder=f"/srv/{STABLE}", version="1.16.2")
    assert versions(node) == all_of(OLDER)
    node.settles(repo_channel="experimental")
    assert versions(node) == all_of(EXPERIMENTAL)


def test_wrong_key_and_spoilt_and_unreachable(node: Machine, tmp_path: Path) -> None:
    node.refuses("is not the one that the repository should be signed with", repo_key_fingerprint="0" * 40)
    index = tmp_path / "srv" / STABLE / "repodata/repomd.xml"
    text = index.read_text()
    index.write_text(text + "<!-- changed -->\n")
    node.refuses("The repository's signature does not fit its index")
    index.unlink()
    node.refuses("The repository cannot be reached from the node")
    assert versions(node) == {}
