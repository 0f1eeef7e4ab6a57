"""Programs in place of NVIDIA's, for tests of the packages alone: they have the names and do nothing."""

from __future__ import annotations

from pathlib import Path

NAMES = ("nvidia-ctk", "nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-cdi-hook",
         "nvidia-cdi-refresh.service", "nvidia-cdi-refresh.path", "nvidia-cdi-refresh.env", "10-container-engines.conf",
         "99-nvidia-cdi-refresh.rules", "90-nvidia-container-toolkit.preset")  # fmt: skip


def make(folder: Path, versions: tuple[str, ...]) -> Path:
    for version in versions:
        (folder / version).mkdir(parents=True)
        for name in NAMES:
            (folder / version / name).write_text(f"#!/bin/sh\necho {name} {version}\n")
    return folder
