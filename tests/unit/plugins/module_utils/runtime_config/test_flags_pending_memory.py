# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flags of dockerd, what is pending, and what is remembered."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import memory, pending
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import flags as docker_flags
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.process import Daemon
from tests.engines import debian as engines

FLAGS = [
    pytest.param(["--default-runtime=runc"], {"default-runtime": "x"}, {"default-runtime": "default-runtime"}, id="="),
    pytest.param(
        ["--default-runtime", "runc"], {"default-runtime": "x"}, {"default-runtime": "default-runtime"}, id="2"
    ),
    pytest.param(["--add-runtime", "a=/b"], {"runtimes": {"c": {"path": "/c"}}}, {}, id="runtimes-are-merged"),
    pytest.param(["-H", "fd://", "--debug"], {"runtimes": {}, "debug": None}, {"debug": "debug"}, id="null"),
    pytest.param(["-H", "fd://"], {"hosts": []}, {"hosts": "host"}, id="hosts"),
    pytest.param(
        ["-Hfd://", "-l=debug"],
        {"hosts": ["x"], "log-level": "x"},
        {"hosts": "host", "log-level": "log-level"},
        id="short",
    ),
    pytest.param(
        ["-Dl", "debug"], {"debug": True, "log-level": "x"}, {"debug": "debug", "log-level": "log-level"}, id="shorts"
    ),
    pytest.param(["--debug=false"], {"debug": True}, {"debug": "debug"}, id="switched-off"),
    pytest.param(["-H", "fd://", "-D"], {"host": ["x"]}, {}, id="singular"),
    pytest.param(
        ["--host-gateway-ip", "1.1.1.1"],
        {"host-gateway-ip": "1.1.1.2"},
        {"host-gateway-ip": "host-gateway-ip"},
        id="renamed",
    ),
    pytest.param(
        ["--http-proxy", "http://x"], {"proxies": {"http-proxy": "http://y"}}, {"http-proxy": "http-proxy"}, id="nested"
    ),
    pytest.param(["--log-opt", "a=b"], {"log-opts": {"label": "c"}}, {"log-opts": "log-opt"}, id="one-option"),
    pytest.param(["--label=a=b"], {"log-opts": {"label": "c"}}, {}, id="not-nested"),
    pytest.param(["--dns", "1.1.1.1"], {"dns": ["1.1.1.2"]}, {"dns": "dns"}, id="dns"),
    pytest.param(
        ["--registry-mirror", "https://x"],
        {"registry-mirrors": ["https://y"]},
        {"registry-mirrors": "registry-mirror"},
        id="y-ies",
    ),
    pytest.param(
        ["--insecure-registry", "x"],
        {"insecure-registries": ["y"]},
        {"insecure-registries": "insecure-registry"},
        id="ies",
    ),
    pytest.param(["--storage-opt", "a=b"], {"storage-opts": ["a=c"]}, {"storage-opts": "storage-opt"}, id="storage"),
    pytest.param(["--default-runtime=runc"], {"runtimes": {}}, {}, id="not-in-the-file"),
]


@pytest.mark.parametrize(("arguments", "config", "found"), FLAGS)
def test_conflicts(arguments, config, found):
    assert docker_flags.conflicts(arguments, config) == sorted(found.items())


def test_odd_words_are_no_flags():
    assert docker_flags.flags(["x", "--", "-", "-x"]) == {"x": ""}


@pytest.mark.parametrize("series", engines.DOCKER)
@pytest.mark.parametrize(("arguments", "config", "found"), FLAGS)
def test_dockerd_finds_the_same_conflicts(arguments, config, found, series, tmp_path):
    """Only the flags are given; a file with more than unknown keys wrong would be told the same way."""
    try:
        program = engines.docker(series, fetch=False) / "dockerd"
    except engines.EngineError as error:
        pytest.skip(str(error))
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(config))
    command = [program, "--validate", *arguments, f"--config-file={path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stderr
    assert sorted(re.findall(r"[:,] ([\w-]+): \(from flag: ", said)) == sorted(found)


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
    daemon = Daemon(7, [], started) if running else None
    found = pending.at_start("containerd", changed, daemon, file_changed)
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
