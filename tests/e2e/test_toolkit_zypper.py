"""The role container_toolkit with a real zypper and rpm, on a machine made of Debian's packages of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.toolkit import Machine, all_of, rpm_machine
from tests.e2e.toolkit import rpm_versions as versions
from tests.sim.toolkit.machines import rpm_image, rpm_repository

OLDER, NEWER, EXPERIMENTAL = "1.17.8-1", "1.20.2-1", "1.21.0~rc.1-1"
STABLE = "libnvidia-container/stable/rpm/x86_64"
PLACES = ("/etc", "/usr/bin", "/var/lib/kubegpu")


@pytest.fixture(scope="module")
def image() -> str:
    return rpm_image("zypper")


@pytest.fixture(scope="module")
def repository(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rpm_repository(image, tmp_path_factory.mktemp("rpm"))


@pytest.fixture
def node(image: str, repository: Path, tmp_path: Path) -> Iterator[Machine]:
    with rpm_machine(image, "zypper", repository, tmp_path) as node:
        yield node


def test_a_life(node: Machine) -> None:
    """Preview, pin, upgrade, refuse and allow a downgrade, hold, remove without a trace."""
    before = node.files(*PLACES)
    node.works("--check", "--diff")
    assert (versions(node), node.files(*PLACES)) == ({}, before)
    node.settles(version="1.17.8")
    assert versions(node) == all_of(OLDER)
    node.settles(version=">=1.18")
    assert versions(node) == all_of(NEWER)
    node.refuses("newer than the wanted 1.17.8", version="1.17.8")
    node.settles(version="1.17.8", allow_downgrade=True, hold=True)
    assert versions(node) == all_of(OLDER)
    node.execute("zypper", "--non-interactive", "update")
    assert versions(node) == all_of(OLDER)
    node.settles(hold=False)
    assert versions(node) == all_of(NEWER)
    node.shell(": > /etc/pki/rpm-gpg/RPM-GPG-KEY-nvidia-container-toolkit")  # an expired key is none to gpg
    node.settles(state="absent")
    assert versions(node) == {}
    assert "gpg-pubkey" not in node.execute("rpm", "-qa")
    assert "nvidia" not in node.shell(
        "rpm -qa; find /etc/zypp /var/cache/zypp /etc/nvidia-container-runtime /etc/nvidia-container-toolkit"
        " 2>/dev/null || true"
    )


@pytest.mark.matrix
def test_versions_channels_and_a_folder(node: Machine) -> None:
    node.refuses(f"It has: {NEWER}, {OLDER}.", version="1.20.9")
    node.settles(package_folder=f"/srv/{STABLE}", version="1.17.8")
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


@pytest.mark.matrix
def test_mirror_and_proxy(node: Machine, repository: Path) -> None:
    node.follows_a_mirror(repository, "/etc/zypp/zypp.conf /etc/zypp/repos.d/*")


@pytest.mark.matrix
def test_a_password_in_an_address(node: Machine, repository: Path) -> None:
    node.keeps_secrets()


@pytest.mark.matrix
def test_a_lock_is_waited_for_and_its_holder_named(node: Machine) -> None:
    node.works(version="1.17.8")
    pid = node.shell("sleep 900 >/dev/null 2>&1 & echo $! | tee /run/zypp.pid")
    node.refuses("Another package manager is at work", pid, version="1.20.2")
    assert versions(node) == all_of(OLDER)
    node.shell(f"(sleep 8; kill {pid}; rm /run/zypp.pid) >/dev/null 2>&1 &")
    node.works(version="1.20.2", apt_lock_timeout=120)
    assert versions(node) == all_of(NEWER)


@pytest.mark.matrix
def test_old_packages_and_a_key_of_others(node: Machine) -> None:
    """nvidia-docker2 goes; the toolkit, Docker's configuration and a key that the role did not bring stay."""
    node.execute("rpm", "--import", "/srv/libnvidia-container/gpgkey")
    node.works()
    node.execute("sh", "-c", "rpm -i /srv/old/*.rpm")
    node.migrates(
        lambda: node.execute("rpm", "-qa", "--queryformat", "%{NAME}\n"), "/etc/zypp/repos.d/nvidia-docker.repo"
    )
    node.settles(state="absent")
    assert "gpg-pubkey" in node.execute("rpm", "-qa")
