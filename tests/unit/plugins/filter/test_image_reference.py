# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kubegpu.nvidia.plugins.filter.image_reference import image_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("user/app", "docker.io/user/app:latest"),
        ("localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry.example.com/a/b/c:v1", "registry.example.com/a/b/c:v1"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        (f"ghcr.io/a/b@{DIGEST}", f"ghcr.io/a/b@{DIGEST}"),
        (f"ghcr.io/a/b:1@{DIGEST}", f"ghcr.io/a/b:1@{DIGEST}"),
    ],
)
def test_full_form(name, full):
    assert image_reference(name) == full
    assert image_reference(full) == full


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "repository"),
        ("user/App", "lower-case"),
        ("app:a b", "tag 'a b'"),
        ("app:" + "x" * 129, "128 characters"),
        ("app@sha256:xyz", "digest 'sha256:xyz'"),
        ("https://example.com/app", "not an image's name"),
    ],
)
def test_invalid(name, message):
    with pytest.raises(AnsibleFilterError, match=message):
        image_reference(name)
