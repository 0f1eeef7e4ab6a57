"""The collections that this one depends on, for tools that read its documentation in a place of their own."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.house.repository import ROOT, load


def offer(place: Path) -> None:
    """Links them into a folder that Ansible takes collections from, out of the virtual environment's package ansible.

    Raises FileNotFoundError where that has not all of them.
    """
    for name in load(ROOT / "galaxy.yml")["dependencies"]:
        folders = [Path(entry, "ansible_collections", *name.split(".")) for entry in sys.path]
        found = next((folder for folder in folders if folder.is_dir()), None)
        if found is None:
            raise FileNotFoundError(f"the collection {name} is not among the packages of {sys.executable}")
        link = place.joinpath("ansible_collections", *name.split("."))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(found)
