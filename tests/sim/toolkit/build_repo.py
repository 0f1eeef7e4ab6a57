#!/usr/bin/env python3
"""Build a signed apt repository with packages of the NVIDIA Container Toolkit, laid out as NVIDIA's.

    build_repo.py OUTDIR --programs FOLDER

FOLDER has one folder for each version of contents.PROGRAMS, with the programs and units of that version. Makes
OUTDIR/libnvidia-container/{gpgkey,gpgkey.fingerprint} and, per channel,
OUTDIR/libnvidia-container/stable/deb/amd64/. Serve OUTDIR with any web server, or use a file: URL:

    deb [signed-by=KEY] URL/libnvidia-container/stable/deb/$(ARCH) /

Needs dpkg-deb, gpg and Python >= 3.9. Nothing is done if the repository is there and its sources have not changed.
The private key lies beside OUTDIR, not in it, and is used again when the repository is rebuilt.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import aptrepo
import contents
import packages

LABEL = "kubegpu.nvidia-tests"
SOURCES = ("build_repo.py", "contents.py", "packages.py", "aptrepo.py")


def source_digest(architecture: str, programs: Path) -> str:
    """Changes when anything that goes into the repository does."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256(architecture.encode())
    files = [*(here / name for name in SOURCES), *sorted(packages.PAYLOAD.rglob("*")), *sorted(programs.rglob("*"))]
    for path in files:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def default_architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def build_repository(outdir: Path, secret_key: Path, architecture: str, programs: Path) -> bool:
    """Make the repository below `outdir`; False if it was there already."""
    root = outdir / "libnvidia-container"
    stamp = root / ".built-from"
    digest = source_digest(architecture, programs)
    if stamp.exists() and stamp.read_text() == digest and secret_key.exists():
        return False
    if root.exists():
        shutil.rmtree(root)
    with aptrepo.keyring(secret_key) as environment:
        for channel, versions in contents.CHANNELS.items():
            directory = root / channel / "deb" / architecture
            directory.mkdir(parents=True)
            for version in versions:
                for package in contents.of(version):
                    packages.build(package, version, architecture, programs / version, directory)
            aptrepo.write_indexes(directory, environment, LABEL, architecture, time.time())
        old = outdir / "old"
        old.mkdir(exist_ok=True)
        for version, package in contents.OLD_PACKAGES.items():
            packages.build(package, version, architecture, programs / version, old)
        (root / "gpgkey").write_text(aptrepo.public_key(environment))
        (root / "gpgkey.fingerprint").write_text(aptrepo.fingerprint(environment) + "\n")
    stamp.write_text(digest)
    return True


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--programs", type=Path, required=True, help="the folder with a folder for each version")
    parser.add_argument("--secret-key", type=Path, help="private key file (default OUTDIR.key.asc; made if missing)")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--architecture", help="dpkg's name of it (default this machine's)")
    options = parser.parse_args(argv)
    missing = [tool for tool in ("dpkg-deb", "gpg", "gpgconf") if not shutil.which(tool)]
    if missing:
        print(f"build_repo.py: needs {', '.join(missing)} (Debian packages dpkg and gnupg)", file=sys.stderr)
        return 1
    outdir = options.outdir.resolve()
    secret_key = options.secret_key or outdir.with_name(outdir.name + ".key.asc")
    architecture = options.architecture or default_architecture()
    try:
        built = build_repository(outdir, secret_key, architecture, options.programs)
    except subprocess.CalledProcessError as error:
        print(f"build_repo.py: {' '.join(error.cmd)}: {error.stderr}", file=sys.stderr)
        return 1
    print(f"{outdir / 'libnvidia-container'}: {'built' if built else 'unchanged'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
