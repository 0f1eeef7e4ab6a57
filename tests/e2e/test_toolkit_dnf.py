"""The role container_toolkit with a real dnf4 and a real dnf5, on machines made of Debian's packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import open_faults
from tests.e2e.toolkit import Machine, all_of, expired_keyring, rpm_machine
from tests.e2e.toolkit import rpm_versions as versions
from tests.sim.toolkit import aptrepo, build_repo, rpmrepo  # noqa: F401 -- build_repo makes the others find each other
from tests.sim.toolkit.machines import rpm_image, rpm_repository

OLDER, NEWER, EXPERIMENTAL = "1.17.8-1", "1.20.2-1", "1.21.0~rc.1-1"
STABLE = "libnvidia-container/stable/rpm/x86_64"
YES = "--assumeyes --quiet"
PLACES = ("/etc", "/usr/bin", "/var/lib/kubegpu")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rpm_repository(rpm_image("dnf"), tmp_path_factory.mktemp("rpm"))


@pytest.fixture(params=["dnf", pytest.param("dnf5", marks=pytest.mark.matrix)])
def manager(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def node(manager: str, repository: Path, tmp_path: Path) -> Iterator[Machine]:
    with rpm_machine(rpm_image(manager), manager, repository, tmp_path) as node:
        yield node


@pytest.fixture
def dnf(manager: str) -> str:
    """The command with which an operator upgrades or installs packages, in a shell."""
    return f"dnf5 {YES}" if manager == "dnf5" else f"dnf {YES} --disablerepo=_dnf_local"


@pytest.mark.parametrize("manager", ["dnf5"], indirect=True)
def test_dnf5_in_short(node: Machine) -> None:
    node.works("--check", "--diff")
    node.settles()
    assert versions(node) == all_of(NEWER)
    node.works(state="absent")
    assert versions(node) == {}


def test_a_life(node: Machine, dnf: str) -> None:
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
    node.shell(f"{dnf} upgrade")
    assert versions(node) == all_of(OLDER)
    node.settles(hold=False)
    assert versions(node) == all_of(NEWER)
    node.settles(state="absent")
    assert (versions(node), node.files(*PLACES)) == ({}, before)
    assert "nvidia" not in node.shell("find /var/cache -path '*dnf*'")


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
    index.write_text(text)
    with expired_keyring() as environment:
        rpmrepo.sign(index.parents[1], environment)
        key = tmp_path / "srv/libnvidia-container/gpgkey"
        good = key.read_text()
        key.write_text(aptrepo.public_key(environment))
        node.refuses("The key that signed the repository has expired",
                     repo_key_fingerprint=aptrepo.fingerprint(environment))  # fmt: skip
        key.write_text(good)
    index.unlink()
    node.refuses("The repository cannot be reached from the node")
    assert versions(node) == {}


@pytest.mark.matrix
def test_mirror_with_a_key_of_its_own_and_a_proxy(node: Machine, repository: Path) -> None:
    node.follows_a_mirror(repository, "/etc/dnf/dnf.conf /etc/yum.repos.d/*")


@pytest.mark.matrix
def test_a_password_in_an_address(node: Machine, repository: Path) -> None:
    node.keeps_secrets()


@pytest.mark.matrix
@pytest.mark.parametrize("manager", ["dnf"], indirect=True)
def test_a_lock_is_waited_for_and_its_holder_named(node: Machine) -> None:
    node.works(version="1.17.8")
    pid = node.shell(
        "mkdir -p /var/cache/dnf; sleep 900 >/dev/null 2>&1 & echo $! | tee /var/cache/dnf/metadata_lock.pid"
    )
    node.refuses("Another package manager is at work", pid, version="1.20.2")
    assert versions(node) == all_of(OLDER)
    # one that is done after a while
    node.shell(f"(sleep 12; kill {pid}; rm /var/cache/dnf/metadata_lock.pid) >/dev/null 2>&1 &")
    node.works(version="1.20.2", apt_lock_timeout=120)
    assert versions(node) == all_of(NEWER)


@pytest.mark.xfail(strict=True, reason=open_faults.ROLES)
@pytest.mark.parametrize("manager", [pytest.param("dnf5", marks=pytest.mark.matrix)], indirect=True)
def test_a_lock_is_waited_for_by_dnf5(node: Machine) -> None:
    """dnf5 fails at once where another transaction is under way, and Ansible's module for it does not wait either."""
    node.works(version="1.17.8")
    lock = "open('/run/dnf/rpmtransaction.lock', 'w')"
    holder = f"import fcntl, time; stream = {lock}; fcntl.lockf(stream, fcntl.LOCK_EX); time.sleep(40)"
    node.shell(f'mkdir -p /run/dnf; python3 -c "{holder}" >/dev/null 2>&1 &')
    node.works(version="1.20.2", apt_lock_timeout=120)
    assert versions(node) == all_of(NEWER)


@pytest.mark.matrix
def test_old_packages(node: Machine, dnf: str) -> None:
    """nvidia-docker2 goes, the toolkit that came with it and Docker's configuration stay."""
    node.shell(f"{dnf} --repofrompath=guide,file:///srv/{STABLE} --nogpgcheck install /srv/old/*.rpm")
    node.migrates(
        lambda: node.execute("rpm", "-qa", "--queryformat", "%{NAME}\n"), "/etc/yum.repos.d/nvidia-docker.repo"
    )
    assert "nvidia" not in node.shell(f"{dnf.replace('--assumeyes', '--assumeno')} --cacheonly autoremove")
    # a run that died between the removal and its end
    config = node.execute("cat", node.DOCKER_CONFIG)
    node.execute("mv", node.DOCKER_CONFIG, f"{node.DOCKER_CONFIG}.kubegpu")
    node.settles(old_repository="migrate")
    assert node.execute("cat", node.DOCKER_CONFIG) == config
    assert node.execute("ls", "/etc/docker") == "daemon.json"
