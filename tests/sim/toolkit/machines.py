"""Machines without systemd and without a network, one for each package manager, with the repository served inside.

    python -m tests.sim.toolkit.machines up      # bookworm and trixie with apt, one with dnf, one with zypper
    python -m tests.sim.toolkit.machines down

A machine is a container with ``--network none``: what the role would fetch from anywhere but the repository that its
variables name cannot be had. The repository is a folder of this computer, served inside the machine.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.sim.cluster import docker, images, names, paths

from . import repository

URL = "http://127.0.0.1:8080/libnvidia-container"
NAMES = {manager: f"{names.PREFIX}-toolkit-{manager}" for manager in ("bookworm", "trixie", "dnf", "zypper")}
FOLDER = f"toolkit-machines/{names.PREFIX}"
DNF5 = f"{names.PREFIX}-tk-dnf5:1"

# zypper fails when the last package of all is removed, and what packages run when they are installed needs a shell.
_BYSTANDER = """
cd /tmp
printf 'Name: bystander\\nVersion: 1\\nRelease: 1\\nSummary: x\\nLicense: x\\n' > b.spec
printf 'BuildArch: noarch\\nProvides: /bin/sh\\n' >> b.spec
printf '%%description\\nx\\n%%files\\n' >> b.spec
case "$(rpm --version)" in *' 4.'*) option=--force-debian ;; esac
rpmbuild -bb --define '_rpmdir /tmp/b' b.spec >/dev/null 2>&1 && rpm -i $option b/noarch/*.rpm
"""


def start(name: str, image: str, served: Path) -> None:
    # a shell as process 1: libzypp waits for a process whose end nobody took notice of as if it still ran
    docker.run("run", "--detach", "--network", "none", "--name", name, "--entrypoint", "sh",
               "--volume", f"{served}:/srv", image, "-c", "sleep infinity & wait")  # fmt: skip


def shell(name: str, script: str) -> str:
    return docker.run("exec", name, "sh", "-c", script)


def serve(name: str) -> None:
    """Serves /srv at URL's place."""
    server = ["python3", "-m", "http.server", "--directory", "/srv", "--bind", "127.0.0.1", "8080"]
    docker.run("exec", "--detach", name, *server)
    shell(
        name,
        "for i in $(seq 50); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8080))'"
        " 2>/dev/null && exit; sleep 0.1; done; exit 1",
    )


def forget_sources(name: str) -> None:
    """Leaves apt no source and no list."""
    shell(name, "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*")


def prepare_rpm(name: str, package_manager: str) -> None:
    """Makes a machine of Debian's one with rpm packages."""
    # Debian's rpm keeps its database in the user's home
    shell(name, "mkdir -p /etc/rpm /var/lib/rpm; echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros; rpm --initdb")
    if package_manager == "dnf5":
        # Debian's has a plugin on that keeps a copy of each package; Fedora's comes without it
        shell(name, "sed -i 's/^enabled = host-only/enabled = 0/' /etc/dnf/libdnf5-plugins/local.conf")
        # rpm 6 gives scriptlets a mount namespace of their own, which this container may not
        shell(name, "echo '%__transaction_unshare %{nil}' >> /etc/rpm/macros")
    shell(name, _BYSTANDER)
    if package_manager == "zypper":
        shell(name, "mkdir -p /etc/zypp/repos.d")  # Debian's package leaves it out


def rpm_image(package_manager: str) -> str:
    """The image of a machine whose package manager is dnf, dnf5 or zypper, made of Debian's packages."""
    if package_manager == "dnf5":  # Debian has it since forky
        needed = ["ca-certificates", "dnf5", "gnupg", "procps", "python3", "python3-libdnf5", "rpm"]
        images.ensure_suite("forky", DNF5, needed, print)
        return DNF5
    packages = {"dnf": "dnf python3-dnf dnf-plugins-core", "zypper": "zypper"}[package_manager]
    image = f"{names.PREFIX}-tk-{package_manager}:1"
    toolkit = paths.SIM / "toolkit"
    images.ensure(print)
    options = {"BASE": images.BASE, "PACKAGES": f"{packages} createrepo-c"}
    docker.build(toolkit, toolkit / "rpm-node.Dockerfile", "node", image, **options)
    return image


def rpm_repository(image: str, outdir: Path) -> Path:
    """The rpm repository, built inside the image since few machines that run these tests have rpmbuild."""
    return repository.rpm(image, outdir, print)


def apt_repository(outdir: Path) -> Path:
    return repository.apt(outdir, print)


def apt_image(suite: str) -> str:
    """A machine with apt: the cluster's node, or another release of Debian with what Ansible and the role need."""
    if suite == names.SUITE:
        images.ensure(print)
        return images.NODE
    image = f"{names.PREFIX}-tk-{suite}:1"
    images.ensure_suite(suite, image, ["ca-certificates", "gpg", "procps", "python3", "python3-apt"], print)
    return image


def up() -> None:
    down()
    folder = paths.cache() / FOLDER
    for manager, name in NAMES.items():
        outdir = folder / manager
        outdir.mkdir(parents=True)
        if manager in ("dnf", "zypper"):
            image = rpm_image(manager)
            served = rpm_repository(image, outdir)
        else:
            served = apt_repository(outdir)
            image = apt_image(manager)
        print(f"machine {name}", flush=True)
        start(name, image, served)
        if manager in ("dnf", "zypper"):
            prepare_rpm(name, manager)
        else:
            forget_sources(name)
        serve(name)


def down() -> None:
    for name in NAMES.values():
        if docker.inspect("container", name):
            docker.run("rm", "--force", name)
    shutil.rmtree(paths.cache() / FOLDER, ignore_errors=True)


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()
