# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flags of dockerd, what is pending, and what is remembered."""

from __future__ import annotations

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import memory, pending
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import flags as docker_flags

FLAGS = [
    pytest.param(
        ["--default-runtime=runc"], {"default-runtime": "x"}, [("default-runtime", "default-runtime")], id="equals"
    ),
    pytest.param(
        ["--default-runtime", "runc"], {"default-runtime": "x"}, [("default-runtime", "default-runtime")], id="two"
    ),
    pytest.param(["--add-runtime", "a=/b"], {"runtimes": {}}, [("runtimes", "add-runtime")], id="add-runtime"),
    pytest.param(["--feature", "cdi=true"], {"features": {}}, [("features", "feature")], id="feature"),
    pytest.param(["-H", "fd://", "--debug"], {"runtimes": {}, "debug": True}, [], id="others"),
    pytest.param(["--default-runtime=runc"], {"runtimes": {}}, [], id="not-in-the-file"),
    pytest.param(["x", "--", "-"], {"runtimes": {}}, [], id="odd"),
]


@pytest.mark.parametrize(("arguments", "config", "found"), FLAGS)
def test_conflicts(arguments, config, found):
    assert docker_flags.conflicts(arguments, config) == found


def test_conflict_message_names_flag_key_and_cure():
    message = docker_flags.conflict_message([("runtimes", "add-runtime")], "/etc/docker/daemon.json")
    assert message == (
        "the running dockerd has the same option as a flag and would have it in /etc/docker/daemon.json: --add-runtime "
        "and the key runtimes. dockerd refuses to reload or start like this. Take the flag out of the daemon's unit "
        "(systemctl cat docker) or of its environment file, restart Docker, and run this again"
    )


def live(default="runc", cdi=None, version="27.5.1", **runtimes):
    known = {name: {"path": path, "runtimeArgs": []} for name, path in dict(runc="runc", **runtimes).items()}
    return {"default_runtime": default, "runtimes": known, "cdi": cdi, "server_version": version}


FILE = {"runtimes": {"nvidia": {"path": "/n"}}}
DEFAULT = dict(FILE, **{"default-runtime": "nvidia"})
PRESENT = pending.DockerWanted("nvidia", True)
ABSENT = pending.DockerWanted("nvidia", False)
PANIC = (
    "the running daemon's default runtime nvidia is not among the file's runtimes: do not reload, it makes dockerd "
    "panic (seen on 20.10)"
)


@pytest.mark.parametrize(
    ("config", "running", "wanted", "level", "reasons"),
    [
        pytest.param(FILE, None, PRESENT, "none", [], id="not-running"),
        pytest.param(FILE, live(nvidia="/n"), PRESENT, "none", [], id="same"),
        pytest.param(
            FILE, live(), PRESENT, "reload", ["the running daemon does not have the runtime nvidia"], id="new"
        ),
        pytest.param(
            FILE,
            live(nvidia="/old"),
            PRESENT,
            "reload",
            ["runtimes.nvidia.path is '/old' in the running daemon and '/n' in the file"],
            id="other-path",
        ),
        pytest.param(
            DEFAULT,
            live(nvidia="/n"),
            PRESENT,
            "reload",
            ["the running daemon's default runtime is runc, the file's is nvidia"],
            id="default",
        ),
        pytest.param(
            FILE,
            live("nvidia", nvidia="/n"),
            PRESENT,
            "restart",
            ["the running daemon's default runtime is nvidia, the file's is runc"],
            id="default-key-left-the-file",
        ),
        pytest.param(
            {"default-runtime": "kata", **FILE},
            live("crun", nvidia="/n"),
            PRESENT,
            "none",
            [],
            id="somebody-elses-default",
        ),
        pytest.param({}, live(), ABSENT, "none", [], id="absent-done"),
        pytest.param(
            {},
            live(nvidia="/n"),
            ABSENT,
            "restart",
            ["the running daemon still has the runtime nvidia"],
            id="absent-no-key",
        ),
        pytest.param(
            {"runtimes": {}},
            live(nvidia="/n"),
            ABSENT,
            "reload",
            ["the running daemon still has the runtime nvidia"],
            id="absent-with-key",
        ),
        pytest.param(
            {"runtimes": {}},
            live("nvidia", nvidia="/n"),
            ABSENT,
            "restart",
            [
                "the running daemon still has the runtime nvidia",
                "the running daemon's default runtime is nvidia, the file's is runc",
            ],
            id="absent-default",
        ),
        pytest.param(
            {"runtimes": {}, "default-runtime": "runc"},
            live("nvidia", nvidia="/n"),
            ABSENT,
            "reload",
            [
                "the running daemon still has the runtime nvidia",
                "the running daemon's default runtime is nvidia, the file's is runc",
            ],
            id="absent-default-named",
        ),
        pytest.param(
            FILE,
            live("crun", crun="/c"),
            PRESENT,
            "restart",
            [
                "the running daemon does not have the runtime nvidia",
                PANIC.replace("nvidia is", "crun is"),
            ],
            id="reload-would-panic",
        ),
        pytest.param(
            {},
            live(cdi=True, version="26.1.5+dfsg1"),
            ABSENT,
            "restart",
            ["the running daemon still has CDI on, which the file does not ask for"],
            id="cdi-left-over",
        ),
        pytest.param({"features": {"cdi": True}}, live(cdi=True), ABSENT, "none", [], id="cdi-of-the-operator"),
        pytest.param({}, live(cdi=True, version="28.2.0"), ABSENT, "none", [], id="cdi-on-by-default"),
        pytest.param({}, live(cdi=True), PRESENT, "none", [], id="cdi-not-asked"),
        pytest.param(
            FILE,
            live(cdi=False, nvidia="/n"),
            pending.DockerWanted("nvidia", True, cdi=True),
            "restart",
            ["features.cdi is true in the file and false in the running daemon, which reads it only when it starts"],
            id="cdi",
        ),
    ],
)
def test_docker(config, running, wanted, level, reasons):
    found = pending.docker(config, running, wanted)
    assert (found.level, found.reasons) == (level, reasons)


@pytest.mark.parametrize(
    ("started", "hook", "level"),
    [(100.0, 101.0, "restart"), (101.0, 100.0, "none"), (None, 1.0, "none"), (1.0, None, "none")],
)
def test_hook_newer_than_dockerd(started, hook, level):
    assert pending.docker(FILE, live(nvidia="/n"), PRESENT, started, hook).level == level
    assert pending.docker(FILE, live(nvidia="/n"), ABSENT, started, hook).level == "none"


@pytest.mark.parametrize(
    ("changed", "running", "started", "file_changed", "level"),
    [
        (True, True, 5.0, 1.0, "restart"),
        (True, False, None, 1.0, "none"),
        (False, True, 5.0, 6.0, "restart"),
        (False, True, 6.0, 5.0, "none"),
        (False, True, None, 5.0, "none"),
    ],
)
def test_containerd(changed, running, started, file_changed, level):
    found = pending.containerd(changed, running, started, file_changed)
    assert (found.level, bool(found.reasons)) == (level, level != "none")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1}', '{"format": 1, "before": 1, "after_sha256": "", "slots": {}, "created": []}'],
)
def test_unusable_memory(text):
    with pytest.raises(ValueError, match=r".+"):
        memory.loads(text)


def test_memory_file_names_differ_where_paths_do():
    names = {memory.file_name(path, name) for path in ("/a/b.json", "/a_b.json", "/a/b json") for name in ("x", "y")}
    assert len(names) == 6
    assert all("/" not in name for name in names)


def written(before, after, good=None):
    return memory.Memory(before, memory.digest(after), {}, [], good)


def test_roll_back_goes_to_what_was_in_effect_else_to_what_was_without_us():
    ours = written("old", "new", memory.Good("better"))
    assert memory.loads(memory.dumps(ours, "/f", "nvidia")) == ours
    assert memory.roll_back("new", ours) == ("better", written("old", "better"))
    assert memory.roll_back("new", written("old", "new", memory.Good("old"))) == ("old", None)
    assert memory.roll_back("new", written("old", "new")) == ("old", None)
    assert memory.roll_back("new", written(None, "new", memory.Good(None))) == (None, None)
    # The daemon knew no file, and one that it has not read yet was there before us.
    assert memory.roll_back("new", written("old", "new", memory.Good(None))) == (None, None)
    # Somebody has been there since, or nobody ever was.
    assert memory.roll_back("edited", ours) == ("edited", ours)
    assert memory.roll_back("new", None) == ("new", None)
