"""``make release``: everything that a release consists of, in build/. The same sources give the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from ansible_collections.kubegpu.nvidia.plugins.filter.build_context import (  # type: ignore[import-untyped]
    build_context,
)
from tests.house import sbom, tarball
from tests.house.repository import ROOT, version

DAEMON = ROOT / "files" / "devplugin"


def context(folder: Path) -> Path:
    """The sources from which the image is built, as ``docker build -`` takes them: the files that decide the tag."""
    files = [
        {"path": str(path), "checksum": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in DAEMON.rglob("*")
        if path.is_file()
    ]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in build_context(files, str(DAEMON))["paths"]:
            like = tarfile.TarInfo(name)
            like.mode = (DAEMON / name).stat().st_mode
            tarball.add(archive, name, (DAEMON / name).read_bytes(), like)
    target = folder / f"nvidia-devplugin-{version()}-context.tar.gz"
    target.write_bytes(gzip.compress(packed.getvalue(), compresslevel=9, mtime=0))
    return target


def manifest(folder: Path, **more: object) -> Path:
    """The Kubernetes objects that the role applies with its defaults, but for `more`. Raises tarball.BuildError."""
    target = folder / f"nvidia-devplugin-{version()}.yml"
    variables = {
        "ansible_python_interpreter": sys.executable,
        "manifest_path": str(target),
        "device_plugin_image": f"localhost/kubegpu/nvidia-devplugin:{version()}",
        "device_plugin_plan": {"runtime_class": "nvidia", "manage_namespace": True, "manage_runtime_class": True},
        **more,
    }
    tool = Path(sys.executable).parent / "ansible-playbook"
    playbook = [str(tool), "-i", "localhost,", str(Path(__file__).parent / "manifest.yml")]
    done = subprocess.run(
        [*playbook, "--extra-vars", json.dumps(variables)],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    if done.returncode != 0:
        raise tarball.BuildError(done.stdout + done.stderr)
    return target


def bill(folder: Path) -> Path:
    target = folder / f"nvidia-devplugin-{version()}.cdx.json"
    target.write_text(json.dumps(sbom.document(), indent=2) + "\n", encoding="utf-8")
    return target


def build(folder: Path) -> list[Path]:
    """Builds all of it into a folder; the files, the list of their digests last."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [make(folder) for make in (tarball.build, context, manifest, bill)]
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files))
    return [*files, sums]


if __name__ == "__main__":
    for path in build(ROOT / "build"):
        print(f"{path.stat().st_size:>9} {path}")
