"""The collection's tarball: the same bytes from the same sources, wherever and whenever it is built."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.house.repository import ROOT, version

MODIFIED = 1
"""The modification time of all files of an archive, in seconds since 1970: an archive's bytes must not depend on when
it was made. Not 0, which some tools take for "unknown"."""


class BuildError(RuntimeError):
    """ansible-galaxy or git would not; the text is what they said."""


def build(folder: Path) -> Path:
    """Builds the tarball with ansible-galaxy into a folder; its path. Raises BuildError."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"kubegpu-nvidia-{version()}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        sources = copied_sources(Path(scratch) / "sources")
        galaxy = Path(sys.executable).parent / "ansible-galaxy"
        _run([str(galaxy), "collection", "build", str(sources), "--output-path", scratch], Path(scratch))
        target.write_bytes(repack((Path(scratch) / target.name).read_bytes()))
    return target


def copied_sources(folder: Path) -> Path:
    """Copies what git keeps or would keep, as it lies in the working tree: no caches, nothing that is ignored.

    Without git, or where this is no checkout, the answer is the sources' own place, and build_ignore has to do.
    """
    try:
        listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT)
    except (BuildError, FileNotFoundError):
        return ROOT
    for name in sorted(set(filter(None, listed.split("\0")))):
        source = ROOT / name
        if source.is_file():  # a deletion that is not committed yet is a deletion
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name, follow_symlinks=False)
    return folder


def repack(archive: bytes) -> bytes:
    """A collection's tarball in a fixed order, without the times and the listing order of the machine that made it."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        members = {member.name: member for member in source.getmembers()}
        contents = {name: source.extractfile(member) for name, member in members.items() if member.isfile()}
        data = {name: file.read() for name, file in contents.items() if file}
    data["MANIFEST.json"], data["FILES.json"] = manifests(data["MANIFEST.json"], data["FILES.json"])
    # ansible-galaxy looks for these two first
    first = [name for name in ("MANIFEST.json", "FILES.json") if name in members]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as target:
        for name in [*first, *sorted(set(members) - set(first))]:
            add(target, name, data.get(name, b""), members[name])
    return gzip.compress(packed.getvalue(), compresslevel=9, mtime=0)


def manifests(manifest: bytes, files: bytes) -> tuple[bytes, bytes]:
    """(MANIFEST.json, FILES.json) with the files sorted by name; the one holds the other's digest."""
    listing = json.loads(files)
    listing["files"].sort(key=lambda entry: entry["name"])
    sorted_files = json.dumps(listing, indent=True).encode()
    summary = json.loads(manifest)
    summary["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(sorted_files).hexdigest()
    return json.dumps(summary, indent=True).encode(), sorted_files


def add(target: tarfile.TarFile, name: str, data: bytes, like: tarfile.TarInfo) -> None:
    """Adds a member with the type and the executable bit of another, and nothing else that differs between machines."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = like.type, like.linkname
    member.mode = 0o755 if like.isdir() or like.mode & 0o100 else 0o644
    member.mtime = MODIFIED
    member.size = len(data)
    target.addfile(member, io.BytesIO(data))


def unpack(folder: Path) -> Path:
    """Builds the tarball and unpacks it as a collection below a folder that is made anew; where it lies then."""
    shutil.rmtree(folder, ignore_errors=True)
    place = folder / "ansible_collections" / "kubegpu" / "nvidia"
    place.mkdir(parents=True)
    with tarfile.open(build(folder)) as archive:
        archive.extractall(place)  # noqa: S202 - we have just made it
    return place


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    print(build(ROOT / "build"))
