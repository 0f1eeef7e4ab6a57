"""One version for the collection and the daemon, and what is said to work is what the metadata say."""

from __future__ import annotations

import ast
import re

from tests.house.repository import ROOT, load, version
from tests.house.sanity import CORES

DAEMON = ROOT / "files" / "devplugin"


def test_the_daemon_has_the_collections_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", version())
    assert re.findall(r'^version = "(.*)"$', (DAEMON / "pyproject.toml").read_text(), re.MULTILINE) == [version()]
    text = (DAEMON / "src" / "nvidia_devplugin" / "__init__.py").read_text()
    (value,) = [
        node.value.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.targets[0].id == "__version__"
    ]
    assert value == version()


def test_the_readme_names_the_tarball_that_is_built():
    named = set(re.findall(r"kubegpu-nvidia-(\S+?)\.tar\.gz", (ROOT / "README.md").read_text()))
    assert named == {version()}


def test_every_supported_series_of_ansible_core_is_tested():
    oldest = load(ROOT / "meta" / "runtime.yml")["requires_ansible"].removeprefix(">=").removesuffix(".0")
    assert min(CORES, key=lambda series: int(series.split(".")[1])) == oldest
    minors = sorted(int(series.split(".")[1]) for series in CORES)
    assert minors == list(range(minors[0], minors[-1] + 1))
