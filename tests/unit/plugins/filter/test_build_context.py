# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.filter.build_context import build_context


def found(**checksums):
    return [{"path": f"/src/{path}", "checksum": checksum} for path, checksum in checksums.items()]


def test_paths_are_relative_sorted_and_without_caches():
    files = found(**dict.fromkeys(("b.py", "a/c.py", "a/__pycache__/c.pyc", ".venv/x", "ca-bundle.pem"), "1"))
    files += found(**{"app.egg-info/PKG-INFO": "1", "old.py~": "1", ".containerignore": "1"})
    assert build_context(files, "/src/")["paths"] == [".containerignore", "a/c.py", "b.py"]


@given(st.permutations(["a", "b", "c/d"]))
def test_the_order_in_which_files_are_found_does_not_matter(names):
    files = [{"path": f"/src/{name}", "checksum": name} for name in names]
    assert build_context(files, "/src") == build_context(sorted(files, key=lambda item: item["path"]), "/src")


def test_the_place_of_the_checkout_does_not_matter():
    elsewhere = [{"path": "/other/place/a", "checksum": "1"}]
    assert build_context(found(a="1"), "/src") == build_context(elsewhere, "/other/place")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((found(a="2"), ""), id="content"),
        pytest.param((found(b="1"), ""), id="name"),
        pytest.param((found(a="1", b="1"), ""), id="one-more"),
        pytest.param((found(a="1"), "debian:12"), id="salt"),
    ],
)
def test_what_makes_another_image_makes_another_digest(other):
    files, salt = other
    assert build_context(files, "/src", salt)["digest"] != build_context(found(a="1"), "/src")["digest"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param([], "no file to build from below /src/", id="nothing"),
        pytest.param([{"path": "/src/a"}], "/src/a has no checksum", id="no-checksum"),
        pytest.param([{"path": "/srcs/a", "checksum": "1"}], "/srcs/a does not lie below /src/", id="outside"),
    ],
)
def test_errors(files, message):
    with pytest.raises(AnsibleFilterError, match=message):
        build_context(files, "/src")
