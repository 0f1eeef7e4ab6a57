# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What docs/runtime-config-comparison.md says about this collection, run again on the files that are in it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.unit.plugins.modules.runtime_config_helpers import ROOT, run_module, tree

PAGE = (ROOT / "docs" / "runtime-config-comparison.md").read_text(encoding="utf-8")
CASE = re.compile(
    r"^## (?P<title>\d+\. .*?)\n\n```(?P<kind>\w+)\n(?P<old>.*?)```\n.*?- this collection:\n\n(?P<note>.*?)"
    r"```(?P<new_kind>\w+)\n(?P<new>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
CASES = list(CASE.finditer(PAGE))


def as_bytes(kind, block):
    return ast.literal_eval(block.strip()) if kind == "bytes" else block.encode()


def test_the_page_has_ten_files_and_every_heading_is_one():
    assert len(CASES) == len(re.findall(r"^## ", PAGE, re.MULTILINE)) == 10


@pytest.mark.parametrize("case", CASES, ids=[case["title"] for case in CASES])
def test_ours_is_what_the_page_says(case, tmp_path):
    path = tmp_path / "etc" / "daemon.json"
    path.parent.mkdir()
    old = as_bytes(case["kind"], case["old"])
    path.write_bytes(old)
    before = tree(tmp_path)
    answer = run_module(
        "docker_runtime_config",
        config_path=str(path),
        state_dir=str(tmp_path / "memory"),
        docker_host=f"unix://{tmp_path}/docker.sock",
        unit="",
        check_gpus_flag=False,
        set_default=True,
    )
    if case["new_kind"] == "text":
        said = answer.get("msg", "(the file is left as it is)").replace(str(path), "daemon.json")
        assert said == case["new"].strip()
        assert tree(tmp_path) == before
    else:
        assert path.read_bytes() == as_bytes(case["new_kind"], case["new"])
    conflict = answer.get("conflict")
    assert (f"`{conflict}`" in case["note"]) if conflict else case["note"] == ""
