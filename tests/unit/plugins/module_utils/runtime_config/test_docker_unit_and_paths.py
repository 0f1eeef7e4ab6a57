# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd will start, and where Docker keeps its things. The output is systemctl's, from Debian 12."""

from __future__ import annotations

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import flags as docker_flags
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import paths as docker_paths
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.docker import unit as docker_unit

SHOWN = """ExecStart={ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// ${MORE} $DOCKER_OPTS ; \
ignore_errors=no ; start_time=[Mon 2026-11-23 14:03:02 UTC] ; stop_time=[n/a] ; pid=112 ; code=(null) ; status=0/0 }
Environment=MORE=--debug "OTHER=a b"
EnvironmentFiles=/etc/default/docker (ignore_errors=yes)
EnvironmentFiles=/etc/sysconfig/docker (ignore_errors=no)
"""
FILES = {
    "/etc/default/docker": '# DOCKER_OPTS="--bad"\nDOCKER_OPTS="--dns 8.8.8.8"\n',
    "/etc/sysconfig/docker": "DOCKER_OPTS='--default-runtime=runc \\\n --add-runtime \"a=/b c\"'\n;X=1\nnonsense\n",
}


def test_command_line_with_variables_filled_in():
    found = docker_unit.command(SHOWN, lambda path: FILES.get(path, ""))
    assert found == ["/usr/sbin/dockerd", "-H", "fd://", "--debug", "--default-runtime=runc", "--add-runtime", "a=/b c"]
    assert docker_flags.conflicts(found[1:], {"debug": False, "default-runtime": "nvidia", "log-level": "info"}) == [
        ("debug", "debug"),
        ("default-runtime", "default-runtime"),
    ]


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "ExecStart=\n",
        "ExecStart={ path=/usr/bin/snap ; argv[]=/usr/bin/snap run docker.dockerd ; ignore_errors=no ; }",
    ],
)
def test_no_command_line_to_see(shown):
    assert docker_unit.command(shown, lambda path: "") is None


def test_a_unit_that_systemd_does_not_know():
    assert docker_unit.read(lambda command: (1, "", "no"), ["systemctl"], "docker.service") is None


def test_unreadable_environment_file_and_open_quotes(tmp_path):
    def run(command):
        assert command[0] == "systemctl"
        assert command[-1] == "docker.service"
        shown = "ExecStart={ path=/x/dockerd ; argv[]=/x/dockerd $A $B ; ignore_errors=no ; }\n"
        return 0, shown + f"EnvironmentFiles={tmp_path}\n" + 'Environment="A=--debug \'x"\n', ""

    assert docker_unit.read(run, ["systemctl"], "docker.service") == ["/x/dockerd", "--debug", "'x"]


@pytest.mark.parametrize(
    ("lines", "uid", "environment", "there", "path"),
    [
        pytest.param([None, None], 0, {}, [], "/etc/docker/daemon.json", id="nothing-known"),
        pytest.param([[], ["--config-file=/b"]], 0, {}, [], "/b", id="unit"),
        pytest.param([["--config-file", "/a"], ["--config-file=/b"]], 0, {}, [], "/a", id="running"),
        pytest.param([None, None], 0, {}, ["/var/snap/docker/current"], docker_paths.SNAP, id="snap"),
        pytest.param(
            [None, None], 0, {}, ["/var/snap/docker/current", "/usr/bin/dockerd"], docker_paths.PACKAGE, id="both"
        ),
        pytest.param([None], 1000, {"HOME": "/home/a"}, [], "/home/a/.config/docker/daemon.json", id="rootless"),
        pytest.param([None], 1000, {"HOME": "/a", "XDG_CONFIG_HOME": "/c"}, [], "/c/docker/daemon.json", id="xdg"),
    ],
)
def test_config_path(lines, uid, environment, there, path):
    assert docker_paths.config_path(lines, uid, environment, there.__contains__) == path


def test_the_rest_of_rootless():
    assert docker_paths.host(0, {}) == "unix:///var/run/docker.sock"
    assert docker_paths.host(1000, {}) == "unix:///run/user/1000/docker.sock"
    assert docker_paths.host(1000, {"XDG_RUNTIME_DIR": "/r"}) == "unix:///r/docker.sock"
    assert docker_paths.state_dir(0, {"HOME": "/root"}) == "/var/lib/kubegpu/runtime-config"
    assert docker_paths.state_dir(1000, {"HOME": "/a"}) == "/a/.local/state/kubegpu/runtime-config"


def test_a_snap_keeps_its_memory_over_a_refresh():
    for revision in ("2893", "x1", "current"):
        assert docker_paths.lasting(f"/var/snap/docker/{revision}/config/daemon.json") == docker_paths.SNAP
    assert docker_paths.lasting("/etc/docker/daemon.json") == "/etc/docker/daemon.json"
