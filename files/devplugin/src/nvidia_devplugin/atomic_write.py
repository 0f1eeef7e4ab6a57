"""Files in the daemon's own directory beside the kubelet's socket, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def put(path: Path, text: str) -> None:
    """Have the file say this; its directory is made if there is none. Raises OSError."""
    # a name of its own: two daemons at once must not write into one file (and each is process 1 in its container)
    scratch = path.with_suffix(f".{os.urandom(6).hex()}.new")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def sweep(path: Path) -> None:
    """Remove what a daemon left that was killed while it wrote the file."""
    for left in path.parent.glob(f"{path.stem}.*new"):
        with contextlib.suppress(OSError):
            left.unlink()
