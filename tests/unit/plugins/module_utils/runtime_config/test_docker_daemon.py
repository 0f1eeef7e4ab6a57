# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Texts here are full of braces, so they are filled in with %:
# ruff: noqa: UP031

"""Docker's daemon.json: tables with exact texts and messages, and properties over arbitrary valid files."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker.config import (
    DockerRuntime,
    bridge,
    check_default,
    ensure_absent,
    ensure_present,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.memory import Slot, dumps, loads
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import json_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import BOM, ConfigError, decode

NVIDIA = DockerRuntime("nvidia", "/usr/bin/nvidia-container-runtime")
DEFAULT = DockerRuntime("nvidia", "/usr/bin/nvidia-container-runtime", set_default=True)
ENTRY = '"nvidia":{"path":"/usr/bin/nvidia-container-runtime"}'


@pytest.mark.parametrize(
    ("old", "wanted", "new"),
    [
        pytest.param(
            None,
            NVIDIA,
            '{\n    "runtimes": {\n        "nvidia": {\n'
            '            "path": "/usr/bin/nvidia-container-runtime"\n        }\n    }\n}\n',
            id="no-file",
        ),
        pytest.param('{"a":1}', NVIDIA, '{"a":1,"runtimes":{%s}}' % ENTRY, id="compact"),
        pytest.param('{"a":1 }', NVIDIA, '{"a":1,"runtimes":{%s} }' % ENTRY, id="space-kept"),
        pytest.param(
            '{\n\t"big": 12345678901234567890,\n\t"e": "\\u00e9"\n}',
            DEFAULT,
            '{\n\t"big": 12345678901234567890,\n\t"e": "\\u00e9",\n\t"runtimes": {\n\t\t"nvidia": {\n'
            '\t\t\t"path": "/usr/bin/nvidia-container-runtime"\n\t\t}\n\t},\n\t"default-runtime": "nvidia"\n}',
            id="tabs-numbers-escapes-no-newline-at-end",
        ),
        pytest.param(
            '{\r\n  "debug": true\r\n}\r\n',
            NVIDIA,
            '{\r\n  "debug": true,\r\n  "runtimes": {\r\n    "nvidia": {\r\n'
            '      "path": "/usr/bin/nvidia-container-runtime"\r\n    }\r\n  }\r\n}\r\n',
            id="crlf",
        ),
        pytest.param('{"runtimes":null}', NVIDIA, '{"runtimes":{%s}}' % ENTRY, id="null-is-empty-as-for-docker"),
        pytest.param(
            '{"runtimes":{"nvidia":{"path":"/theirs","runtimeArgs":["-x"]}},"default-runtime":"runc"}',
            replace(DEFAULT, on_conflict="replace"),
            '{"runtimes":{"nvidia":{"path":"/usr/bin/nvidia-container-runtime","runtimeArgs":["-x"]}},'
            '"default-runtime":"nvidia"}',
            id="values-replaced-in-place",
        ),
        pytest.param(
            '{"features":{"buildkit":true}}',
            DockerRuntime("nvidia", "/x", args=("--a", "b"), cdi=True),
            '{"features":{"buildkit":true,"cdi":true},"runtimes":{"nvidia":{"path":"/x","runtimeArgs":["--a","b"]}}}',
            id="cdi-keeps-other-features",
        ),
        pytest.param(
            '{"features":{"cdi":true}}',
            NVIDIA,
            '{"features":{"cdi":true},"runtimes":{%s}}' % ENTRY,
            id="cdi-left-alone",
        ),
        pytest.param(BOM + '{"a":1}', NVIDIA, BOM + '{"a":1,"runtimes":{%s}}' % ENTRY, id="byte-order-mark-kept"),
        pytest.param(
            '{"default-runtime":"nvidia","runtimes":{%s}}' % ENTRY,
            DockerRuntime("nvidia", "/usr/bin/nvidia-container-runtime", set_default=False),
            '{"runtimes":{%s}}' % ENTRY,
            id="not-the-default",
        ),
    ],
)
def test_present_text(old, wanted, new):
    assert ensure_present(old, wanted).text == new


@pytest.mark.parametrize(
    ("old", "message"),
    [
        pytest.param("[]", "f, line 1, column 1: the top level must be an object, but is a list", id="list"),
        pytest.param("null", "f, line 1, column 1: the top level must be an object, but is null", id="null"),
        pytest.param(
            '{\n "runtimes": []}',
            "f, line 2, column 14: runtimes must be an object of runtimes, but is a list",
            id="runtimes",
        ),
        pytest.param(
            '{"default-runtime": 1}',
            "f, line 1, column 21: default-runtime must be the name of a runtime, but is a number",
            id="default-runtime",
        ),
        pytest.param(
            '{"runtimes":{"nvidia":"x"}}',
            "f, line 1, column 23: runtimes.nvidia must be an object with the key path, but is a string",
            id="entry",
        ),
        pytest.param(
            '{"a": 1,\n  "a": 2}',
            'f, line 2, column 3: the key "a" is here twice, first in line 1, column 2; remove one of the two',
            id="twice",
        ),
        pytest.param(
            '{"a": 1,\n}',
            'f, line 2, column 1: expected a key in double quotes, found "}"; remove the comma before it',
            id="comma",
        ),
        pytest.param('{"a" 1}', 'f, line 1, column 6: expected \':\' after the key "a", found "1"', id="colon"),
        pytest.param('{"a": 1 "b": 2}', "f, line 1, column 9: expected ',' or '}', found \"\\\"\"", id="no-comma"),
        pytest.param(
            '{"a": "x\ny"}', 'f, line 1, column 9: "\\n" inside a string; is a closing quote missing?', id="newline"
        ),
        pytest.param('{"a": "x', "f, line 1, column 7: this string is never closed", id="open-string"),
        pytest.param(
            '{"a": "\\d"}',
            "f, line 1, column 8: bad escape in a string; a backslash itself is written \\\\",
            id="escape",
        ),
        pytest.param("{} x", 'f, line 1, column 4: nothing may follow the top level value, found "x"', id="trailing"),
        pytest.param("{'a': 1}", 'f, line 1, column 2: expected a key in double quotes, found "\'"', id="single-quote"),
        pytest.param('{"a": }', 'f, line 1, column 7: expected a value, found "}"', id="no-value"),
        pytest.param('{"a":', "f, line 1, column 6: expected a value, found the end of the file", id="value-to-come"),
        pytest.param('{"a": ~}', 'f, line 1, column 7: expected a value, found "~"', id="no-json-value"),
        pytest.param('{"a": 01}', "f, line 1, column 8: expected ',' or '}', found \"1\"", id="leading-zero"),
        pytest.param("{", "f, line 1, column 2: expected a key in double quotes, found the end of the file", id="open"),
        pytest.param(BOM + "{x", 'f, line 1, column 2: expected a key in double quotes, found "x"', id="bom-column"),
        pytest.param('{"a":' + "[" * 200, "f, line 1, column 106: nested deeper than 100 levels", id="deep"),
    ],
)
def test_bad_files(old, message):
    with pytest.raises(ConfigError) as caught:
        ensure_present(old, NVIDIA)
    assert caught.value.describe("f") == message
    if "runtimes.nvidia" not in message:  # a bad entry of ours is just taken out
        with pytest.raises(ConfigError) as caught:
            ensure_absent(old, "nvidia")
        assert caught.value.describe("f") == message


def test_not_utf8():
    with pytest.raises(ConfigError) as caught:
        decode(b'{\n"a": "\xff"}')
    assert caught.value.describe("f") == "f, line 2, column 7: byte 0xff is not UTF-8; save the file as UTF-8"
    with pytest.raises(ConfigError, match="the file is UTF-16; save it as UTF-8"):
        decode("{}".encode("utf-16"))


def remembered(edit):
    return loads(dumps(edit.memory, "/etc/docker/daemon.json", "nvidia"))


def test_former_default_survives_several_runs_and_edits():
    old = '{\n  "runtimes": {"kata": {"path": "/k"}},\n  "default-runtime": "kata"\n}\n'
    first = ensure_present(old, DEFAULT)
    second = ensure_present(
        first.text, DockerRuntime("nvidia", "/other", set_default=True, cdi=True), remembered(first)
    )
    assert ensure_absent(second.text, "nvidia", remembered(second)).text == old
    edited = second.text.replace('"kata": {', '"runsc": {"path": "/r"}, "kata": {')
    after = ensure_absent(edited, "nvidia", remembered(second))
    assert after.config == {
        "runtimes": {"runsc": {"path": "/r"}, "kata": {"path": "/k"}},
        "default-runtime": "kata",
    }
    third = ensure_present(edited, DEFAULT, remembered(second))
    assert ensure_absent(third.text, "nvidia", remembered(third)).config["default-runtime"] == "kata"


def test_default_changed_by_somebody_else_stays():
    first = ensure_present('{"runtimes":{"kata":{"path":"/k"}}}', DEFAULT)
    edited = first.text.replace('"default-runtime":"nvidia"', '"default-runtime":"kata"')
    assert edited != first.text
    assert ensure_absent(edited, "nvidia", first.memory).config["default-runtime"] == "kata"


def test_default_changed_by_somebody_else_stays_when_ours_is_not_to_be_it():
    old = '{"runtimes":{"kata":{"path":"/k"},"runsc":{"path":"/r"}},"default-runtime":"kata"}'
    first = ensure_present(old, DEFAULT)
    not_default = wanted(set_default=False, args=None)
    assert ensure_present(first.text, not_default, remembered(first)).config["default-runtime"] == "kata"
    edited = first.text.replace('"default-runtime":"nvidia"', '"default-runtime":"runsc"')
    assert edited != first.text
    assert ensure_present(edited, not_default, remembered(first)).config["default-runtime"] == "runsc"


def test_former_default_that_is_gone_is_not_put_back():
    first = ensure_present('{"runtimes":{"kata":{"path":"/k"}},"default-runtime":"kata"}', DEFAULT)
    edited = first.text.replace('"kata":{"path":"/k"},', "")
    assert ensure_absent(edited, "nvidia", first.memory).config == {"runtimes": {}}


def test_a_memory_with_a_former_default_that_is_no_json_does_no_harm():
    first = ensure_present('{"runtimes":{"kata":{"path":"/k"}},"default-runtime":"kata"}', DEFAULT)
    edited = first.text[:-1] + ',"debug":true}'
    slots = {**first.memory.slots, "default-runtime": Slot('"nvidia"', "kata")}
    damaged = dataclasses.replace(first.memory, slots=slots)
    assert "default-runtime" not in ensure_absent(edited, "nvidia", damaged).config


def test_file_that_we_made_goes_away():
    first = ensure_present(None, DEFAULT)
    assert ensure_absent(first.text, "nvidia", first.memory).text is None
    edited = first.text.replace('"runtimes"', '"debug": true,\n    "runtimes"')
    assert ensure_absent(edited, "nvidia", first.memory).config == {"debug": True}


def test_absent_without_memory_leaves_no_dangling_default():
    assert ensure_absent('{"default-runtime": "nvidia", "runtimes": {%s}}' % ENTRY, "nvidia").text == '{"runtimes": {}}'


THEIRS = [
    pytest.param(
        '{"runtimes":{"nvidia":{"path":"/operator/nvidia-container-runtime"}},"default-runtime":"nvidia"}',
        'its path is "/operator/nvidia-container-runtime", not "/usr/bin/nvidia-container-runtime"',
        id="path",
    ),
    pytest.param(
        '{"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}}',
        'its path is "nvidia-container-runtime", not "/usr/bin/nvidia-container-runtime"',
        id="bare-name",
    ),
    pytest.param(
        '{"runtimes": {"nvidia": {"path": "/usr/bin/nvidia-container-runtime", "runtimeArgs": ["--debug"]}}}',
        'its runtimeArgs are ["--debug"], not []',
        id="args",
    ),
    pytest.param(
        '{"runtimes":{"nvidia":{"runtimeType":"io.x","options":{"a":[1]}}}}',
        'it is a containerd shim (runtimeType "io.x")',
        id="shim",
    ),
]


def test_default_runtime_that_does_not_exist():
    with pytest.raises(ConfigError) as caught:
        check_default('{"debug": true,\n "default-runtime": "ghost", "runtimes": {"kata": {"path": "/k"}}}')
    assert caught.value.describe("f") == (
        'f, line 2, column 21: default-runtime is "ghost", and runtimes has no runtime of this name: Docker refuses to '
        "reload and to start like this. Nothing was changed. Correct default-runtime, or add the runtime, and run this "
        "again"
    )
    for name in ("runc", "nvidia", "io.containerd.kata.v2", ""):
        check_default('{"runtimes": {%s}, "default-runtime": "%s"}' % (ENTRY, name))
    for text in (None, "", "{}", '{"default-runtime": null}'):
        check_default(text)


def wanted(**more):
    return DockerRuntime(**{"name": "nvidia", "path": "/usr/bin/nvidia-container-runtime", "args": (), **more})


@pytest.mark.parametrize(("old", "conflict"), THEIRS)
def test_somebody_elses_runtime_is_kept_replaced_or_refused(old, conflict):
    kept = ensure_present(old, wanted())
    assert (kept.text, kept.memory, kept.conflict) == (old, None, conflict)

    replaced = ensure_present(old, wanted(on_conflict="replace", set_default=True))
    assert replaced.conflict == conflict
    assert replaced.config["runtimes"]["nvidia"].pop("path") == "/usr/bin/nvidia-container-runtime"
    assert replaced.config["runtimes"]["nvidia"] in ({}, {"args": []})
    # From now on it is ours, and the way back leads to theirs, with and without edits in between.
    again = ensure_present(replaced.text, wanted(path="/new"), remembered(replaced))
    assert (again.conflict, again.config["runtimes"]["nvidia"]["path"]) == (None, "/new")
    assert ensure_absent(again.text, "nvidia", remembered(again), "/new", on_conflict="keep").text == old
    edited = again.text[:-1] + ',"debug":true}'
    back = ensure_absent(edited, "nvidia", remembered(again), "/new", on_conflict="keep")
    assert back.config == dict(json.loads(old), debug=True)

    with pytest.raises(ConfigError) as caught:
        ensure_present(old, wanted(on_conflict="fail"))
    assert caught.value.describe("f") == (
        'f, line 1, column %d: somebody else has made the runtime "nvidia" already, and %s. Nothing was changed. Keep '
        "it, have it replaced (on_conflict), or choose another name"
        % (old.index("{", old.index('nvidia":')) + 1, conflict)
    )


@pytest.mark.parametrize("former", [(), ("-a",), ("-b", "-c")])
@pytest.mark.parametrize("args", [(), ("-a",), ("-b",), ("-b", "-c", "-d")])
def test_arguments_become_what_is_wanted(former, args):
    first = ensure_present("{}", wanted(args=former))
    second = ensure_present(first.text, wanted(args=args), remembered(first))
    assert second.config["runtimes"]["nvidia"].get("runtimeArgs", []) == list(args)
    assert ("runtimeArgs" in second.config["runtimes"]["nvidia"]) is bool(args)
    kept = ensure_present(second.text, wanted(args=None), remembered(second))
    assert kept.config == second.config


def test_a_runtime_that_somebody_else_made_as_we_want_it_is_no_conflict():
    old = '{"runtimes":{"nvidia":{"path":"/usr/bin/nvidia-container-runtime","runtimeArgs":["-x"]}}}'
    for args in (None, ("-x",)):
        assert ensure_absent(old, "nvidia", None, NVIDIA.path, args, "keep").config == {"runtimes": {}}
        edit = ensure_present(old, wanted(args=args))
        assert (edit.text, edit.memory, edit.conflict) == (old, None, None)


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("set_default", [None, True, False])
def test_absent_leaves_the_bare_name_that_nvidias_packages_wrote(set_default, edited):
    old = '{"runtimes":{"nvidia":{"path":"nvidia-container-runtime","runtimeArgs":[]}},"debug":true}'
    edit = ensure_present(old, wanted(set_default=set_default))
    assert edit.config["runtimes"] == json.loads(old)["runtimes"]
    assert edit.conflict
    text = edit.text.replace("true", "false") if edited else edit.text
    memory = remembered(edit) if edit.memory else None
    for _again in range(2):
        back = ensure_absent(text, "nvidia", memory, NVIDIA.path, None, "keep")
        assert back.config == dict(json.loads(old), debug=not edited)
        text, memory = back.text, back.memory


@pytest.mark.parametrize(
    ("made", "path", "conflict"),
    [
        pytest.param("/usr/bin/nvidia-container-runtime", "/new", None, id="still-ours"),
        pytest.param("/by/hand", "/by/hand", 'its path is "/by/hand", not "/new"', id="theirs-by-now"),
    ],
)
def test_a_runtime_of_ours_follows_after_the_file_was_edited(made, path, conflict):
    old = '{"runtimes":{"nvidia":{"path":"/theirs"}}}'
    first = ensure_present(old, wanted(on_conflict="replace"))
    edited = first.text.replace(NVIDIA.path, made)[:-1] + ',"debug":true}'
    edit = ensure_present(edited, wanted(path="/new"), remembered(first))
    assert (edit.config["runtimes"]["nvidia"]["path"], edit.conflict) == (path, conflict)
    if conflict is None:
        back = ensure_absent(edit.text, "nvidia", remembered(edit), "/new", on_conflict="keep")
        assert back.config == dict(json.loads(old), debug=True)


def test_ours_is_known_again_in_another_order():
    old = '{"runtimes":{"nvidia":{"path":"/theirs"}}}'
    edit = ensure_present(old, wanted(args=("-x",), on_conflict="replace"))
    ours = '"path":"/usr/bin/nvidia-container-runtime","runtimeArgs":["-x"]'
    turned = edit.text.replace(ours, ",".join(reversed(ours.split(",", 1))))
    assert turned != edit.text
    assert ensure_absent(turned, "nvidia", remembered(edit), "/elsewhere", on_conflict="keep").text == old


def test_absent_keeps_what_somebody_else_made_unless_told_otherwise():
    old = '{"runtimes":{"nvidia":{"path":"/theirs"}},"default-runtime":"nvidia"}'
    kept = ensure_absent(old, "nvidia", None, "/ours", on_conflict="keep")
    assert (kept.text, kept.conflict) == (old, 'its path is "/theirs", not "/ours"')
    assert ensure_absent(old, "nvidia", None, "/ours", on_conflict="replace").config == {"runtimes": {}}
    with pytest.raises(ConfigError, match="somebody else"):
        ensure_absent(old, "nvidia", None, "/ours", on_conflict="fail")
    assert ensure_absent(
        old.replace('{"path":"/theirs"}', "7"), "nvidia", None, "/ours", on_conflict="keep"
    ).config == {"runtimes": {}}


def test_keeping_theirs_still_sets_the_default_and_undoes_that():
    old = '{"runtimes":{"nvidia":{"path":"/theirs"}}}'
    first = ensure_present(old, DEFAULT)
    assert first.config == {"runtimes": {"nvidia": {"path": "/theirs"}}, "default-runtime": "nvidia"}
    assert ensure_absent(first.text, "nvidia", remembered(first), NVIDIA.path, on_conflict="keep").text == old
    edited = first.text.replace("{", '{"debug":true,', 1)
    assert ensure_absent(edited, "nvidia", remembered(first), NVIDIA.path, on_conflict="keep").config == {
        "debug": True,
        "runtimes": {"nvidia": {"path": "/theirs"}},
    }


@pytest.mark.parametrize("old", [None, "", '{\n\t"debug": true\n}', '{"runtimes": null, "default-runtime": ""}'])
def test_bridge_spells_out_what_a_reload_needs_and_leads_to_the_same_text(old):
    first = ensure_present(old, DEFAULT)
    final = ensure_absent(first.text, "nvidia", remembered(first))
    assert final.text == old
    spelled_out = bridge(final)
    assert spelled_out.config["default-runtime"] == "runc"
    assert spelled_out.config["runtimes"] == {}
    # A run that finds it so does not spell it out again, and the last one leaves nothing of it.
    found = ensure_absent(spelled_out.text, "nvidia", remembered(spelled_out))
    assert (found.text, found.memory) == (old, None)
    assert bridge(found) == spelled_out
    # Neither after an edit, nor on the way to present.
    edited = spelled_out.text.replace("{", '{"x": 1, ', 1)
    left = ensure_absent(edited, "nvidia", remembered(spelled_out)).config
    assert left.pop("x") == 1
    assert {key: value for key, value in left.items() if value} == ({"debug": True} if old and "debug" in old else {})
    assert ensure_present(spelled_out.text, DEFAULT, remembered(spelled_out)).config == first.config


def test_bridge_away_from_being_the_default():
    first = ensure_present("{}", DEFAULT)
    not_default = wanted(set_default=False, args=None)
    final = ensure_present(first.text, not_default, remembered(first))
    assert "default-runtime" not in final.config
    spelled_out = bridge(final)
    assert spelled_out.config == dict(final.config, **{"default-runtime": "runc"})
    assert ensure_present(spelled_out.text, not_default, remembered(spelled_out)).text == final.text
    assert ensure_absent(spelled_out.text, "nvidia", remembered(spelled_out)).text == "{}"


KEYS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["log-driver", "runtimes", "features", "default-runtime", "nvidia", "path", "cdi"]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
NAMES = st.sampled_from(["runc", "kata", "io.x"])
DAEMONS = st.fixed_dictionaries(
    {},
    optional={
        "runtimes": st.none()
        | st.dictionaries(NAMES, st.fixed_dictionaries({"path": st.text(max_size=5)}), max_size=3),
        "default-runtime": NAMES,
        "features": st.none() | st.dictionaries(st.sampled_from(["cdi", "buildkit"]), st.booleans()),
        "log-driver": VALUES,
        "x": VALUES,
    },
)
SPACE = st.text(" \t\n\r", max_size=3)


@st.composite
def json_texts(draw, value):
    """Valid JSON in any layout: the spaces between tokens are drawn one by one, or it is laid out by json.dumps."""
    if draw(st.booleans()):
        indent = draw(st.sampled_from([None, 0, 1, 2, 4, "\t"]))
        text = json.dumps(value, indent=indent, ensure_ascii=draw(st.booleans()))
        text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"]))) if indent is not None else text
    else:
        text = draw(_loose(value))
    try:
        text.encode()
    except UnicodeEncodeError:
        assume(False)
    return draw(st.sampled_from(["", BOM])) + draw(SPACE) + text + draw(SPACE)


@st.composite
def _loose(draw, value):
    if isinstance(value, dict):
        parts = [
            "".join((draw(SPACE), json.dumps(key), draw(SPACE), ":", draw(SPACE), draw(_loose(item)), draw(SPACE)))
            for key, item in value.items()
        ]
        return "{%s}" % (",".join(parts) or draw(SPACE))
    if isinstance(value, list):
        return "[%s]" % ",".join(draw(SPACE) + draw(_loose(item)) + draw(SPACE) for item in value)
    return json.dumps(value)


WANTED = st.builds(
    DockerRuntime,
    st.sampled_from(["nvidia", 'odd "name"']),
    st.sampled_from(["/usr/bin/nvidia-container-runtime", "/x é"]),
    st.sampled_from([None, (), ("-a",)]),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, True, False]),
)
FILES = DAEMONS.flatmap(lambda value: json_texts(value=value))
TAKEN = st.fixed_dictionaries(
    {
        "runtimes": st.fixed_dictionaries(
            {
                "nvidia": st.sampled_from(
                    [{"path": "/theirs"}, {"path": "nvidia-container-runtime"}, {"runtimeType": "io.x"}]
                )
            }
        )
    },
    optional={"default-runtime": st.sampled_from(["nvidia", "runc"]), "x": VALUES},
).flatmap(lambda value: json_texts(value=value))


@given(FILES | st.none() | SPACE, WANTED, WANTED)
@settings(deadline=None, max_examples=300)
@example("{ }", DEFAULT, NVIDIA)
@example("", DEFAULT, NVIDIA)
def test_properties_of_any_valid_file(old, wanted, again):
    edit = ensure_present(old, wanted)
    json.loads(edit.text.lstrip(BOM))
    # Nothing but our keys differs, and the order of the others is the same.
    assert _others(edit.text, wanted.name) == _others(old, wanted.name)
    assert edit.config["runtimes"][wanted.name]["path"] == wanted.path
    if wanted.set_default is not None:
        assert (edit.config.get("default-runtime") == wanted.name) is wanted.set_default
    # Idempotent, with and without the memory.
    assert ensure_present(edit.text, wanted, edit.memory).text == edit.text
    assert ensure_present(edit.text, wanted).text == edit.text
    # And back, byte for byte, also after a second run that wanted something else.
    assert ensure_absent(edit.text, wanted.name, edit.memory).text == old
    again = DockerRuntime(wanted.name, again.path, again.args, again.set_default, again.cdi)
    second = ensure_present(edit.text, again, edit.memory)
    back = ensure_absent(second.text, wanted.name, second.memory)
    assert back.text == old
    assert ensure_absent(back.text, wanted.name, back.memory).text == old


@given(TAKEN, st.sampled_from(["keep", "replace"]), st.sampled_from([None, True, False]))
@settings(deadline=None, max_examples=150)
def test_properties_of_a_file_with_somebody_elses_runtime(old, on_conflict, set_default):
    mine = wanted(args=None, set_default=set_default, on_conflict=on_conflict)
    edit = ensure_present(old, mine)
    assert edit.conflict
    assert _others(edit.text, "nvidia") == _others(old, "nvidia")
    if on_conflict == "keep":
        assert edit.config["runtimes"] == _load(old)["runtimes"]
    again = ensure_present(edit.text, mine, edit.memory)
    assert (again.text, bool(again.conflict)) == (edit.text, on_conflict == "keep")
    assert ensure_absent(edit.text, "nvidia", edit.memory, mine.path, on_conflict="keep").text == old


@given(FILES | st.none() | SPACE, WANTED)
@settings(deadline=None, max_examples=150)
def test_properties_of_the_bridge(old, mine):
    edit = ensure_present(old, mine)
    final = ensure_absent(edit.text, mine.name, edit.memory)
    spelled_out = bridge(final)
    assert isinstance(spelled_out.config["runtimes"], dict)
    assert spelled_out.config["default-runtime"]
    assert ensure_absent(spelled_out.text, mine.name, spelled_out.memory or edit.memory).text == old


@given(FILES, WANTED)
@settings(deadline=None, max_examples=150)
def test_somebody_elses_edit_survives_the_way_back(old, wanted):
    edit = ensure_present(old, wanted)
    root = json_text.scan(edit.text)
    style = json_text.style_of(edit.text, root)
    edited = json_text.add_member(edit.text, root, "added-by-hand", {"a": 1}, style)
    back = ensure_absent(edited, wanted.name, edit.memory)
    expected = _load(old)
    assert back.config.pop("added-by-hand") == {"a": 1}
    if expected.get("runtimes", 0) is None:
        # An object for a null is the same to Docker.
        back.config.pop("runtimes", None)
        expected.pop("runtimes")
    if expected.get("features", 0) is None:
        back.config.pop("features", None)
        expected.pop("features")
    former = expected.get("default-runtime")
    if former and former != "runc" and former not in (expected.get("runtimes") or {}) and wanted.set_default:
        expected.pop("default-runtime")
    assert back.config == expected


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0 \n1-etrufalsn', max_size=40).map(str.encode))
@settings(deadline=None, max_examples=500)
def test_arbitrary_bytes_give_an_edit_or_a_config_error(data):
    try:
        text = decode(data)
        edit = ensure_present(text, DEFAULT)
        ensure_absent(text, "nvidia")
    except ConfigError as error:
        assert error.message
        return
    assert json.loads(edit.text.lstrip(BOM))["default-runtime"] == "nvidia"


@given(FILES, st.data())
@settings(deadline=None, max_examples=200)
def test_scanner_agrees_with_the_standard_library(text, data):
    at = data.draw(st.integers(0, len(text)))
    broken = text[:at] + data.draw(st.sampled_from(["", ",", "}", '"', "\\", "\x01", "1", "x"])) + text[at + 1 :]
    try:
        node = json_text.scan(broken)
    except ConfigError:
        with pytest.raises(ValueError, match=r".*"):
            json.loads(broken.lstrip(BOM) if not broken.startswith(BOM * 2) else broken, object_pairs_hook=_unique)
        return
    expected = json.loads(broken[len(BOM) :] if broken.startswith(BOM) else broken)
    # Half a surrogate pair cannot leave a module; it becomes a question mark.
    expected = json.dumps(expected, ensure_ascii=False).encode("utf-8", "replace").decode()
    assert json.dumps(json_text.to_python(broken, node), ensure_ascii=False) == expected


def _unique(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("duplicate")
    return dict(pairs)


def _load(text):
    return json.loads((text or "").lstrip(BOM) or "{}") if (text or "").strip(BOM + " \t\r\n") else {}


def _others(text, name):
    """The file's content without what may be ours, as ordered pairs."""
    config = _load(text)
    config.pop("default-runtime", None)
    runtimes = config.pop("runtimes", None) or {}
    features = config.pop("features", None) or {}
    runtimes.pop(name, None)
    features.pop("cdi", None)
    return json.dumps([config, runtimes, features])
