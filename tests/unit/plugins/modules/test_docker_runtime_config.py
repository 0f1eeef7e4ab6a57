# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module docker_runtime_config, really run, on files in a temporary directory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import process
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import live as docker_live
from tests.engines import debian as engines
from tests.unit.plugins.modules.runtime_config_helpers import run_module, tree

OLD = b'{\n\t"log-driver": "journald",\n\t"default-runtime": "runc"\n}'
SOCKET = "/var/run/docker.sock"


@pytest.fixture
def site(tmp_path):
    """A daemon.json behind a link, and nobody on the socket."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "real.json").write_bytes(OLD)
    (etc / "real.json").chmod(0o640)
    (etc / "daemon.json").symlink_to("real.json")
    return {
        "config_path": str(etc / "daemon.json"),
        "state_dir": str(tmp_path / "memory"),
        "docker_host": f"unix://{tmp_path}/docker.sock",
        "set_default": True,
        "check_gpus_flag": False,
    }


@pytest.fixture
def dockerd(tmp_path):
    """Start a process named dockerd that answers GET /info: function (info, *flags)."""
    started = []

    def start(info, *flags):
        program = tmp_path / "dockerd"
        program.symlink_to(sys.executable)
        script = Path(__file__).with_name("fake_dockerd.py")
        body = info if isinstance(info, str) else json.dumps(info)
        command = [str(program), str(script), str(tmp_path / "docker.sock"), body, *flags]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[0].stdout.readline() == b"ready\n"

    yield start
    for daemon in started:
        daemon.kill()
        daemon.communicate()


def test_check_run_again_and_back(site, tmp_path):
    etc = tmp_path / "etc"
    before = tree(tmp_path)
    dry = run_module("docker_runtime_config", check=True, **site)
    assert dry["changed"] is True
    assert dry["backup_file"] is None
    assert tree(tmp_path) == before

    first = run_module("docker_runtime_config", **site)
    assert first["changed"] is True
    assert first["diff"] == dry["diff"]
    assert first["diff"]["before"].encode() == OLD
    assert first["diff"]["after"].encode() == (etc / "real.json").read_bytes()
    assert first["config"] == json.loads((etc / "real.json").read_bytes())
    assert first["config"]["default-runtime"] == "nvidia"
    assert (first["live"], first["pending"], first["pending_reasons"]) == (None, "none", [])
    assert Path(first["backup_file"]).read_bytes() == OLD
    assert (etc / "daemon.json").is_symlink()
    assert (etc / "real.json").stat().st_mode & 0o777 == 0o640
    # a configuration may hold credentials: neither its backup nor our memory of it is more readable than itself
    assert Path(first["backup_file"]).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "memory").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "memory").iterdir()] == [0o600]

    after = tree(tmp_path)
    for check in (True, False):
        again = run_module("docker_runtime_config", check=check, **site)
        assert again["changed"] is False
        assert again["diff"]["before"] == again["diff"]["after"]
        assert tree(tmp_path) == after

    gone = dict(site, state="absent", backup=False)
    assert run_module("docker_runtime_config", check=True, **gone)["changed"] is True
    assert tree(tmp_path) == after
    assert run_module("docker_runtime_config", **gone)["changed"] is True
    assert (etc / "real.json").read_bytes() == OLD
    assert list((tmp_path / "memory").iterdir()) == []
    assert run_module("docker_runtime_config", **gone)["changed"] is False


def test_file_that_is_not_there(site, tmp_path):
    site["config_path"] = str(tmp_path / "new" / "docker" / "daemon.json")
    first = run_module("docker_runtime_config", **site)
    assert (first["changed"], first["backup_file"]) == (True, None)
    assert Path(site["config_path"]).stat().st_mode & 0o777 == 0o644
    assert first["diff"]["before_header"] == site["config_path"] + " (not there)"
    assert run_module("docker_runtime_config", **dict(site, state="absent"))["changed"] is True
    assert not Path(site["config_path"]).exists()


def test_no_diff_unless_asked_for(site):
    assert "diff" not in run_module("docker_runtime_config", diff=False, check=True, **site)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{\n  "debug": true,\n}\n',
            ', line 3, column 1: expected a key in double quotes, found "}"; remove the comma before it',
        ),
        (b'{"a": "\xff"}', ", line 1, column 8: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b'{"runtimes": [1]}', ", line 1, column 14: runtimes must be an object of runtimes, but is a list"),
    ],
)
def test_bad_file_is_named_and_left_alone(site, tmp_path, content, message):
    real = tmp_path / "etc" / "real.json"
    real.write_bytes(content)
    before = tree(tmp_path)
    for state in ("present", "absent"):
        answer = run_module("docker_runtime_config", **dict(site, state=state))
        assert answer["failed"] is True
        assert answer["msg"] == f"{real}{message}"
        assert tree(tmp_path) == before


def test_config_path_that_is_a_directory(site, tmp_path):
    answer = run_module("docker_runtime_config", **dict(site, config_path=str(tmp_path)))
    assert (answer["failed"], answer["msg"]) == (True, f"{tmp_path}: Is a directory")


def test_remote_daemon_is_refused(site):
    answer = run_module("docker_runtime_config", **dict(site, docker_host="tcp://x:2375"))
    assert answer["msg"] == "docker_host must be unix:///path/of/the.sock, not 'tcp://x:2375'"


def test_unusable_memory_is_a_warning(site, tmp_path):
    run_module("docker_runtime_config", **site)
    (memory,) = (tmp_path / "memory").iterdir()
    memory.write_text("{")
    answer = run_module("docker_runtime_config", **dict(site, state="absent"))
    assert f"{memory} is not usable and counts as not there" in answer["warnings"][0]
    assert "default-runtime" not in answer["config"]


INFO = {
    "DefaultRuntime": "runc",
    "Runtimes": {"runc": {"path": "runc"}},
    "ServerVersion": "20.10.24",
    "ContainersRunning": 2,
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
}


def test_live_state_and_what_is_pending(site, dockerd):
    dockerd(INFO)
    answer = run_module("docker_runtime_config", **site)
    assert answer["live"] == {
        "default_runtime": "runc",
        "runtimes": {"runc": {"path": "runc", "runtimeArgs": []}},
        "live_restore": False,
        "containers_running": 2,
        "server_version": "20.10.24",
        "cdi": None,
        "cgroup_driver": "systemd",
        "cgroup_version": "2",
    }
    assert answer["pending"] == "reload"
    # The file is right, the daemon is not: still to be done.
    again = run_module("docker_runtime_config", **site)
    assert (again["changed"], again["pending"]) == (False, "reload")


def test_hook_that_came_after_dockerd_started(site, dockerd, tmp_path, monkeypatch):
    running = dict(INFO, DefaultRuntime="nvidia", Runtimes={"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}})
    dockerd(running)
    hook = tmp_path / "bin" / "nvidia-container-runtime-hook"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    # dockerd's start is known to a hundredth of a second, and the boot time to a second.
    daemon = process.find("dockerd", str(tmp_path / "docker.sock"))
    assert abs(daemon.started - hook.stat().st_ctime) < 60
    monkeypatch.setenv("PATH", f"{hook.parent}:{os.environ['PATH']}")
    expected = "restart" if hook.stat().st_ctime > daemon.started else "none"
    assert run_module("docker_runtime_config", **dict(site, check_gpus_flag=True))["pending"] == expected
    assert run_module("docker_runtime_config", **dict(site, check_gpus_flag=False))["pending"] == "none"


def test_flag_conflict_is_found_before_writing(site, dockerd, tmp_path):
    dockerd(INFO, "--default-runtime", "runc")
    before = tree(tmp_path / "etc")
    answer = run_module("docker_runtime_config", **site)
    assert answer["failed"] is True
    assert "is a flag of the running dockerd and a key of" in answer["msg"]
    assert "--default-runtime and the key default-runtime" in answer["msg"]
    assert tree(tmp_path / "etc") == before
    assert not (tmp_path / "memory").exists()


def test_other_config_file_of_the_daemon_is_a_warning(site, dockerd):
    dockerd(INFO, "--config-file=/somewhere/else.json")
    assert (
        "reads /somewhere/else.json (its flag --config-file)"
        in run_module("docker_runtime_config", **site)["warnings"][0]
    )


@pytest.mark.parametrize("body", ["", "[]", "{", '{"Runtimes": 5}'])
def test_nonsense_from_the_daemon_is_a_warning(site, dockerd, body):
    dockerd(body)
    answer = run_module("docker_runtime_config", **site)
    assert (answer["changed"], answer["live"]) == (True, None)
    assert "is not usable" in answer["warnings"][0]


def test_secrets_are_masked(site, tmp_path, dockerd):
    real = tmp_path / "etc" / "real.json"
    secrets = {
        "proxies": {"http-proxy": "http://me:s3cret@proxy:3128", "no-proxy": "localhost"},
        "log-opts": {"splunk-token": "s3cret", "splunk-url": "https://splunk"},
        "registry-mirrors": ["https://me:s3cret@mirror"],
        "runtimes": {"nvidia": {"path": "/theirs", "runtimeArgs": ["--token=s3cret"]}},
    }
    real.write_text(json.dumps(secrets))
    dockerd(dict(INFO, Runtimes=secrets["runtimes"]))
    answers = [
        run_module("docker_runtime_config", **dict(site, runtime_args=[], on_conflict=how))
        for how in ("keep", "fail", "replace")
    ]
    assert "s3cret" not in json.dumps(answers)
    assert answers[0]["config"]["proxies"] == {"http-proxy": "http://********@proxy:3128", "no-proxy": "localhost"}
    assert '"no-proxy": "localhost"' in answers[0]["diff"]["after"]
    assert '"splunk-url": "https://splunk"' in answers[0]["diff"]["after"]
    assert real.read_text().count("s3cret") == 3
    (backup, *_rest) = [path for path in (tmp_path / "etc").glob("real.json.*~") if "--token" in path.read_text()]
    assert backup.read_text().count("s3cret") == 4


THEIRS = b'{"runtimes":{"nvidia":{"path":"/operator/nvidia-container-runtime"}}}'


def test_somebody_elses_runtime(site, tmp_path):
    real = tmp_path / "etc" / "real.json"
    real.write_bytes(THEIRS)
    quiet = dict(site, set_default=None)
    for state in ("present", "absent"):
        kept = run_module("docker_runtime_config", **dict(quiet, state=state))
        assert (kept["changed"], real.read_bytes()) == (False, THEIRS)
        assert kept["conflict"].startswith('its path is "/operator/nvidia-container-runtime"')
        assert "It was kept (on_conflict=keep)" in kept["warnings"][0]
    before = tree(tmp_path)
    failed = run_module("docker_runtime_config", **dict(site, on_conflict="fail"))
    assert (failed["failed"], tree(tmp_path)) == (True, before)
    assert f'{real}, line 1, column 23: somebody else has made the runtime "nvidia" already' in failed["msg"]
    replaced = run_module("docker_runtime_config", **dict(site, on_conflict="replace"))
    assert replaced["config"]["runtimes"]["nvidia"]["path"] == "/usr/bin/nvidia-container-runtime"
    assert run_module("docker_runtime_config", **site)["conflict"] is None
    run_module("docker_runtime_config", **dict(site, state="absent"))
    assert real.read_bytes() == THEIRS


def test_absent_by_reload_alone(site, dockerd, tmp_path):
    real = tmp_path / "etc" / "real.json"
    real.write_bytes(b"{}")
    run_module("docker_runtime_config", **site)
    dockerd(dict(INFO, DefaultRuntime="nvidia", Runtimes={"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}}))
    absent = dict(site, state="absent")
    seen = run_module("docker_runtime_config", check=True, **absent)
    assert (seen["pending"], seen["bridge"]) == ("restart", True)
    first = run_module("docker_runtime_config", for_reload=True, **absent)
    assert (first["pending"], first["bridge"]) == ("reload", True)
    assert first["config"] == {"default-runtime": "runc", "runtimes": {}}
    # Died here? The next run does the same again and writes nothing.
    assert run_module("docker_runtime_config", for_reload=True, **absent)["changed"] is False
    assert run_module("docker_runtime_config", **absent)["changed"] is True
    assert real.read_bytes() == b"{}"


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A systemctl that prints what a real one printed for a unit that starts dockerd: function (*flags, start=...)."""

    def install(*flags, start="/usr/sbin/dockerd"):
        program = tmp_path / "bin" / "systemctl"
        program.parent.mkdir(exist_ok=True)
        words = " ".join((str(start), *flags))
        line = f"ExecStart={{ path={start} ; argv[]={words} ; ignore_errors=no ; pid=0 }}"
        program.write_text(f"#!/bin/sh\ncat <<'EOF'\n{line}\nEOF\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def test_flag_in_the_unit_of_a_daemon_that_is_down(site, tmp_path, systemctl):
    real = tmp_path / "etc" / "real.json"
    systemctl("--default-runtime=runc", f"--config-file={site['config_path']}")
    before = tree(tmp_path / "etc")
    answer = run_module("docker_runtime_config", **site)
    assert answer["failed"] is True
    assert f"the same option is a flag of the systemd unit docker.service and a key of {real}" in answer["msg"]
    assert "--default-runtime and the key default-runtime" in answer["msg"]
    assert tree(tmp_path / "etc") == before
    assert run_module("docker_runtime_config", **dict(site, unit=""))["changed"] is True


HOSTS = b'{"hosts": ["unix:///run/other.sock"], "http-proxy": "http://me:s3cret@proxy"}'
THERE_BEFORE = "Docker refuses the file as it is, too, without this change. Docker does not reload or start like this."


def test_conflict_that_was_there_before_us(site, tmp_path, systemctl):
    """The usual one: hosts in the file, and -H fd:// in the unit of Docker's packages."""
    real = tmp_path / "etc" / "real.json"
    real.write_bytes(HOSTS)
    systemctl("-H", "fd://", f"--config-file={site['config_path']}")
    before = tree(tmp_path / "etc")
    for check in (True, False):
        answer = run_module("docker_runtime_config", check=check, **site)
        assert answer["failed"] is True
        assert f"a key of {real}: --host and the key hosts" in answer["msg"]
        assert f"{THERE_BEFORE} Nothing was changed or restarted" in answer["msg"]
    # Nothing runs and there is nothing of ours, so there is nothing to refuse.
    absent = run_module("docker_runtime_config", **dict(site, state="absent"))
    assert absent["changed"] is False
    assert "Correct it before Docker is started again" in absent["warnings"][0]
    assert tree(tmp_path / "etc") == before


def test_conflict_that_came_after_us(site, dockerd, tmp_path, systemctl):
    """In place and in effect: a warning. Where a restart is pending: a failure, so that nothing is restarted."""
    real = tmp_path / "etc" / "real.json"
    assert run_module("docker_runtime_config", **site)["changed"] is True
    real.write_bytes(real.read_bytes().replace(b"{", b'{"hosts": [],', 1))
    before = tree(tmp_path / "etc")
    systemctl("-H", "fd://", f"--config-file={site['config_path']}")
    dockerd(dict(INFO, DefaultRuntime="nvidia", Runtimes={"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}}))
    answer = run_module("docker_runtime_config", **site)
    assert (answer["changed"], answer["pending"]) == (False, "none")
    assert "--host and the key hosts" in answer["warnings"][0]
    for change in ({"state": "absent"}, {"cdi": True}, {"state": "absent", "for_reload": True}):
        answer = run_module("docker_runtime_config", **dict(site, **change))
        assert answer["failed"] is True
        assert THERE_BEFORE in answer["msg"]
        assert tree(tmp_path / "etc") == before
    # The way back after a failure is never refused.
    assert "failed" not in run_module("docker_runtime_config", **dict(site, state="rolled_back"))


@pytest.mark.parametrize("series", engines.DOCKER)
@pytest.mark.parametrize(
    ("old", "words"),
    [
        (HOSTS.replace(b"hosts", b"host-s"), "directives don't match any configuration option: host-s"),
        (b'{"log-opts": {"max-size": 1}}', "json: cannot unmarshal"),
    ],
)
def test_dockerd_itself_tries_the_file(site, tmp_path, systemctl, series, old, words):
    try:
        program = engines.docker(series, fetch=False) / "dockerd"
    except engines.EngineError as error:
        pytest.skip(str(error))
    real = tmp_path / "etc" / "real.json"
    real.write_bytes(old)
    systemctl(f"--config-file={site['config_path']}", start=program)
    before = tree(tmp_path)
    answer = run_module("docker_runtime_config", **site)
    assert answer["failed"] is True
    assert f"refuses {real}: " in answer["msg"]
    assert words in answer["msg"]
    assert THERE_BEFORE in answer["msg"]
    assert "s3cret" not in json.dumps(answer)
    assert tree(tmp_path) == before
    real.write_bytes(OLD)
    assert run_module("docker_runtime_config", **site)["changed"] is True


def test_unit_of_another_daemon_is_no_matter(site, systemctl):
    systemctl("--default-runtime=runc", "--config-file=/somewhere/else.json")
    assert run_module("docker_runtime_config", **site)["changed"] is True


def test_config_path_of_the_unit_is_taken(site, tmp_path, systemctl):
    systemctl(f"--config-file={tmp_path}/etc/daemon.json")
    answer = run_module("docker_runtime_config", **dict(site, config_path=None))
    assert answer["config_path"] == str(tmp_path / "etc" / "real.json")


@pytest.fixture
def read_only(tmp_path):
    """A folder with a daemon.json on a file system that is mounted read-only."""
    folder = tmp_path / "ro"
    folder.mkdir()
    (folder / "daemon.json").write_bytes(OLD)
    steps = (["--bind", folder, folder], ["-o", "remount,ro,bind", folder])
    if any(subprocess.run(["mount", *step], capture_output=True, check=False).returncode for step in steps):
        subprocess.run(["umount", folder], capture_output=True, check=False)
        pytest.skip("needs leave to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_read_only_file_system_is_found_before_anything(site, tmp_path, read_only):
    for change in (
        {"config_path": f"{read_only}/daemon.json"},
        {"config_path": f"{read_only}/new/daemon.json"},
        {"state_dir": f"{read_only}/memory"},
    ):
        before = tree(tmp_path)
        for check in (True, False):
            answer = run_module("docker_runtime_config", check=check, **dict(site, **change))
            assert answer["failed"] is True
            assert f"is on a file system that is mounted read-only (findmnt --target {read_only}" in answer["msg"]
            assert "Nothing was changed" in answer["msg"]
            assert tree(tmp_path) == before
    # Nothing to do is nothing to complain about.
    gone = dict(site, config_path=f"{read_only}/daemon.json", state="absent")
    assert run_module("docker_runtime_config", **gone)["changed"] is False


def test_socket_of_a_dead_daemon(site, tmp_path):
    """dockerd that was killed leaves its socket behind: nothing runs, so the file is all there is to look at."""
    left = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(left))
        listener.listen()
    assert docker_live.read(str(left)) is None
    answer = run_module("docker_runtime_config", **site)
    assert answer["changed"] is True
    assert answer["live"] is None
    assert answer["pending"] == "none"


def test_real_engine():
    """Reads only."""
    live = docker_live.read(SOCKET) if os.access(SOCKET, os.R_OK | os.W_OK) else None
    if live is None:
        pytest.skip(f"no Docker Engine answers on {SOCKET}")
    assert live["default_runtime"] in live["runtimes"]
    assert live["server_version"][0].isdigit()
    daemon = process.find("dockerd", SOCKET, "/var/run/docker.pid")
    if daemon is not None:  # not so where dockerd runs in another pid namespace
        assert daemon.started > 1.5e9
