"""What a release consists of: the same bytes twice, and a bill of materials that says what the image holds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile

import pytest
import yaml
from packaging.requirements import Requirement

from tests.house import release, sbom
from tests.house.repository import ROOT, version

pytestmark = pytest.mark.slow  # starts ansible-playbook and ansible-galaxy several times

DAEMON = ROOT / "files" / "devplugin"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The files of a release by their names' endings."""
    return release.build(tmp_path_factory.mktemp("first"))


def test_the_same_sources_give_the_same_bytes(built, tmp_path):
    before = os.umask(0o077)
    try:
        again = release.build(tmp_path)
    finally:
        os.umask(before)
    assert [path.name for path in again] == [path.name for path in built]
    assert [
        path.name for path, other in zip(again, built, strict=True) if path.read_bytes() != other.read_bytes()
    ] == []


def test_the_digests_are_those_of_the_files(built):
    *files, sums = built
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert {line.split()[1]: line.split()[0] for line in sums.read_text().splitlines()} == expected


def test_the_tarball_holds_the_collection_and_nothing_of_its_workshop(built):
    with tarfile.open(built[0]) as archive:
        names = archive.getnames()
        manifest = json.load(archive.extractfile("MANIFEST.json"))
        listing = archive.extractfile("FILES.json").read()
    assert manifest["collection_info"]["version"] == version()
    assert manifest["file_manifest_file"]["chksum_sha256"] == hashlib.sha256(listing).hexdigest()
    assert {"README.md", "LICENSE", "playbooks/site.yml", "files/devplugin/Containerfile"} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert tops & {"tests", "molecule", ".ci", ".git", ".cache", ".venv", "Makefile", "build"} == set()
    assert [name for name in names if name.endswith(".pyc") or "__pycache__" in name] == []


def test_the_manifest_names_the_release_and_what_the_role_applies(built):
    objects = list(yaml.safe_load_all(built[2].read_text()))
    kinds = ["Namespace", "RuntimeClass", "ServiceAccount", "ConfigMap", "DaemonSet"]
    assert [item["kind"] for item in objects] == kinds
    (container,) = objects[-1]["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f":{version()}")


def test_the_image_is_built_with_the_versions_of_the_bill_of_materials(built):
    bill = json.loads(built[3].read_text())
    assert {item["name"]: item["version"] for item in bill["components"]} == sbom.pins()
    containerfile = (DAEMON / "Containerfile").read_text()
    assert re.search(r"--require-hashes --no-deps \\\s+--requirement requirements.txt", containerfile)
    assert containerfile.count(" install ") == 1, "nothing without a hash gets into the image"


def test_what_the_containerfile_copies_is_let_through_to_the_build():
    text = (DAEMON / "Containerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    allowed = re.findall(r"^!(.*)$", (DAEMON / ".dockerignore").read_text(), re.MULTILINE)
    assert "src" in copied and set(copied) - set(allowed) == set()


def test_the_pinned_versions_are_in_the_daemons_ranges_and_none_is_missing():
    text = re.search(r"^dependencies = \[(.*?)^\]", (DAEMON / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    ranges = [Requirement(item) for item in re.findall(r'^\s*"(.*)",$', text[1], re.MULTILINE)]
    assert sorted(sbom.normalized(item.name) for item in ranges) == sbom.NEEDS["nvidia-devplugin"]
    outside = [str(item) for item in ranges if sbom.pins()[sbom.normalized(item.name)] not in item.specifier]
    assert outside == []


def test_every_component_is_reached_from_the_daemon():
    bill = sbom.document()
    reached, waiting = set(), [bill["metadata"]["component"]["bom-ref"]]
    edges = {item["ref"]: item["dependsOn"] for item in bill["dependencies"]}
    while waiting:
        reference = waiting.pop()
        reached.add(reference)
        waiting += edges[reference]
    assert reached == {item["bom-ref"] for item in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
