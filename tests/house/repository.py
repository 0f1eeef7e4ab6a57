"""Where the repository is, and how its metadata is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(folder for folder in (ROOT / "roles").iterdir() if (folder / "tasks").is_dir())


def load(path: Path) -> Any:
    """A YAML file's content."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def version() -> str:
    """The version of the collection: galaxy.yml's."""
    return str(load(ROOT / "galaxy.yml")["version"])
