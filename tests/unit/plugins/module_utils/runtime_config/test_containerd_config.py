# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Texts here are full of braces, so they are filled in with %:
# ruff: noqa: UP031

"""containerd's config.toml: tables with exact texts and messages, and properties over arbitrary valid files."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import (
    config as containerd_config,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import dump as containerd_dump
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import (
    effective as containerd_effective,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import (
    imports as containerd_imports,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd.config import (
    ContainerdRuntime,
    ensure_absent,
    ensure_present,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.memory import dumps, loads
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError, decode

tomllib = pytest.importorskip("tomllib")

NVIDIA = ContainerdRuntime("nvidia", "/usr/bin/nvidia-container-runtime")
DEFAULT = ContainerdRuntime("nvidia", "/usr/bin/nvidia-container-runtime", set_default=True)
P2 = 'plugins."io.containerd.grpc.v1.cri".containerd'
P3 = "plugins.'io.containerd.cri.v1.runtime'.containerd"
NOTE = "# Written down because containerd drops its built-in runc once the file names any runtime.\n"
PATH = "/etc/containerd/config.toml"


def nvidia(prefix, indent="", options=""):
    lines = [
        "[%s.runtimes.nvidia]" % prefix,
        '  runtime_type = "io.containerd.runc.v2"',
        "  [%s.runtimes.nvidia.options]" % prefix,
        '    BinaryName = "/usr/bin/nvidia-container-runtime"',
    ]
    return "".join(indent + line + "\n" for line in lines + (["    " + options] if options else []))


def runc(prefix):
    return NOTE + '[%s.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n' % prefix


@pytest.mark.parametrize(
    ("old", "wanted", "engine", "new"),
    [
        pytest.param(None, NVIDIA, 1, "version = 2\n\n" + runc(P2) + "\n" + nvidia(P2), id="no-file-1.x"),
        pytest.param(None, NVIDIA, 2, "version = 3\n\n" + runc(P3) + "\n" + nvidia(P3), id="no-file-2.x"),
        pytest.param(None, NVIDIA, 3, "version = 3\n\n" + runc(P3) + "\n" + nvidia(P3), id="no-file-3.x"),
        pytest.param("", NVIDIA, None, "version = 2\n\n" + runc(P2) + "\n" + nvidia(P2), id="empty"),
        pytest.param(
            "version = 2\n", NVIDIA, 2, "version = 2\n\n" + runc(P2) + "\n" + nvidia(P2), id="version-2-on-2.x"
        ),
        pytest.param(
            'version = 2\n[%s]\n  default_runtime_name = "runc" # ours\n  [%s.runtimes]\n    [%s.runtimes.runc]\n'
            '      runtime_type = "io.containerd.runc.v2"\n      [%s.runtimes.runc.options]\n'
            "        SystemdCgroup = true\n"
            "        # a comment that belongs to runc\n\n# end\n[x]\n" % (P2, P2, P2, P2),
            DEFAULT,
            1,
            'version = 2\n[%s]\n  default_runtime_name = "nvidia" # ours\n  [%s.runtimes]\n    [%s.runtimes.runc]\n'
            '      runtime_type = "io.containerd.runc.v2"\n      [%s.runtimes.runc.options]\n'
            "        SystemdCgroup = true\n"
            "        # a comment that belongs to runc\n\n%s\n# end\n[x]\n"
            % (P2, P2, P2, P2, nvidia(P2, "    ", "SystemdCgroup = true")),
            id="default-and-cgroup-driver-of-runc",
        ),
        pytest.param(
            'version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\n'
            'runtime_type = "io.containerd.runc.v2"\noptions.SystemdCgroup = true\nsnapshotter = "zfs"',
            NVIDIA,
            2,
            'version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\n'
            'runtime_type = "io.containerd.runc.v2"\noptions.SystemdCgroup = true\nsnapshotter = "zfs"\n\n'
            '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]\n'
            'runtime_type = "io.containerd.runc.v2"\nsnapshotter = "zfs"\n'
            '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]\n'
            'BinaryName = "/usr/bin/nvidia-container-runtime"\nSystemdCgroup = true',
            id="spelling-and-layout-of-the-neighbour",
        ),
        pytest.param(
            "version = 2\n[%s.runtimes]\n"
            'runc = {runtime_type = "io.containerd.runc.v2", options = {SystemdCgroup = true}}\n'
            'nvidia = {runtime_type = "x", options = {BinaryName = "y", SystemdCgroup = false}}\n' % P2,
            NVIDIA,
            1,
            "version = 2\n[%s.runtimes]\n"
            'runc = {runtime_type = "io.containerd.runc.v2", options = {SystemdCgroup = true}}\n'
            'nvidia = {runtime_type = "io.containerd.runc.v2", options = '
            '{BinaryName = "/usr/bin/nvidia-container-runtime", SystemdCgroup = true}}\n' % P2,
            id="values-inside-inline-tables",
        ),
    ],
)
def test_present_text(old, wanted, engine, new):
    edit = ensure_present(old, replace(wanted, on_conflict="replace"), engine=engine)
    assert edit.text == new
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == old


CONVERT = (
    "convert it with `containerd config migrate` (containerd 1.7 or later), or move it away to start from an empty file"
)
VERSION_1 = (
    "the file has settings but no `version`, so containerd 1.x reads it as version 1, which cannot be edited safely; "
    + CONVERT
)
INLINE = "is written as an inline table, a dotted key or a list, which cannot be extended safely; write it as"


@pytest.mark.parametrize(
    ("old", "engine", "message"),
    [
        pytest.param('# x\n\nroot = "/x"\n', 1, "f, line 3, column 1: " + VERSION_1, id="no-version"),
        pytest.param(
            '# Docker Inc.\ndisabled_plugins = ["cri"]\n',
            1,
            "f, line 2, column 1: " + VERSION_1 + ". Note: its disabled_plugins (line 2) switches CRI off, so kubelet "
            "cannot use this containerd (Docker's containerd.io package ships it like this)",
            id="docker-package",
        ),
        pytest.param(
            "version = 3\n",
            1,
            "f, line 1, column 11: version = 3 is for containerd 2.x, and this containerd 1.x does not read the CRI "
            "settings of such a file; rewrite it for version = 2",
            id="version-3-on-1.x",
        ),
        pytest.param(
            "version = 1\n",
            1,
            "f, line 1, column 11: config version 1 cannot be edited; convert the file with `containerd config "
            "migrate` (containerd 1.7 or later), or start from `containerd config default`",
            id="version-1",
        ),
        pytest.param(
            "version = 5\n",
            2,
            "f, line 1, column 11: config version 5 is not known to this module, which knows 2, 3 and 4. A newer "
            "containerd reads these as well: write the file for version 4, or look for a newer release of the "
            "collection kubegpu.nvidia. Nothing was changed",
            id="version-of-the-future",
        ),
        pytest.param(
            'version = "2"\n',
            2,
            "f, line 1, column 11: version is '2', and containerd takes nothing but a whole number without quotes and "
            "does not start with this file; write version = 2 (containerd 1.x) or version = 3 (containerd 2.x)",
            id="version-in-quotes",
        ),
        pytest.param(
            'version = 2\nplugins."io.containerd.grpc.v1.cri".containerd.snapshotter = "zfs"\n',
            1,
            "f, line 2, column 1: plugins %s [plugins]" % INLINE,
            id="dotted",
        ),
        pytest.param(
            'version = 2\n[plugins]\n"io.containerd.grpc.v1.cri" = {}\n',
            1,
            'f, line 3, column 1: plugins."io.containerd.grpc.v1.cri" %s [plugins."io.containerd.grpc.v1.cri"]'
            % INLINE,
            id="inline",
        ),
        pytest.param(
            "version = 2\n[[plugins]]\n", 1, "f, line 2, column 1: plugins %s [plugins]" % INLINE, id="array-of-tables"
        ),
        pytest.param(
            "version = 2\n[a]\n[a]\n", 1, "f, line 3, column 1: a is already there in line 2, column 1", id="twice"
        ),
        pytest.param(
            "version = 2\n# a\x01b\n", 1, "f, line 2, column 4: control character in a comment", id="comment-control"
        ),
        pytest.param(
            "version = 2 # a\rb\n", 1, "f, line 1, column 16: control character in a comment", id="comment-carriage"
        ),
        pytest.param(
            "version = 2\n[[a]]\n[[a]]\n[a]\n",
            1,
            "f, line 4, column 1: a is already there in line 2, column 1",
            id="list-then-table",
        ),
        pytest.param(
            "version = 2\n[a.b]\n[a]\nb.c = 1\n",
            1,
            "f, line 4, column 1: b.c is already there in line 2, column 1",
            id="dotted-into-a-table",
        ),
        pytest.param(
            "version = 2\nx = {}\nx.y = 1\n",
            1,
            "f, line 3, column 1: x.y is already there in line 2, column 1",
            id="dotted-into-an-inline-table",
        ),
        pytest.param("version = 2\na = 'x\n", 1, "f, line 2, column 5: this string is never closed", id="open-string"),
        pytest.param(
            'version = 2\na = """\nx', 1, "f, line 2, column 5: this string is never closed", id="open-multi-line"
        ),
        pytest.param(
            "version = 2\na = yes\n", 1, "f, line 2, column 5: 'yes' is not a value; strings need quotes", id="bare"
        ),
        pytest.param(
            "version = 2 x\n", 1, "f, line 1, column 13: expected the end of the line, found 'x'", id="trailing"
        ),
        pytest.param(
            "version = 2\n[a\n",
            1,
            "f, line 2, column 3: expected ']' to end the table's name, found the end of the line",
            id="header",
        ),
        pytest.param(
            "version = 2\na = " + "[" * 200, 1, "f, line 2, column 106: nested deeper than 100 levels", id="deep"
        ),
    ],
)
def test_refused(old, engine, message):
    with pytest.raises(ConfigError) as caught:
        ensure_present(old, DEFAULT, engine=engine)
    assert caught.value.describe("f") == message


def test_absent_leaves_what_it_has_nothing_to_do_with():
    for text in (None, "", 'disabled_plugins = ["cri"]\n', "version = 2\n[a]\n", "version = 1\n"):
        assert ensure_absent(text, "nvidia").text == text


def test_version_that_we_wrote_stays_while_others_need_it():
    first = ensure_present(None, DEFAULT)
    assert ensure_absent(first.text + "# hm\n", "nvidia", first.memory).text == "# hm\n"
    back = ensure_absent(first.text + "[added]\nby = 'hand'\n", "nvidia", first.memory).text
    assert back == "version = 2\n[added]\nby = 'hand'\n"


def test_absent_after_an_edit_restores_the_former_default():
    old = (
        'version = 2\n[%s]\ndefault_runtime_name = "kata"\n[%s.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
        % (P2, P2)
    )
    first = ensure_present(old, DEFAULT)
    second = ensure_present(
        first.text, ContainerdRuntime("nvidia", "/other", True), loads(dumps(first.memory, PATH, "nvidia"))
    )
    assert "/other" in second.text
    assert ensure_absent(second.text, "nvidia", second.memory).text == old
    edited = second.text + "[added]\nby = 'hand'\n"
    assert ensure_absent(edited, "nvidia", second.memory).text == old + "[added]\nby = 'hand'\n"
    # A default that somebody took away since would keep CRI from starting.
    no_kata = edited.replace('[%s.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n' % P2, "")
    assert "default_runtime_name" not in ensure_absent(no_kata, "nvidia", second.memory).text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n', 2),
        ('disabled_plugins = ["cri"]\n', 1),
        ("disabled_plugins = []\n", None),
        ("disabled_plugins = 5\n", None),
        ("", None),
    ],
)
def test_disabled_cri(text, line):
    assert containerd_config.disabled_cri(toml_text.scan(text)) == line


def test_candidate_imports():
    found = {"/etc/containerd/*.toml": [PATH, "/etc/containerd/b.toml"]}
    text = 'imports = ["conf.d/*.toml", "x.toml", "*.toml"] # y\n'
    assert containerd_imports.candidate_text(text, PATH, found.__getitem__) == (
        'imports = ["/etc/containerd/conf.d/*.toml", "/etc/containerd/x.toml", "/etc/containerd/b.toml"] # y\n'
    )


# Pieces of a file, each valid after each other one.
PIECES = st.lists(
    st.sampled_from(
        [
            "# comment\n",
            "\n",
            '[grpc]\n  address = "/run/x.sock"\n  uid = 0\n',
            '[timeouts]\n  "io.containerd.timeout.shim.load" = "5s" # five\n',
            "[[list]]\na = 1\n[[list]]\n  b.c = 2\n  [list.d]\n",
            "[proxy]\nx = \"\"\"\n[plugins]\n# not a comment\n\"\"\"\ny = '''\nversion = 9'''\n",
            '[plugins."io.containerd.internal.v1.opt"]\n  path = "/opt"\n',
            "[odd]\n'a b'.\"c d\" = [1, 2, # three\n 3,\n]\ninline = {x = {y = 1979-05-27}, z = [{}]}\n",
        ]
    ),
    unique=True,
    max_size=5,
).map("".join)
CRI = st.sampled_from(
    [
        "",
        "[P]\n",
        '[P]\n  snapshotter = "zfs"\n  default_runtime_name = "runc"\n',
        "[P]\nno_pivot = false\n[P.runtimes]\n",
        '[P.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n'
        "  [P.runtimes.runc.options]\n    SystemdCgroup = true\n",
        '[P.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
        'options = {SystemdCgroup = true, Root = "/r"}\n# after\n',
        '[P.runtimes.kata]\n  runtime_type = "io.containerd.kata.v2"\n[P]\ndefault_runtime_name = "kata"\n',
        '[P.runtimes]\nrunc.runtime_type = "io.containerd.runc.v2"\n',
        "[plugins]\nQ = {containerd = {}}\n",
        'plugins.Q.containerd.default_runtime_name = "runc"\n',
    ]
)


@st.composite
def toml_texts(draw):
    version = draw(st.sampled_from([2, 3]))
    spelled = draw(st.sampled_from(['"%s"', "'%s'"])) % containerd_config.PREFIXES[version][1]
    cri = draw(CRI)
    parts = [draw(PIECES), cri.replace("P", "plugins.Q.containerd").replace("Q", spelled)]
    after = "version = %d # v\ndisabled_plugins = []\n" % version
    if cri.startswith("plugins"):
        # A dotted key at the top level must come before the first table.
        parts = [parts[1], parts[0]]
        after += parts.pop(0)
    if "odd" in parts[0] or draw(st.booleans()):
        parts.reverse()
    text = after + "".join(parts)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return draw(st.sampled_from(["", "\ufeff"])) + text


def _plain(text):
    return tomllib.loads(text.lstrip("\ufeff"))


def _others(text):
    """The content without what may be ours: the runtimes nvidia and (written down) runc, and the default."""
    data = _plain(text)
    for _unused, plugin, _last in containerd_config.PREFIXES.values():
        section = data.get("plugins", {}).get(plugin, {}).get("containerd", {})
        section.pop("default_runtime_name", None)
        section.get("runtimes", {}).pop("nvidia", None)
        section.get("runtimes", {}).pop("runc", None)
        for parent, key in ((section, "runtimes"), (data.get("plugins", {}).get(plugin, {}), "containerd")):
            if not parent.get(key, True):
                del parent[key]
        if not data.get("plugins", {}).get(plugin, True):
            del data["plugins"][plugin]
        if not data.get("plugins", True):
            del data["plugins"]
    return data


@given(toml_texts(), st.sampled_from([NVIDIA, DEFAULT]), st.sampled_from([None, True, False]))
@settings(deadline=None, max_examples=250)
@example("version = 2", DEFAULT, False)
def test_properties_of_any_valid_file(old, wanted, default_again):
    _plain(old)
    try:
        edit = ensure_present(old, wanted)
    except ConfigError as error:
        assert INLINE in error.message
        assert "{containerd" in old or "plugins." in old.splitlines()[2]
        return
    assert _others(edit.text) == _others(old)
    # Everything old is still there in its order: only whole lines were added, and one value may differ.
    kept = [line for line in old.splitlines() if "default_runtime_name" not in line]
    remaining = iter(edit.text.splitlines())
    assert all(line in remaining for line in kept)
    assert ensure_present(edit.text, wanted, edit.memory).text == edit.text
    assert ensure_present(edit.text, wanted).text == edit.text
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == old
    second = ensure_present(edit.text, ContainerdRuntime("nvidia", "/b", default_again), edit.memory)
    assert ensure_absent(second.text, "nvidia", second.memory).text == old
    # Somebody's edit survives the way back.
    hand = ("" if second.text.endswith("\n") else "\n") + "[added]\nby = 'hand'\n"
    back = ensure_absent(second.text + hand, "nvidia", second.memory).text
    expected = _plain(old)
    expected["added"] = {"by": "hand"}
    assert _plain(back) == expected
    # Without a memory the runtime goes as well, and no default dangles.
    bare = ensure_absent(second.text, "nvidia").text
    assert "nvidia" not in bare
    assert _others(bare) == _others(old)


def _merged(main, drop_in):
    """What containerd 2.x makes of a file and the drop-in that it imports: setting by setting, the later one wins."""
    if isinstance(main, dict) and isinstance(drop_in, dict):
        return {
            key: _merged(main.get(key, drop_in.get(key)), drop_in.get(key, main.get(key))) for key in main | drop_in
        }
    return drop_in


@given(st.none() | st.just("") | toml_texts(), toml_texts(), st.sampled_from([NVIDIA, DEFAULT]), st.booleans())
@settings(deadline=None, max_examples=250)
@example(None, "version = 3", DEFAULT, True)
@example("# only a comment", "version = 2\n", DEFAULT, False)
def test_properties_of_any_valid_drop_in(old, main, wanted, default_again):
    main_version = _plain(main)["version"]
    try:
        edit = ensure_present(old, wanted, drop_in_of=main_version)
    except ConfigError as error:
        assert INLINE in error.message or "containerd then drops the settings of one of them" in error.message
        if INLINE not in error.message:
            assert _plain(old)["version"] != main_version
        return
    # The same version as the file that imports it, and no runc: that one has it or containerd brings it along.
    assert _plain(edit.text)["version"] == main_version == edit.version
    before, after = _plain(main), _merged(_plain(main), _plain(edit.text))
    if old:
        before = _merged(before, _plain(old))
    name, plugin, last = containerd_config.PREFIXES[main_version]
    section = after[name][plugin][last]
    assert section["runtimes"].pop("nvidia")["options"]["BinaryName"] == wanted.path
    assert not wanted.set_default or section["default_runtime_name"] == "nvidia"
    former = before.get(name, {}).get(plugin, {}).get(last, {})
    if former.get("default_runtime_name") is None:
        section.pop("default_runtime_name", None)
    else:
        section["default_runtime_name"] = former["default_runtime_name"]
    assert _without_empty(after) == _without_empty(before)
    assert ensure_present(edit.text, wanted, edit.memory, drop_in_of=main_version).text == edit.text
    assert ensure_present(edit.text, wanted, drop_in_of=main_version).text == edit.text
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == old
    again = ContainerdRuntime("nvidia", "/b", default_again)
    second = ensure_present(edit.text, again, edit.memory, drop_in_of=main_version)
    assert ensure_absent(second.text, "nvidia", second.memory).text == old
    # Somebody's edit survives the way back.
    hand = ("" if second.text.endswith("\n") else "\n") + "[added]\nby = 'hand'\n"
    back = _plain(ensure_absent(second.text + hand, "nvidia", second.memory).text)
    assert back.pop("added") == {"by": "hand"}
    assert back == (_plain(old) if old and _plain(old) else {"version": main_version})


def _without_empty(value):
    """The same without tables that hold nothing: containerd takes them for not there."""
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in ((key, _without_empty(item)) for key, item in value.items()) if item != {}}


@given(st.binary(max_size=60) | st.text("[]{}=.\"'\\#\n ab1-", max_size=40).map(str.encode), st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=300)
def test_arbitrary_bytes_as_a_drop_in(data, version):
    """An edit that can be taken back byte for byte, or a ConfigError; never anything else."""
    try:
        text = decode(data)
        edit = ensure_present(text, DEFAULT, drop_in_of=version)
    except ConfigError as error:
        assert error.message
        return
    assert edit.version == version
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == text


@given(toml_texts())
@settings(deadline=None, max_examples=150)
def test_scanner_agrees_with_the_standard_library(text):
    ours = toml_text.to_python(toml_text.scan(text).root)
    assert ours == _dates(_plain(text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[[a]]\n[[a]]\nx = 1\n[[a]]\n[a.b]\ny = 2\n[[a.c]]\n[[a.c]]\n", id="lists-of-tables"),
        pytest.param("a.b.c = 1\na.b.d = 2\n[e.f]\n[e]\ng = 3\n", id="tables-named-later"),
        pytest.param("i = [0, -1, +2, 1_000, 0xfF, 0o17, 0b1_1, 9223372036854775807]\n", id="integers"),
        pytest.param("f = [1.5, -2e3, 6.626e-34, 1_0.2_5, 0.0]\n", id="floats"),
        pytest.param("d = [1979-05-27T07:32:00, 1979-05-27, 07:32:00.500000]\nb = [true, false]\n", id="dates"),
        pytest.param('s = ["\\b\\t\\n\\f\\r\\"\\\\", "\\u00e9\\U0001F600", \'C:\\x\']\n', id="escapes"),
        pytest.param('m = """\nfirst \\\n   joined\n\\"""quoted\\""" ""\nlast"""\n', id="several-lines"),
        pytest.param("m = '''\n\\raw '' x''''\n", id="several-raw-lines"),
        pytest.param('m = """two at the end"""""\nn = """"one in front"""\n', id="quotes-beside-quotes"),
        pytest.param('t = {a = 1, "b c" = {d.e = []}, f = {}}\n[\'q r\'."s"]\n', id="inline"),
    ],
)
def test_all_of_toml_is_read_as_the_standard_library_reads_it(text):
    assert toml_text.to_python(toml_text.scan(text).root) == _dates(tomllib.loads(text))


def _dates(value):
    if isinstance(value, dict):
        return {key: _dates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dates(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


@given(toml_texts(), st.data())
@settings(deadline=None, max_examples=300)
def test_what_the_scanner_takes_the_standard_library_takes(text, data):
    at = data.draw(st.integers(0, len(text)))
    broken = (
        text[:at] + data.draw(st.sampled_from(["", ",", "]", '"', "\\", "\x01", "[", "=", "'", "\r"])) + text[at + 1 :]
    )
    try:
        scanned = toml_text.scan(broken)
    except ConfigError:
        return
    assert toml_text.to_python(scanned.root) == _dates(tomllib.loads(broken.removeprefix("\ufeff")))


@given(st.binary(max_size=60) | st.text("[]{}=.\"'\\#\n ab1-", max_size=40).map(str.encode))
@settings(deadline=None, max_examples=500)
def test_arbitrary_bytes_give_an_edit_or_a_config_error(data):
    try:
        text = "version = 2\n" + decode(data)
        edit = ensure_present(text, DEFAULT)
        ensure_absent(text, "nvidia")
    except ConfigError as error:
        assert error.message
        return
    assert edit.version == 2


@pytest.mark.skipif(shutil.which("containerd") is None, reason="needs the containerd binary (config dump, offline)")
class TestRealContainerd:
    """What containerd itself makes of our texts; nothing is started."""

    @staticmethod
    def run(command):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def dump(self, text, path=PATH):
        return containerd_dump.dump(self.run, "containerd", text, path)

    @pytest.mark.parametrize(
        "old",
        [
            "version = 2\n",
            'version = 2\n[%s]\nsnapshotter = "native"\n' % P2,
            '\ufeffversion = 2\r\n[%s.runtimes.runc]\r\nruntime_type = "io.containerd.runc.v2"\r\n'
            "[%s.runtimes.runc.options]\r\nSystemdCgroup = true" % (P2, P2),
            "default",
        ],
    )
    def test_only_ours_changes(self, old):
        if containerd_dump.major_version(self.run, "containerd") != 1:
            pytest.skip("texts for containerd 1.x")
        if old == "default":
            old = self.run(["containerd", "config", "default"])[1].replace(
                "SystemdCgroup = false", "SystemdCgroup = true"
            )
        before = self.dump(old)
        edit = ensure_present(old, DEFAULT, None, containerd_effective.effective_of(before), 1)
        after = self.dump(edit.text)
        assert containerd_effective.problems(containerd_effective.effective_of(after), DEFAULT, "nvidia") == []
        assert containerd_effective.side_effects(before, after, ("nvidia",)) == []
        runtimes = toml_text.to_python(after.find(containerd_config.PREFIXES[2]))["runtimes"]
        drivers = [runtimes[name]["options"].get("SystemdCgroup", False) for name in ("nvidia", "runc")]
        assert drivers[0] is drivers[1]

    def test_without_our_care_runc_is_lost(self):
        """The reason for writing runc down; if this fails, containerd no longer needs it."""
        if containerd_dump.major_version(self.run, "containerd") != 1:
            pytest.skip("a trap of containerd 1.x")
        naive = self.dump("version = 2\n" + nvidia(P2))
        changes = containerd_effective.side_effects(self.dump("version = 2\n"), naive, ("nvidia",))
        assert changes == [P2 + ".runtimes.runc.runtime_type: 'io.containerd.runc.v2' -> None"]

    def test_messages_name_the_real_file(self):
        with pytest.raises(ConfigError) as caught:
            self.dump("version = 2\nroot = 5\n")
        assert caught.value.describe(PATH).startswith(PATH + ", line 2, column 1: containerd refuses it: ")
        assert "/tmp/" not in caught.value.message
