"""Which Python modules are run by, and what is said where one is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.house import sanity, targets


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with these Pythons: function (minor versions)."""
    monkeypatch.setattr(sanity, "HOME", tmp_path)

    def has(*minors: str) -> None:
        found = {minor: Path(f"/python{minor}") for minor in minors}
        monkeypatch.setattr(targets, "pythons", lambda: found)

    return has


def test_the_newest_is_newest_by_number(machine):
    machine("3.9", "3.13", "3.10")
    assert targets.find("newest").python == Path("/python3.13")


def test_the_oldest_needs_its_ansible(machine, tmp_path):
    machine("3.8", "3.11")
    assert targets.prepare() == "no Python 3.7 on this machine"
    with pytest.raises(targets.MissingError, match=r"no Python 3\.7"):
        targets.find("oldest")
    machine("3.7", "3.14")
    assert "needs Python 3.10, 3.11, 3.12" in targets.prepare()
    with pytest.raises(targets.MissingError, match="--prepare installs it"):
        targets.find("oldest")
    program = tmp_path / "core-2.17/bin/ansible"
    packages = tmp_path / "core-2.17/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    program.parent.mkdir()
    program.touch()
    oldest = targets.find("oldest")
    assert (oldest.python, oldest.ansible) == (Path("/python3.7"), program)
    assert oldest.path.split(":")[:2] == [str(targets.COLLECTIONS), str(packages)]


def test_modules_run_by_our_own_python_unless_another_is_asked_for(machine, monkeypatch):
    monkeypatch.delenv("KUBEGPU_TARGET", raising=False)
    assert targets.chosen() == (sys.executable, str(targets.COLLECTIONS))
    machine("3.13")
    monkeypatch.setenv("KUBEGPU_TARGET", "newest")
    assert targets.chosen()[0] == "/python3.13"
