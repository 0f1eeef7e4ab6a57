# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CRI-O's drop-in: tables with exact texts and messages, and properties over arbitrary valid files."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import config as crio_config
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import pending as crio_pending
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio.config import (
    CrioRuntime,
    ensure_absent,
    ensure_present,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.memory import dumps, loads
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.process import Daemon
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError, decode

tomllib = pytest.importorskip("tomllib")

PATH = "/usr/bin/nvidia-container-runtime"
NVIDIA = CrioRuntime("nvidia", PATH)
DEFAULT = CrioRuntime("nvidia", PATH, set_default=True)
FULL = CrioRuntime("nvidia", PATH, options={"runtime_root": "/run/nvidia", "monitor_path": "/usr/bin/conmon"})
TABLE = f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{PATH}"\nruntime_type = "oci"\n'


@pytest.mark.parametrize(
    ("old", "wanted", "new"),
    [
        pytest.param(None, NVIDIA, TABLE, id="no-file"),
        pytest.param(None, DEFAULT, '[crio.runtime]\ndefault_runtime = "nvidia"\n\n' + TABLE, id="no-file-default"),
        pytest.param(
            None, FULL, TABLE + 'runtime_root = "/run/nvidia"\nmonitor_path = "/usr/bin/conmon"\n', id="all-options"
        ),
        pytest.param(
            '# ours\n[crio.runtime]\n  log_level = "debug" # loud\n  default_runtime = "crun"\n[crio.image]\n',
            DEFAULT,
            '# ours\n[crio.runtime]\n  log_level = "debug" # loud\n  default_runtime = "nvidia"\n[crio.image]\n\n'
            + TABLE,
            id="comments-and-keys-of-others",
        ),
        pytest.param(
            '[crio.runtime]\r\nlog_level = "debug"',
            DEFAULT,
            '[crio.runtime]\r\nlog_level = "debug"\r\ndefault_runtime = "nvidia"\r\n\r\n'
            + TABLE.rstrip("\n").replace("\n", "\r\n"),
            id="crlf-and-no-last-line-end",
        ),
        pytest.param(
            '[crio.runtime.runtimes.nvidia]\n  runtime_path = "/old" # old\n  allowed_annotations = ["x"]\n',
            NVIDIA,
            f'[crio.runtime.runtimes.nvidia]\n  runtime_path = "{PATH}" # old\n  allowed_annotations = ["x"]\n'
            '  runtime_type = "oci"\n',
            id="a-runtime-that-is-there",
        ),
    ],
)
def test_present_text(old, wanted, new):
    edit = ensure_present(old, wanted)
    assert edit.text == new
    again = ensure_present(edit.text, wanted, loads(dumps(edit.memory, "/x", "nvidia")))
    assert (again.text, again.memory) == (edit.text, edit.memory)
    expected = old if "nvidia]" not in (old or "") else ""
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == expected


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ("[crio\n", "f, line 1, column 6: expected ']' to end the table's name, found the end of the line"),
        (
            "crio = {}\n",
            "f, line 1, column 1: crio is written in a way that cannot be edited safely; write it as a table [crio]",
        ),
        (
            "[crio]\nruntime.log_level = 'x'\n",
            "f, line 2, column 1: crio.runtime is written in a way that cannot be edited safely; "
            "write it as a table [crio.runtime]",
        ),
        (
            "[[crio.runtime]]\n",
            "f, line 1, column 1: crio.runtime is written in a way that cannot be edited safely; "
            "write it as a table [crio.runtime]",
        ),
    ],
)
def test_refused(old, message):
    with pytest.raises(ConfigError) as caught:
        ensure_present(old, DEFAULT)
    assert caught.value.describe("f") == message


def test_absent_after_an_edit_restores_the_former_default():
    old = '[crio.runtime]\ndefault_runtime = "crun"\n'
    first = ensure_present(old, DEFAULT)
    edited = first.text + '\n[crio.network]\nnetwork_dir = "/x"\n'
    assert ensure_absent(edited, "nvidia", first.memory).text == old + '\n[crio.network]\nnetwork_dir = "/x"\n'
    second = ensure_present(edited, CrioRuntime("nvidia", "/other", False), first.memory)
    assert 'default_runtime = "crun"' in second.text


def test_only_files_that_are_read_later_and_say_something_else_count():
    files = {
        "/d/10-nvidia.conf": TABLE,
        "/d/99-x.conf": '[crio.runtime]\ndefault_runtime = "crun"\n',
        "/d/99-y.conf": "not = toml = at all",
        "/d/99-z/a.conf": TABLE,
    }
    assert crio_config.overridden(files, "/d/99-nvidia.toml", DEFAULT) == ["/d/99-x.conf", "/d/99-z/a.conf"]
    assert crio_config.overridden(files, "/d/99-nvidia.toml", NVIDIA) == ["/d/99-z/a.conf"]


def test_merged_configuration():
    before = toml_text.scan('[crio]\nlog_dir = "/x"\n[crio.runtime]\ndefault_runtime = "crun"\n')
    after = toml_text.scan('[crio]\nlog_dir = "/y"\n[crio.runtime]\ndefault_runtime = "nvidia"\n' + TABLE)
    assert crio_config.problems(after, DEFAULT) == []
    assert crio_config.problems(before, DEFAULT) == [
        f"runtime_path of the runtime nvidia is None instead of {PATH!r}",
        "runtime_type of the runtime nvidia is None instead of 'oci'",
        "default_runtime is 'crun' instead of 'nvidia'",
    ]
    assert crio_config.problems(after, CrioRuntime("nvidia", PATH, False)) == ["default_runtime is still 'nvidia'"]
    assert crio_config.side_effects(before, after, "nvidia") == ["crio.log_dir: '/x' -> '/y'"]


@pytest.mark.parametrize(
    ("changed", "daemon", "file_changed", "level"),
    [
        (True, None, 5.0, "none"),
        (True, Daemon(1, [], 9.0), 5.0, "restart"),
        (False, Daemon(1, [], 9.0), 5.0, "none"),
        (False, Daemon(1, [], 9.0), 10.0, "restart"),
        (False, Daemon(1, [], None), 10.0, "none"),
        (False, Daemon(1, [], 9.0), None, "none"),
    ],
)
def test_pending(changed, daemon, file_changed, level):
    assert crio_pending.crio(changed, daemon, file_changed, "f").level == level


PIECES = st.lists(
    st.sampled_from(
        [
            "# comment\n",
            "\n",
            '[crio]\n  log_dir = "/x" # logs\n',
            '[crio.runtime]\ndefault_runtime = "crun"\nhooks_dir = [ # hooks\n "/a",\n]\n',
            '[crio.runtime.runtimes.crun]\n  runtime_path = ""\n  allowed_annotations = ["a"]\n',
            "[crio.image]\npause = '''\n[crio.runtime]\n'''\n",
            "[crio.runtime.workloads.x]\nresources = {cpushares = 0}\n",
            "[other]\n'a b'.\"c d\" = 1979-05-27\n",
            "[[list]]\n[[list]]\nx = 1\n",
        ]
    ),
    unique=True,
    max_size=6,
).map("".join)


@st.composite
def drop_ins(draw):
    text = draw(PIECES)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return draw(st.sampled_from(["", "\ufeff"])) + text


def others(text):
    data = tomllib.loads(text.lstrip("\ufeff"))
    runtime = data.setdefault("crio", {}).setdefault("runtime", {})
    runtime.pop("default_runtime", None)
    runtime.setdefault("runtimes", {}).pop("nvidia", None)
    return data


@given(drop_ins(), st.sampled_from([NVIDIA, DEFAULT, FULL]), st.sampled_from([None, True, False]))
@settings(deadline=None, max_examples=250)
def test_properties_of_any_valid_file(old, wanted, default_again):
    edit = ensure_present(old, wanted)
    assert others(edit.text) == others(old)
    kept = [line for line in old.lstrip("\ufeff").splitlines() if "default_runtime" not in line]
    remaining = iter(edit.text.lstrip("\ufeff").splitlines())
    assert all(line in remaining for line in kept)
    data = tomllib.loads(edit.text.lstrip("\ufeff"))["crio"]["runtime"]
    assert data["runtimes"]["nvidia"] == wanted.values()
    if wanted.set_default:
        assert data["default_runtime"] == "nvidia"
    assert ensure_present(edit.text, wanted, edit.memory).text == edit.text
    assert ensure_present(edit.text, wanted).text == edit.text
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == old
    second = ensure_present(edit.text, CrioRuntime("nvidia", "/b", default_again), edit.memory)
    assert ensure_absent(second.text, "nvidia", second.memory).text == old
    # Somebody's edit survives the way back.
    hand = ("" if second.text.endswith("\n") else "\n") + "[added]\nby = 'hand'\n"
    back = tomllib.loads(ensure_absent(second.text + hand, "nvidia", second.memory).text.lstrip("\ufeff"))
    assert back.pop("added") == {"by": "hand"}
    assert back == tomllib.loads(old.lstrip("\ufeff"))
    # Without a memory the runtime goes as well, and no default dangles.
    bare = ensure_absent(second.text, "nvidia").text
    assert "nvidia" not in bare
    assert others(bare) == others(old)


@given(st.binary(max_size=60) | st.text("[]{}=.\"'\\#\n abcriountme1-", max_size=60).map(str.encode))
@settings(deadline=None, max_examples=500)
def test_arbitrary_bytes_give_an_edit_or_a_config_error(data):
    try:
        text = decode(data)
        edit = ensure_present(text, DEFAULT)
        ensure_absent(text, "nvidia")
    except ConfigError as error:
        assert error.message
        return
    assert tomllib.loads(edit.text.lstrip("\ufeff"))["crio"]["runtime"]["default_runtime"] == "nvidia"
