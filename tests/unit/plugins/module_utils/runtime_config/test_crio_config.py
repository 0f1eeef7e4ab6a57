# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CRI-O's drop-in: tables with exact texts and messages, and properties over arbitrary valid files."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import pending
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import config as crio_config
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import merge
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio.config import (
    CrioRuntime,
    Edit,
    ensure_absent,
    ensure_present,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.memory import (
    Good,
    dumps,
    loads,
    roll_back,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.process import Daemon
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError, decode

tomllib = pytest.importorskip("tomllib")

PATH = "/usr/bin/nvidia-container-runtime"
NVIDIA = CrioRuntime("nvidia", PATH)
DEFAULT = CrioRuntime("nvidia", PATH, set_default=True)
FULL = CrioRuntime("nvidia", PATH, options={"runtime_root": "/run/nvidia", "monitor_path": "/usr/bin/conmon"})
INHERITED = {
    "runtime_root": "/run/crun",
    "monitor_path": "/other",
    "allowed_annotations": ["a", "b"],
    "default_annotations": {"run.oci/x": "1"},
    "no_sync_log": True,
}
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
            dataclasses.replace(NVIDIA, on_conflict="replace"),
            f'[crio.runtime.runtimes.nvidia]\n  runtime_path = "{PATH}" # old\n  allowed_annotations = ["x"]\n'
            '  runtime_type = "oci"\n',
            id="a-runtime-that-is-replaced",
        ),
        pytest.param(
            None,
            CrioRuntime("nvidia", PATH, options={"monitor_path": "/m"}, inherited=INHERITED),
            TABLE + 'monitor_path = "/m"\nruntime_root = "/run/crun"\nallowed_annotations = ["a", "b"]\n'
            'default_annotations = {"run.oci/x" = "1"}\nno_sync_log = true\n',
            id="what-the-default-runtime-has",
        ),
        pytest.param(
            f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{PATH}"\nmonitor_path = "/own"\n',
            CrioRuntime("nvidia", PATH, inherited={"monitor_path": "/m", "runtime_root": "/r"}),
            f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{PATH}"\nmonitor_path = "/own"\nruntime_type = "oci"\n'
            'runtime_root = "/r"\n',
            id="one-of-the-same-program-is-completed",
        ),
    ],
)
def test_present_text(old, wanted, new):
    edit = ensure_present(old, wanted)
    assert edit.text == new
    again = ensure_present(edit.text, wanted, loads(dumps(edit.memory, "/x", "nvidia")))
    assert (again.text, again.memory) == (edit.text, edit.memory)
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == old


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
        (
            '[crio.runtime]\nDefault_Runtime = "crun"\n',
            "f, line 2, column 1: CRI-O reads keys without regard to case; write Default_Runtime as default_runtime",
        ),
        (
            f'[crio.runtime.runtimes.nvidia]\nruntime_Path = "{PATH}"\n',
            "f, line 2, column 1: CRI-O reads keys without regard to case; write runtime_Path as runtime_path",
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


OPERATOR = """[crio.runtime]
default_runtime = "nvidia"
[crio.runtime.runtimes.nvidia]
runtime_path = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
runtime_type = "oci"
monitor_path = "/usr/libexec/crio/conmon"
"""
CONFLICT = (
    "its runtime_path is \"/usr/local/nvidia/toolkit/nvidia-container-runtime\", which is NVIDIA's GPU operator's, not "
    '"/usr/bin/nvidia-container-runtime"'
)


def test_somebody_elses_runtime_is_kept():
    edit = ensure_present(OPERATOR, DEFAULT)
    assert (edit.text, edit.memory, edit.conflict) == (OPERATOR, None, CONFLICT)
    gone = ensure_absent(OPERATOR, "nvidia")
    assert gone.text == OPERATOR
    assert gone.conflict == "no run of ours is known to have made it"


def test_somebody_elses_runtime_stays_theirs_when_we_change_the_default():
    old = OPERATOR.replace('"nvidia"', '"crun"')
    edit = ensure_present(old, DEFAULT)
    assert (edit.text, edit.conflict) == (OPERATOR, CONFLICT)
    again = ensure_present(edit.text, DEFAULT, edit.memory)
    assert (again.text, again.memory, again.conflict) == (OPERATOR, edit.memory, CONFLICT)
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == old
    # Somebody has edited the file since: their runtime is no more ours than before.
    edited = ensure_absent(edit.text + "# x\n", "nvidia", edit.memory)
    assert edited.text == old + "# x\n"
    assert edited.conflict is not None


def test_somebody_elses_runtime_is_replaced_and_comes_back():
    replace = dataclasses.replace(DEFAULT, on_conflict="replace")
    edit = ensure_present(OPERATOR, replace)
    assert edit.text == OPERATOR.replace("/usr/local/nvidia/toolkit", "/usr/bin")
    assert edit.conflict == CONFLICT
    # From now on it is ours.
    again = ensure_present(edit.text, DEFAULT, edit.memory)
    assert (again.text, again.conflict) == (edit.text, None)
    gone = ensure_absent(edit.text, "nvidia", edit.memory)
    assert gone.text == OPERATOR
    # Once more, whether or not the way back was kept.
    assert ensure_absent(OPERATOR, "nvidia", edit.memory) == Edit(OPERATOR, None)
    assert ensure_absent(OPERATOR, "nvidia").text == OPERATOR
    assert ensure_absent(edit.text + "# x\n", "nvidia", edit.memory).text == OPERATOR + "# x\n"


def test_ours_that_somebody_overwrote_is_theirs():
    ours = ensure_present(None, DEFAULT)
    edit = ensure_present(OPERATOR, DEFAULT, ours.memory)
    assert (edit.text, edit.conflict) == (OPERATOR, CONFLICT)
    gone = ensure_absent(OPERATOR, "nvidia", ours.memory)
    assert "toolkit/nvidia-container-runtime" in gone.text
    assert gone.conflict is not None


def test_somebody_elses_runtime_in_another_file_is_kept():
    elsewhere = {"runtime_path": "/opt/nvidia-container-runtime"}
    edit = ensure_present(None, DEFAULT, None, elsewhere)
    assert edit.text == '[crio.runtime]\ndefault_runtime = "nvidia"\n'
    assert edit.conflict == f'its runtime_path is "/opt/nvidia-container-runtime", not "{PATH}"'
    again = ensure_present(edit.text, DEFAULT, edit.memory, elsewhere)
    assert (again.text, again.conflict) == (edit.text, edit.conflict)
    replaced = ensure_present(None, dataclasses.replace(NVIDIA, on_conflict="replace"), None, elsewhere)
    assert replaced.text == TABLE


def test_somebody_elses_runtime_is_refused():
    with pytest.raises(ConfigError, match=r"somebody else has made the runtime nvidia: .* Nothing was changed"):
        ensure_present(OPERATOR, dataclasses.replace(DEFAULT, on_conflict="fail"))


def test_what_is_inherited_is_followed_until_somebody_edits_the_file():
    def wanted(monitor):
        return dataclasses.replace(NVIDIA, inherited={"monitor_path": monitor})

    first = ensure_present(None, wanted("/old"))
    assert 'monitor_path = "/new"' in ensure_present(first.text, wanted("/new"), first.memory).text
    edited = first.text + "# x\n"
    assert ensure_present(edited, wanted("/new"), first.memory).text == edited


def test_the_default_that_an_earlier_run_set_stays_where_none_is_asked_for():
    first = ensure_present(None, DEFAULT)
    assert ensure_present(first.text, NVIDIA, first.memory).text == first.text
    second = ensure_present(first.text, dataclasses.replace(NVIDIA, set_default=False), first.memory)
    assert "default_runtime" not in second.text


def test_a_text_that_is_not_taken_is_rolled_back_to_the_last_one_in_effect():
    first = ensure_present('[crio.runtime]\nlog_level = "debug"\n', NVIDIA)
    in_effect = dataclasses.replace(first.memory, good=Good(first.text))
    second = ensure_present(first.text, DEFAULT, in_effect)
    back, memory = roll_back(second.text, second.memory)
    assert back == first.text
    assert ensure_absent(back, "nvidia", memory).text == '[crio.runtime]\nlog_level = "debug"\n'


def test_only_files_that_are_read_later_and_say_something_else_count():
    files = {
        "/d/10-nvidia.conf": TABLE,
        "/d/99-x.conf": '[crio.runtime]\ndefault_runtime = "crun"\n',
        "/d/99-y.conf": "not = toml = at all",
        "/d/99-z/a.conf": TABLE,
    }
    assert crio_config.overridden(files, "/d/99-nvidia.toml", DEFAULT) == ["/d/99-x.conf", "/d/99-z/a.conf"]
    assert crio_config.overridden(files, "/d/99-nvidia.toml", NVIDIA) == ["/d/99-z/a.conf"]
    assert crio_config.overridden(files, "/d/99-nvidia.toml", NVIDIA, kept=True) == []


def test_files_are_read_folder_by_folder():
    assert sorted(["/d/a-b", "/d/a/x", "/d/a.conf"], key=crio_config.order) == ["/d/a/x", "/d/a-b", "/d/a.conf"]


def test_merged_configuration():
    before = '[crio]\nlog_dir = "/x"\n[crio.runtime]\ndefault_runtime = "crun"\n'
    after = '[crio]\nlog_dir = "/y"\n[crio.runtime]\ndefault_runtime = "nvidia"\n' + TABLE
    assert crio_config.problems(merge.effective([after]), DEFAULT) == []
    assert crio_config.problems(merge.effective([before]), DEFAULT) == [
        f"runtime_path of the runtime nvidia is None instead of {PATH!r}",
        "runtime_type of the runtime nvidia is None instead of 'oci'",
        "default_runtime is 'crun' instead of 'nvidia'",
    ]
    assert crio_config.problems(merge.effective([before]), DEFAULT, kept=True) == [
        "default_runtime is 'crun' instead of 'nvidia'"
    ]
    not_default = CrioRuntime("nvidia", PATH, False)
    assert crio_config.problems(merge.effective([after]), not_default) == ["default_runtime is still 'nvidia'"]
    assert crio_config.side_effects(before, after, "nvidia") == ["crio.log_dir: '/x' -> '/y'"]
    # What is not printed is at its default.
    assert crio_config.side_effects(before, after, "nvidia", "[crio]\nother = 1\n") != []
    assert crio_config.side_effects("", after, "nvidia", '[crio]\nlog_dir = "/y"\n') == []


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
    assert pending.at_start("CRI-O", changed, daemon, file_changed, "f").level == level


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
    # Without a memory nothing is ours.
    assert ensure_absent(second.text, "nvidia").text == second.text
    assert ensure_absent(old, "nvidia", second.memory).text == old


@given(st.binary(max_size=60) | st.text("[]{}=.\"'\\#\n abcriountme1-", max_size=60).map(str.encode))
@settings(deadline=None, max_examples=500)
def test_arbitrary_bytes_give_an_edit_or_a_config_error(data):
    try:
        text = decode(data)
        edit = ensure_present(text, DEFAULT)
        ensure_absent(text + "\n# x", "nvidia", edit.memory)
        ensure_absent(edit.text + "\n# x", "nvidia", edit.memory)
    except ConfigError as error:
        assert error.message
        return
    assert tomllib.loads(edit.text.lstrip("\ufeff"))["crio"]["runtime"]["default_runtime"] == "nvidia"
