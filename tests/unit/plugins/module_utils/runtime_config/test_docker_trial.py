# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether dockerd would take a configuration: the real one of several versions where this machine has it."""

from __future__ import annotations

import json
import subprocess

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import trial
from tests.engines import debian as engines

PATH = "/etc/docker/daemon.json"


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout, done.stderr


def refusal(program, arguments, config, folder, **more):
    start = trial.Start(str(program), arguments, "the systemd unit docker.service")
    return trial.refusal(more.pop("run", run), start, json.dumps(config), config, PATH, str(folder), **more)


@pytest.fixture(params=engines.DOCKER)
def dockerd(request):
    try:
        return engines.docker(request.param, fetch=False) / "dockerd"
    except engines.EngineError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("arguments", "config", "words"),
    [
        (["-H", "fd://"], {"log-driver": "journald", "runtimes": {"nvidia": {"path": "/n"}}}, None),
        (["--config-file=/not/there.json"], {}, None),
        ([], {"log-drivers": "x"}, "the following directives don't match any configuration option: log-drivers"),
        ([], {"mtu": "1500"}, "cannot unmarshal string into Go struct field"),
        (["--tlsverfy"], {}, "unknown flag: --tlsverfy"),
        (["--log-level", "loud"], {}, "loud"),
    ],
)
def test_what_dockerd_says(dockerd, tmp_path, arguments, config, words):
    said = refusal(dockerd, arguments, config, tmp_path)
    if words is None:
        assert said is None
    else:
        start = (
            "dockerd --validate, with the flags of the systemd unit docker.service, refuses /etc/docker/daemon.json: "
        )
        assert said.startswith(start)
        assert words in said
        assert "kubegpu" not in said
        assert str(tmp_path) not in said
        assert "\n" not in said
        assert len(said) < 400
    assert list(tmp_path.iterdir()) == []


def test_no_file_at_all(dockerd, tmp_path):
    assert trial.refusal(run, trial.Start(str(dockerd), [], "x"), None, {}, PATH, str(tmp_path)) is None


def test_flags_are_named_whatever_the_version(tmp_path):
    def never(command):
        raise AssertionError(command)

    said = refusal("/usr/sbin/dockerd", ["-H", "fd://"], {"hosts": ["tcp://x"]}, tmp_path, run=never)
    assert said == (
        "the same option is a flag of the systemd unit docker.service and a key of /etc/docker/daemon.json: --host and "
        "the key hosts. Take the flag out of the unit (systemctl cat) or of its environment file, or the key out of "
        "the file"
    )


@pytest.mark.parametrize(
    "version",
    [
        (0, "Docker version 20.10.24+dfsg1, build 5d6db84\n", ""),
        (0, "Python 3.11.2\n", ""),
        (127, "", "error while loading shared libraries"),
    ],
)
def test_what_cannot_validate_is_not_asked(tmp_path, version):
    program = tmp_path / "dockerd"
    program.write_text("")
    program.chmod(0o755)
    asked = []
    assert refusal(program, [], {"x": 1}, tmp_path, run=lambda command: asked.append(command) or version) is None
    assert asked == [[str(program), "--version"]]


@pytest.mark.parametrize("program", ["/usr/bin/dockerd-rootless.sh", "/not/there/dockerd"])
def test_wrappers_and_missing_programs_are_not_run(tmp_path, program):
    assert refusal(program, [], {"x": 1}, tmp_path, run=None) is None


def test_without_validation_nothing_is_run(tmp_path):
    assert refusal("/usr/sbin/dockerd", [], {"x": 1}, tmp_path, run=None, validate=False) is None
