"""The role container_toolkit with a real apt of Debian 12 and of Debian 13, against good and spoilt repositories.

apt 2 of Debian 12 has gpgv verify a repository's signature, apt 3 of Debian 13 sqv, which says the same in other words.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.toolkit import PACKAGES, URL, Machine, all_of, expired_keyring, machine, made_key
from tests.sim.toolkit import aptrepo, machines

OLDER, NEWER, EXPERIMENTAL = "1.17.8-1", "1.20.2-1", "1.21.0~rc.1-1"
STABLE = Path("libnvidia-container/stable/deb/amd64")
ANOTHER_KEY = "signed by another key"
CHANGED = "The repository's signature does not fit its index"
UNSIGNED = "carries no signature"
WEAK = "made with an algorithm that is too weak by now"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return machines.apt_repository(tmp_path_factory.mktemp("apt"))


@pytest.fixture(scope="module")
def fingerprint(repository: Path) -> str:
    return (repository / "libnvidia-container/gpgkey.fingerprint").read_text().strip()


@pytest.fixture(params=["bookworm", pytest.param("trixie", marks=pytest.mark.matrix)])
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def node(suite: str, repository: Path, fingerprint: str, tmp_path: Path) -> Iterator[Machine]:
    """A machine with apt that has no source and no package list, and a copy of the repository of its own."""
    served = tmp_path / "srv"
    shutil.copytree(repository, served)
    shutil.copy(repository.with_name("srv.key.asc"), tmp_path)
    with machine(machines.apt_image(suite), served, tmp_path) as node:
        machines.forget_sources(node.name)
        node.variables = {"repo_url": URL, "repo_key_fingerprint": fingerprint, "apt_lock_timeout": 5}
        machines.serve(node.name)
        yield node


def versions(node: Machine) -> dict[str, str]:
    out = node.shell("dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n' '*nvidia-container*' || true")
    rows = [row.split() for row in out.splitlines()]
    return {row[1]: row[2] for row in rows if row[0].endswith("i")}


def test_a_life(node: Machine) -> None:
    """Preview, install, pin, refuse and allow a downgrade, hold, upgrade, remove without a trace."""
    places = ("/etc", "/usr/bin", "/usr/share/keyrings", "/var/lib/kubegpu")
    before = node.files(*places)
    preview = node.works("--check", "--diff")
    assert f"{URL}/stable/deb/amd64" in preview.output
    assert "Would install nvidia-container-toolkit" in preview.output
    assert (versions(node), node.files(*places)) == ({}, before)

    node.settles(version="1.17.8")
    assert versions(node) == all_of(OLDER)
    node.settles(version=">=1.17")  # new enough stays
    assert versions(node) == all_of(OLDER)
    node.settles(version=">=1.18.1")
    assert versions(node) == all_of(NEWER)

    node.refuses("newer than the wanted 1.17.8", "container_toolkit_allow_downgrade", version="1.17.8")
    assert versions(node) == all_of(NEWER)
    node.settles(version="1.17.8", allow_downgrade=True, hold=True)
    assert versions(node) == all_of(OLDER)
    assert sorted(node.execute("apt-mark", "showhold").split()) == sorted(PACKAGES)
    node.refuses("on hold", "apt-mark unhold", version="1.20.2")
    assert node.works().changed == 0  # latest leaves what is held alone
    assert versions(node) == all_of(OLDER)
    node.settles(version="latest", hold=False)
    assert (versions(node), node.execute("apt-mark", "showhold")) == (all_of(NEWER), "")

    node.works("--check", "--diff", state="absent")
    assert versions(node) == all_of(NEWER)
    node.settles(state="absent")
    assert (versions(node), node.files(*places)) == ({}, before)
    assert "nvidia" not in node.execute("ls", "/var/lib/apt/lists")


def test_versions_and_channels(node: Machine) -> None:
    node.refuses("has no version 1.20.9 of all of", f"It has: {NEWER}, {OLDER}.", version="1.20.9")
    node.refuses(f"It has: {NEWER}, {OLDER}.", version=">=1.21")
    node.refuses("at least 1.7.0", version="1.6.0")
    node.settles(repo_channel="experimental", version="1.21.0~rc.1")
    assert versions(node) == all_of(EXPERIMENTAL)


def test_key_from_a_file_and_nothing_else_fetched(node: Machine, repository: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.asc"
    shutil.copy(repository / "libnvidia-container/gpgkey", key)
    (tmp_path / "srv/libnvidia-container/gpgkey").unlink()
    node.refuses("cannot be fetched from", "container_toolkit_repo_key_file")
    node.settles(repo_key_file=str(key))
    assert versions(node) == all_of(NEWER)


def test_wrong_key(node: Machine, tmp_path: Path) -> None:
    node.refuses("is not the one that the repository should be signed with", repo_key_fingerprint="0" * 40)
    # the right key is there, but the repository is signed by another
    with aptrepo.keyring(tmp_path / "other.asc") as other:
        folder = tmp_path / "srv" / STABLE
        aptrepo.write_indexes(folder, other, "x", "amd64", time.time())
    node.refuses("signed by another key than the one in /etc/apt/keyrings/nvidia-container-toolkit.asc")
    assert versions(node) == {}


@pytest.mark.parametrize("suite", ["bookworm", "trixie"], indirect=True)
def test_spoilt_signatures(node: Machine, tmp_path: Path) -> None:
    """The message about an index that was changed after it was signed does not advise to trust another key."""
    folder = tmp_path / "srv" / STABLE
    inline, release, detached = (folder / name for name in ("InRelease", "Release", "Release.gpg"))
    signed = inline.read_text()
    for broken, advice in (
        (signed.replace("Origin: ", "Origin: x", 1), CHANGED),
        (signed.replace("-----END PGP SIGNATURE", "x-----END PGP SIGNATURE"), ""),
        ("<html><body>Please log in</body></html>\n", "What answers at this address is no repository"),
    ):
        inline.write_text(broken)
        refused = node.refuses(advice)
        assert ANOTHER_KEY not in refused
        assert UNSIGNED not in refused
    inline.unlink()
    release.write_text(f"{release.read_text()}Changed: yes\n")
    assert ANOTHER_KEY not in node.refuses(CHANGED)
    detached.unlink()
    assert ANOTHER_KEY not in node.refuses(UNSIGNED)
    assert versions(node) == {}


@pytest.mark.parametrize("suite", [pytest.param("trixie", marks=pytest.mark.matrix)], indirect=True)
def test_keys_and_signatures_that_apt_3_calls_weak(node: Machine, fingerprint: str, tmp_path: Path) -> None:
    """SHA-1 in a key's own signature counts as weak since February 2026, in a repository's since ever."""
    folder = tmp_path / "srv" / STABLE
    with aptrepo.keyring(tmp_path / "srv.key.asc") as environment:
        sign(folder, (folder / "Release").read_text(), environment, "--digest-algo", "SHA1")
    assert ANOTHER_KEY not in node.refuses(WEAK, "SHA1")
    with made_key("--cert-digest-algo", "SHA1") as environment:
        aptrepo.write_indexes(folder, environment, "x", "amd64", time.time())
        (tmp_path / "srv/libnvidia-container/gpgkey").write_text(aptrepo.public_key(environment))
        other = aptrepo.fingerprint(environment)
    assert ANOTHER_KEY not in node.refuses(WEAK, "SHA1", repo_key_fingerprint=other)
    assert versions(node) == {}


def test_expired_key(node: Machine, tmp_path: Path) -> None:
    with expired_keyring() as environment:
        aptrepo.write_indexes(tmp_path / "srv" / STABLE, environment, "x", "amd64", time.time())
        (tmp_path / "srv/libnvidia-container/gpgkey").write_text(aptrepo.public_key(environment))
        fingerprint = aptrepo.fingerprint(environment)
    node.refuses("The key that signed the repository has expired", "Nothing was changed",
                 repo_key_fingerprint=fingerprint)  # fmt: skip
    assert versions(node) == {}


def test_spoilt_and_expired_and_unreachable(node: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "srv" / STABLE
    packages = (folder / "Packages.gz").read_bytes()
    plain = (folder / "Packages").read_text()
    (folder / "Packages.gz").unlink()
    (folder / "Packages").write_text(plain.replace("1.20.2-1", "9.99.9-1"))
    node.refuses("is not the one that its signed index names")
    (folder / "Packages").write_text(plain)
    (folder / "Packages.gz").write_bytes(packages)

    with aptrepo.keyring(tmp_path / "srv.key.asc") as environment:
        folder_release = (folder / "Release").read_text()
        past = "Valid-Until: Mon, 02 Jan 2023 00:00:00 UTC\n"
        sign(folder, folder_release.replace("Date:", past + "Date:", 1), environment)
    node.refuses("only valid until a date that is past")

    shutil.rmtree(folder)
    node.refuses("The repository cannot be reached from the node", "container_toolkit_package_folder")
    assert versions(node) == {}


def sign(folder: Path, text: str, environment: dict[str, str], *options: str) -> None:
    (folder / "Release").write_text(text)
    for name, option in (("Release.gpg", ["--armor", "--detach-sign"]), ("InRelease", ["--clear-sign"])):
        (folder / name).unlink(missing_ok=True)
        aptrepo.run(["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *options, *option,
                     "--output", str(folder / name), str(folder / "Release")], env=environment)  # fmt: skip


def test_a_lock_is_waited_for_and_its_holder_named(node: Machine) -> None:
    """One process holds apt's lists, then dpkg's front end: for longer than is waited, then for less."""
    holder = (
        "import fcntl, time\nstream = open('{path}', 'w')\nfcntl.lockf(stream, fcntl.LOCK_EX)\ntime.sleep({seconds})\n"
    )
    for path in ("/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend"):
        script = holder.format(path=path, seconds=900)
        pid = node.shell(f'mkdir -p /var/lib/apt/lists; python3 -c "{script}" >/dev/null 2>&1 & echo $!')
        node.refuses("Another package manager is at work", f"held by process {pid} (python3)")
        node.execute("kill", pid)
    node.shell(f'python3 -c "{holder.format(path="/var/lib/dpkg/lock-frontend", seconds=6)}" >/dev/null 2>&1 &')
    node.works(apt_lock_timeout=60)
    assert versions(node) == all_of(NEWER)


def test_folder(node: Machine) -> None:
    """An air gap: packages from a folder, no repository, no key."""
    folder = f"/srv/{STABLE}"
    node.works("--check", "--diff", package_folder=folder, version="1.17.8")
    assert versions(node) == {}
    node.settles(package_folder=folder, version="1.17.8")
    assert versions(node) == all_of(OLDER)
    node.refuses(f"The folder {folder} has no version 1.20.9", f"It has: {NEWER}, {OLDER}", package_folder=folder,
                 version="1.20.9")  # fmt: skip
    node.settles(package_folder=folder)
    assert versions(node) == all_of(NEWER)
    node.refuses("newer than the wanted", package_folder=folder, version="1.17.8")
    node.settles(package_folder=folder, version="1.17.8", allow_downgrade=True)
    assert versions(node) == all_of(OLDER)
    node.settles(state="absent")
    assert versions(node) == {}


def test_old_sources(node: Machine) -> None:
    old = "/etc/apt/sources.list.d/nvidia-docker.list"
    mixed = "/etc/apt/sources.list.d/libnvidia-container.list"
    line = "deb https://nvidia.github.io/libnvidia-container/stable/debian11/$(ARCH) /"
    node.shell(
        f"echo '{line}' > {old}; printf '%s\\n' '{line}' '#deb file:/nowhere /' 'deb file:/srv/mine /' > {mixed}"
    )
    node.settles()
    assert node.execute("cat", old) == line
    node.works("--check", "--diff", old_repository="migrate")
    assert node.execute("cat", old) == line
    node.settles(old_repository="migrate")
    assert node.shell(f"ls {old} 2>&1 || true").endswith("No such file or directory")
    assert node.execute("cat", mixed).splitlines() == ["#deb file:/nowhere /", "deb file:/srv/mine /"]


def test_old_packages(node: Machine) -> None:
    """nvidia-docker2 goes, the toolkit that came with it and Docker's configuration stay."""
    source = "/etc/apt/sources.list.d/guide.list"
    node.shell(
        f"echo 'deb [trusted=yes] file:/srv/{STABLE} /' > {source}; apt-get -qq update 2>/dev/null;"
        f" apt-get -qq install -y --no-install-recommends /srv/old/*.deb >/dev/null && rm {source}"
    )
    assert set(PACKAGES) <= set(node.execute("apt-mark", "showauto").split())
    node.migrates(lambda: node.shell("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | sed -n 's/^.i *//p'"))
    assert "nvidia" not in node.execute("apt-get", "--simulate", "autoremove")


def test_deb822(node: Machine) -> None:
    """The form of Debian 13 and Ubuntu 24.04; a change of form leaves one source."""
    folder = "/etc/apt/sources.list.d"
    node.settles(apt_source_format="list", version="1.17.8")
    assert node.shell(f"ls {folder}").split() == ["nvidia-container-toolkit.list"]
    node.settles(apt_source_format="deb822")
    assert node.shell(f"ls {folder}").split() == ["nvidia-container-toolkit.sources"]
    assert f"URIs: {URL}/stable/deb/amd64" in node.execute("cat", f"{folder}/nvidia-container-toolkit.sources")
    assert versions(node) == all_of(NEWER)
    node.works(state="absent")
    assert node.shell(f"ls {folder}") == ""


def test_a_source_with_another_key_is_named(node: Machine) -> None:
    """apt takes one value of signed-by for a repository: the old source must go, and the message says how."""
    node.shell(f"echo 'deb [signed-by=/srv/other.asc] {URL}/stable/deb/amd64 /' > /etc/apt/sources.list.d/mine.list")
    run = node.role()
    assert run.returncode != 0
    assert "Another source names the same repository with another key" in " ".join(run.output.split())


def test_proxy(node: Machine) -> None:
    """The host name is the proxy's business alone: this machine cannot resolve it."""
    mirror = "http://mirror.invalid/libnvidia-container"
    node.start_proxy()
    node.refuses("cannot be fetched", "container_toolkit_proxy", repo_url=mirror)
    node.settles(repo_url=mirror, proxy=node.PROXY)
    assert versions(node) == all_of(NEWER)
    assert "GET http://mirror.invalid/libnvidia-container/stable/deb/amd64/" in node.proxy_log()
    node.works(state="absent")
    assert "proxy" not in node.files("/etc/apt").lower()


def test_a_password_in_an_address(node: Machine) -> None:
    node.keeps_secrets()


def test_settings(node: Machine) -> None:
    """The toolkit's own configuration: a preview before there is one, then the file with its comments kept."""
    wanted = {"mode": "cdi", "no_cgroups": True, "accept_envvar_when_unprivileged": False}
    node.works("--check", "--diff", config=wanted)
    node.settles(config=wanted)
    text = node.execute("cat", "/etc/nvidia-container-runtime/config.toml")
    assert 'mode = "cdi"' in text
    assert "no-cgroups = true" in text
    assert '#root = "/run/nvidia/driver"' in text
    node.works(state="absent")
    assert node.shell("ls -d /etc/nvidia-container-runtime 2>/dev/null || true") == ""
