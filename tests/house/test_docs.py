"""The pages lead where they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.repository import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("roles/*/README.md"),
         ROOT / "files/devplugin/README.md"]  # fmt: skip


def anchors(page: Path) -> set[str]:
    """The names that a page's headings get."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_something(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_decision_is_in_the_list():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert sorted(path.name for path in folder.glob("[0-9]*.md")) == listed


def test_every_variable_that_playbooks_and_roles_share_is_in_a_table_of_the_guide():
    sources = [*(ROOT / "playbooks").rglob("*.yml"), *ROOT.glob("roles/*/*/*.yml")]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    used = set(re.findall(r"\b(kubegpu_[a-z_]+) \| default\(", text)) - {"kubegpu_verify"}
    pages = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    assert "kubegpu_hosts" in used
    assert used - set(re.findall(r"^\| `(kubegpu_\w+)` \|", pages, re.MULTILINE)) == set()


def test_make_help_tells_what_every_target_does():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):(?! *=)", makefile, re.MULTILINE))
    told = set(re.findall(r"^([a-z][a-z0-9-]*):.*## \S", makefile, re.MULTILINE))
    assert targets - told <= {"tools", "engine", "browser"}
