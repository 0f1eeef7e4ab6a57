# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read from containerd's own dump of its configuration, and from a file's imports: no containerd is needed."""

from __future__ import annotations

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import (
    config as containerd_config,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd.effective import (
    ContainerdRuntime,
    effective_of,
    problems,
    side_effects,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd.imports import (
    candidate_text,
    takes_drop_in,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError

BINARY = "/usr/bin/nvidia-container-runtime"
NVIDIA = ContainerdRuntime("nvidia", BINARY)
V1 = "plugins.cri.containerd"
V2 = "plugins.'io.containerd.grpc.v1.cri'.containerd"
V3 = "plugins.'io.containerd.cri.v1.runtime'.containerd"
MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"


def dump(prefix=V2, default="runc", kind="io.containerd.runc.v2", binary=BINARY, more=""):
    return toml_text.scan(
        f"[{prefix}]\ndefault_runtime_name = '{default}'\n[{prefix}.runtimes.nvidia]\nruntime_type = '{kind}'\n"
        f"[{prefix}.runtimes.nvidia.options]\nBinaryName = '{binary}'\n{more}"
    )


@pytest.mark.parametrize("prefix", [V2, V3])
def test_the_part_of_cri_is_found(prefix):
    effective = effective_of(dump(prefix))
    assert effective.default_runtime_name == "runc"
    assert toml_text.to_python(effective.runtime("nvidia"))["options"] == {"BinaryName": BINARY}
    assert effective.runtime("kata") is None


def test_the_newer_part_counts_where_both_are_there():
    both = toml_text.scan(f"[{V2}]\ndefault_runtime_name = 'old'\n[{V3}]\ndefault_runtime_name = 'new'\n")
    assert effective_of(both).default_runtime_name == "new"
    assert effective_of(toml_text.scan(f"[{V3}]\n")).default_runtime_name is None


@pytest.mark.parametrize("text", ["", "[plugins]\n", f"{V2} = 7\n"])
def test_without_cri_there_is_nothing_to_judge(text):
    assert effective_of(toml_text.scan(text)) is None
    assert problems(None, NVIDIA, "nvidia") == []


@pytest.mark.parametrize(
    ("made", "wanted", "default", "found"),
    [
        pytest.param({}, NVIDIA, None, [], id="right"),
        pytest.param({"default": "nvidia"}, NVIDIA, "nvidia", [], id="right-default"),
        pytest.param({}, NVIDIA, "nvidia", ["default_runtime_name is 'runc' instead of 'nvidia'"], id="default"),
        pytest.param(
            {"default": "nvidia"},
            ContainerdRuntime("nvidia", BINARY, False),
            None,
            ["default_runtime_name is still 'nvidia'"],
            id="still-default",
        ),
        pytest.param({}, ContainerdRuntime("nvidia", BINARY, False), None, [], id="not-default"),
        pytest.param(
            {"kind": "io.x", "binary": "/y"},
            NVIDIA,
            None,
            [
                "runtime_type of the runtime nvidia is 'io.x' instead of 'io.containerd.runc.v2'",
                f"options.BinaryName of the runtime nvidia is '/y' instead of '{BINARY}'",
            ],
            id="overridden",
        ),
        pytest.param({}, ContainerdRuntime("gold", BINARY), None, ["the runtime gold is not there"], id="missing"),
    ],
)
def test_what_is_wrong_with_what_containerd_makes_of_it(made, wanted, default, found):
    assert problems(effective_of(dump(**made)), wanted, default) == found


def test_a_runtime_without_options_has_no_binary():
    bare = effective_of(toml_text.scan(f"[{V2}.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n"))
    assert problems(bare, NVIDIA, None) == [
        f"options.BinaryName of the runtime nvidia is None instead of '{BINARY}'",
    ]


def test_what_else_changed_is_named_and_what_is_ours_is_not():
    before = toml_text.scan(f"version = 2\nimports = []\nroot = '/a'\n[{V2}]\ndefault_runtime_name = 'runc'\nz = 0\n")
    more = "[x]\ny = 1\nlist = [1]\n[z]\nempty = ''\nnone = []\nalso = {}\nno = false\n"
    after = dump(default="nvidia", more=more)
    assert side_effects(before, after, ("nvidia",)) == [
        "root: '/a' -> None",
        "x.list: None -> [1]",
        "x.y: None -> 1",
    ]
    assert len(side_effects(before, after, ("gold",))) == 5, "a runtime of another name is not ours"
    assert side_effects(after, after, ("nvidia",)) == []


@pytest.mark.parametrize(
    ("imports", "engine", "version"),
    [
        pytest.param("imports = ['/etc/containerd/conf.d/*.toml']\nversion = 3\n", 2, 3, id="imported"),
        pytest.param("version = 2\nimports = ['conf.d/*.toml']\n", 2, 2, id="relative"),
        pytest.param("version = 3\nimports = ['conf.d/*.toml']\n", 3, 3, id="engine-of-the-future"),
        pytest.param("imports = ['conf.d/*.toml']\nversion = 2\n", 1, None, id="1.x-loses-settings"),
        pytest.param("imports = ['conf.d/*.toml']\nversion = 2\n", None, None, id="engine-unknown"),
        pytest.param("imports = ['other.d/*.toml']\nversion = 3\n", 2, None, id="not-imported"),
        pytest.param("imports = 'conf.d/*.toml'\nversion = 3\n", 2, None, id="no-list"),
        pytest.param("imports = ['conf.d/*.toml', 7]\nversion = 3\n", 2, None, id="no-list-of-texts"),
        pytest.param("version = 3\n", 2, None, id="no-imports"),
        pytest.param("[imports]\n", 2, None, id="a-table"),
        pytest.param(None, 2, None, id="no-file"),
    ],
)
def test_whether_a_drop_in_is_read(imports, engine, version):
    assert takes_drop_in(imports, MAIN, DROP_IN, engine) == version


@pytest.mark.parametrize(
    ("text", "there"),
    [
        (f"[{V2}.runtimes.nvidia]\n", True),
        (f"[{V3}.runtimes]\nnvidia = {{}}\n", True),
        (f"[{V2}.runtimes.runc]\n", False),
        (f"[{V1}.runtimes.nvidia]\n", False),
        ("", False),
        (None, False),
    ],
)
def test_whether_a_file_names_a_runtime(text, there):
    assert containerd_config.has_runtime(text, "nvidia") is there


def test_a_runtime_in_a_file_of_version_1_is_refused_not_overlooked():
    with pytest.raises(ConfigError, match="no `version`"):
        containerd_config.ensure_absent(f"[{V1}.runtimes.nvidia]\n", "nvidia")


@pytest.mark.parametrize(
    ("stand_ins", "imports"),
    [
        pytest.param({}, ["/etc/containerd/conf.d/*.toml", "/etc/containerd/x.toml"], id="as-they-are"),
        pytest.param({DROP_IN: "/tmp/new"}, ["/tmp/new", "/etc/containerd/x.toml"], id="a-new-drop-in"),
        pytest.param({DROP_IN: None}, ["/etc/containerd/x.toml"], id="a-drop-in-that-goes"),
        pytest.param(
            {"/etc/containerd/conf.d/00.toml": "/tmp/first"},
            ["/tmp/first", DROP_IN, "/etc/containerd/x.toml"],
            id="one-that-is-not-there-yet",
        ),
    ],
)
def test_a_trial_reads_what_the_real_file_would(stand_ins, imports):
    text = "imports = ['conf.d/*.toml', 'x.toml']\nversion = 3\n"
    tried = candidate_text(text, MAIN, lambda pattern: [DROP_IN], stand_ins)
    assert toml_text.to_python(toml_text.scan(tried).root)["imports"] == imports
    assert tried.endswith("]\nversion = 3\n")
    assert candidate_text("version = 3\n", MAIN, None, stand_ins) == "version = 3\n"
