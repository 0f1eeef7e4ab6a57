"""Container engines of other versions than the test node's, from Debian's packages of other suites.

``python -m tests.engines.debian`` fetches them into the cache ($KUBEGPU_CACHE or ~/.cache/kubegpu) and prints where
they are. Nothing is installed: packages are downloaded with an apt of its own folder and unpacked. They need no later C
library than the one of Debian 12, so they run on the node.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.engines import EngineError
from tests.sim.cluster import paths

CONTAINERD = {"1.6": "bookworm", "1.7": "trixie", "2": "sid"}
"""Series of containerd -> the suite that has it."""

DOCKER = {"26": "trixie", "28": "sid"}
"""Series of Docker Engine -> the suite that has it."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def containerd(series: str, fetch: bool = True) -> Path:
    """The folder with containerd, its shims and ctr of a series of CONTAINERD. Raises EngineError."""
    folder = _engine("containerd", CONTAINERD, series, "containerd", fetch) / "usr/bin"
    return _of_series(folder, "containerd", series)


def docker(series: str, fetch: bool = True) -> Path:
    """The folder with dockerd and docker-proxy of a series of DOCKER. Raises EngineError."""
    folder = _engine("docker", DOCKER, series, "docker.io", fetch) / "usr/sbin"
    return _of_series(folder, "dockerd", series)


def _engine(name: str, suites: dict[str, str], series: str, package: str, fetch: bool) -> Path:
    folder = _folder(f"{name}-{series}")
    if not folder.exists():
        if not fetch:
            raise EngineError(f"{name} {series} is not in the cache: python -m tests.engines.debian fetches it")
        unpack([package], suites[series], folder)
    return folder


def _of_series(folder: Path, program: str, series: str) -> Path:
    version = subprocess.run([folder / program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r" v?(\d+\.\d+)", version.stdout)
    if not found or not f"{found[1]}.".startswith(f"{series}."):
        raise EngineError(f"wanted {program} {series}, found {(version.stdout or version.stderr).strip()}")
    return folder


def crio() -> Path:
    """The program crio: $KUBEGPU_CRIO, or the one in PATH. Raises EngineError."""
    found = os.environ.get("KUBEGPU_CRIO") or shutil.which("crio")
    if not found or not os.access(found, os.X_OK):
        raise EngineError("no CRI-O here, and no Debian suite has it as a package: name its program in $KUBEGPU_CRIO")
    return Path(found)


def _folder(name: str) -> Path:
    return paths.cache() / "engines" / name


def unpack(packages: list[str], suite: str, folder: Path) -> None:
    """Fetches packages of a suite of Debian, without what they depend on, into a new folder. Raises EngineError."""
    mirror = _mirror()
    root = _folder("apt") / suite
    for below in ("state/lists/partial", "cache/archives/partial", "parts", "download"):
        (root / below).mkdir(parents=True, exist_ok=True)
    (root / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n")
    (root / "status").touch()
    options = [
        f"Dir::Etc::sourcelist={root}/sources.list", f"Dir::Etc::sourceparts={root}/parts",
        f"Dir::Etc::preferencesparts={root}/parts", f"Dir::State={root}/state",
        f"Dir::State::status={root}/status", f"Dir::Cache={root}/cache", "APT::Sandbox::User=root",
    ]  # fmt: skip
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    _run([*apt, "update"], root)
    _run([*apt, "download", *packages], root / "download")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for archive in sorted((root / "download").glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(partial)], root)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    shutil.rmtree(root)


def _mirror() -> str:
    """The Debian mirror that this machine uses."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise EngineError(f"{tool} is not here, so packages of Debian cannot be fetched")
    if not KEYRING.exists():
        raise EngineError(f"{KEYRING} is not here (package debian-archive-keyring), so packages cannot be trusted")
    for file in sorted(Path("/etc/apt").glob("sources.list*")):
        for path in sorted(file.iterdir()) if file.is_dir() else [file]:
            match = re.search(r"^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(\S+/debian)/?\s", path.read_text(), re.MULTILINE)
            if match:
                return match[1]
    raise EngineError("no Debian mirror in /etc/apt")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise EngineError(f"{command[0]} {command[-1]}: {done.stderr.strip()[-500:]}")


def main() -> int:
    missing = 0
    engines = [(f"containerd {series}", lambda series=series: containerd(series)) for series in CONTAINERD]
    engines += [(f"Docker {series}", lambda series=series: docker(series)) for series in DOCKER]
    for name, get in [*engines, ("CRI-O", crio)]:
        try:
            print(f"{name}: {get()}")
        except EngineError as error:
            missing += 1
            print(f"{name}: {error}")
    return int(missing > 1)


if __name__ == "__main__":
    sys.exit(main())
