#!/usr/bin/env python3
"""Add an rpm repository of the same packages to what build_repo.py makes, signed with the same key.

    build_rpm_repo.py OUTDIR --programs FOLDER [--secret-key FILE]

makes OUTDIR/libnvidia-container/{stable,experimental}/rpm/ARCH/ with .rpm files and signed repodata, as NVIDIA's
repository has them, and gpgkey with its fingerprint where they are missing. Needs rpmbuild (Debian: rpm), createrepo_c
and gpg.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import aptrepo
import build_repo
import contents
import rpmrepo


def build_repository(outdir: Path, secret_key: Path, architecture: str, programs: Path) -> None:
    """Make the rpm folders below `outdir` anew. architecture: rpm's name of it."""
    root = outdir / "libnvidia-container"
    with aptrepo.keyring(secret_key) as environment:
        for channel, versions in contents.CHANNELS.items():
            directory = root / channel / "rpm" / architecture
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            for version in versions:
                for package in contents.of(version):
                    rpmrepo.build(package, version, architecture, programs / version, directory)
            rpmrepo.write_indexes(directory, environment)
        old = outdir / "old"
        old.mkdir(exist_ok=True)
        for version, package in contents.OLD_PACKAGES.items():
            rpmrepo.build(package, version, architecture, programs / version, old)
        (root / "gpgkey").write_text(aptrepo.public_key(environment))
        (root / "gpgkey.fingerprint").write_text(aptrepo.fingerprint(environment) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = build_repo.arguments(__doc__)
    parser.add_argument("--architecture", default="x86_64", help="rpm's name of it")
    options = parser.parse_args(argv)
    missing = [tool for tool in ("rpmbuild", "createrepo_c", "gpg", "gpgconf") if not shutil.which(tool)]
    if missing:
        print(f"build_rpm_repo.py: needs {', '.join(missing)} (packages rpm, createrepo-c, gnupg)", file=sys.stderr)
        return 1
    outdir = options.outdir.resolve()
    try:
        secret_key = options.secret_key or outdir.with_name(outdir.name + ".key.asc")
        build_repository(outdir, secret_key, options.architecture, options.programs)
    except subprocess.CalledProcessError as error:
        print(f"build_rpm_repo.py: {' '.join(error.cmd)}: {error.stderr}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
