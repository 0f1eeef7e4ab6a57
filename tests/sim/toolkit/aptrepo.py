"""A flat, signed apt repository: https://wiki.debian.org/DebianRepository/Format#Flat_Repository_Format."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

KEY_NAME = "kubegpu.nvidia tests (not NVIDIA) <root@localhost>"


def run(command: list[str], **options) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


# --- keys -----------------------------------------------------------------------------------------------------------


@contextmanager
def keyring(secret_key: Path) -> Iterator[dict[str, str]]:
    """An environment whose gpg knows the secret key in this file; the key is made if the file is not there.

    The home directory is a short-lived one in the system's temporary directory: gpg-agent's socket has a short limit
    for its path. The file keeps the key, so that a repository that is built again has the same key."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        environment = {**os.environ, "GNUPGHOME": home}
        gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        try:
            if secret_key.exists():
                run([*gpg, "--import", str(secret_key)], env=environment)
            else:
                run([*gpg, "--quick-generate-key", KEY_NAME, "rsa3072", "sign", "never"], env=environment)
                secret_key.parent.mkdir(parents=True, exist_ok=True)
                secret_key.touch(mode=0o600)
                secret_key.write_text(run([*gpg, "--armor", "--export-secret-keys"], env=environment))
            yield environment
        finally:
            subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=environment, check=False)


def fingerprint(environment: dict[str, str]) -> str:
    listing = run(["gpg", "--batch", "--with-colons", "--fingerprint"], env=environment)
    return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))


def public_key(environment: dict[str, str]) -> str:
    return run(["gpg", "--batch", "--armor", "--export"], env=environment)


# --- indexes --------------------------------------------------------------------------------------------------------

HASHES = {"MD5sum": hashlib.md5, "SHA1": hashlib.sha1, "SHA256": hashlib.sha256}


def stanza(package: Path) -> str:
    data = package.read_bytes()
    control = run(["dpkg-deb", "--field", str(package)]).rstrip("\n")
    sums = "".join(f"{name}: {make(data).hexdigest()}\n" for name, make in HASHES.items())
    fields, _, description = control.partition("\nDescription:")
    return f"{fields}\nFilename: ./{package.name}\nSize: {len(data)}\n{sums}Description:{description}\n"


def release(directory: Path, files: list[str], label: str, architectures: str, date: float) -> str:
    lines = [f"Origin: {label}", f"Label: {label}", f"Architectures: {architectures}",
             f"Date: {formatdate(date, usegmt=True)}"]  # fmt: skip
    for name, make in (("MD5Sum", hashlib.md5), ("SHA1", hashlib.sha1), ("SHA256", hashlib.sha256)):
        lines.append(f"{name}:")
        for file in files:
            data = (directory / file).read_bytes()
            lines.append(f" {make(data).hexdigest()} {len(data):16d} {file}")
    return "\n".join(lines) + "\n"


def write_indexes(directory: Path, environment: dict[str, str], label: str, architecture: str, date: float) -> None:
    """Packages, Packages.gz, Release, Release.gpg and InRelease for the .deb files in `directory`."""
    packages = "\n".join(stanza(package) for package in sorted(directory.glob("*.deb")))
    (directory / "Packages").write_text(packages)
    (directory / "Packages.gz").write_bytes(gzip.compress(packages.encode(), mtime=0))
    text = release(directory, ["Packages", "Packages.gz"], label, architecture, date)
    (directory / "Release").write_text(text)
    for name, option in (("Release.gpg", ["--armor", "--detach-sign"]), ("InRelease", ["--clear-sign"])):
        (directory / name).unlink(missing_ok=True)
        run(
            ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--digest-algo", "SHA512",
             *option, "--output", str(directory / name), str(directory / "Release")],
            env=environment,
        )  # fmt: skip
