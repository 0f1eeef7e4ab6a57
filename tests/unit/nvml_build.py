"""Compiles the simulated driver once for all tests, all of pytest-xdist's processes and all later runs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.sim.nvml import nvmlsim

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(nvmlsim.__file__).parent
FLAGS = "-O1 -g"


class MissingToolError(RuntimeError):
    """There is no compiler or no make; the text says so."""


def library() -> Path:
    """The folder with libnvidia-ml.so.1 and nvidia-smi, built without a warning. Raises MissingToolError."""
    cache = ROOT / ".cache" / "nvml"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / digest()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            build(place)
    return place


def digest() -> str:
    """What the build depends on: names and contents of the sources."""
    state = hashlib.sha256(FLAGS.encode())
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        state.update(f"{path.relative_to(SOURCES)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


def build(place: Path) -> None:
    for tool in ("make", "cc"):
        if not shutil.which(tool):
            raise MissingToolError(
                f"{tool} is missing: the simulated library cannot be built (Debian: build-essential)"
            )
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        out = Path(scratch) / "out"
        command = ["make", "-C", str(SOURCES), f"OUT={out}", f"CFLAGS={FLAGS}"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
        assert "warning" not in built.stderr, built.stderr
        out.rename(place)
