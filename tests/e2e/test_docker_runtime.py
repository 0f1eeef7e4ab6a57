"""The role docker_runtime against a real dockerd that does not do as it is told, and against runs that are killed.

The tests build on each other in the order of this file. The node has the cgroup driver systemd and no live-restore:
whatever restarts dockerd stops its containers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.nodes import fresh_cluster
from tests.engines import debian as engines
from tests.sim.cluster import cluster, docker, images
from tests.sim.cluster.use import ROOT, Handle, PlaybookRun

SPEC = cluster.Spec("dockerdepth", gpus=2, kubernetes=False)
DAEMON_JSON = "/etc/docker/daemon.json"
DROP_IN = "/run/systemd/system/docker.service.d/test.conf"
OPERATORS = '{\n\t"exec-opts": ["native.cgroupdriver=systemd"],\n\t"labels": ["rack=7"]\n}'


@pytest.fixture(scope="module")
def node() -> Iterator[Handle]:
    """A node with Docker and the toolkit, set up by an operator."""
    with fresh_cluster(SPEC) as handle:
        repository = json.loads(handle.inventory.read_text())["all"]["children"]["gpu_nodes"]["vars"]
        source = (
            f"deb [trusted=yes] {repository['container_toolkit_repo_url']}/stable/deb/$(dpkg --print-architecture) /"
        )
        handle.execute("sh", "-c", f'echo "{source}" > /etc/apt/sources.list.d/toolkit.list')
        only = "-o=Dir::Etc::sourcelist=sources.list.d/toolkit.list -o=Dir::Etc::sourceparts=-"
        handle.execute("sh", "-c", f"apt-get -q {only} update && apt-get -qy {only} install nvidia-container-toolkit")
        write(handle, DAEMON_JSON, OPERATORS)
        handle.execute("systemctl", "restart", "docker")
        yield handle


def write(node: Handle, path: str, text: str) -> None:
    local = node.folder / "file"
    local.write_text(text)
    node.execute("mkdir", "-p", str(Path(path).parent))
    with local.open("rb") as stream:
        docker.run("exec", "-i", node.node, "sh", "-c", f"cat > {path}", stdin=stream)


def read(node: Handle, path: str = DAEMON_JSON) -> str:
    return json.loads(node.execute("python3", "-c", f"import json; print(json.dumps(open('{path}').read()))"))


def command(node: Handle, tasks: list[dict[str, Any]], *arguments: str, **play: Any) -> list[str]:
    """An ansible-playbook command line that runs tasks on the node."""
    path = node.folder / "play.json"
    path.write_text(json.dumps([{"hosts": "gpu_nodes", "gather_facts": False, "tasks": tasks, **play}]))
    return [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(node.inventory), str(path), *arguments]


def environment() -> dict[str, str]:
    tools = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
    }


def role(node: Handle, *arguments: str, play: dict[str, Any] | None = None, **variables: Any) -> PlaybookRun:
    tasks = [{"ansible.builtin.include_role": {"name": "kubegpu.nvidia.docker_runtime"}, "vars": variables}]
    return run_tasks(node, tasks, *arguments, play=play)


def dev_char(node: Handle, *arguments: str) -> PlaybookRun:
    links = {"name": "kubegpu.nvidia.container_toolkit", "tasks_from": "dev_char"}
    return run_tasks(node, [{"ansible.builtin.include_role": links}], *arguments)


def run_tasks(
    node: Handle, tasks: list[dict[str, Any]], *arguments: str, play: dict[str, Any] | None = None
) -> PlaybookRun:
    done = subprocess.run(
        command(node, tasks, *arguments, **(play or {})),
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return PlaybookRun(done.returncode, done.stdout + done.stderr, 0)


def killed_role(node: Handle, task: str, **variables: Any) -> None:
    """Runs the role and kills it with SIGKILL as soon as it announces the task."""
    tasks = [{"ansible.builtin.include_role": {"name": "kubegpu.nvidia.docker_runtime"}, "vars": variables}]
    process = subprocess.Popen(
        command(node, tasks),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("TASK") and line.rstrip(" *\n").endswith(f": {task}]"):
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL, "".join(lines)


def info(node: Handle) -> dict[str, Any]:
    return dict(json.loads(node.execute("docker", "info", "--format", "{{json .}}")))


def started(node: Handle) -> str:
    return node.execute("systemctl", "show", "-p", "MainPID", "-p", "ExecMainStartTimestampMonotonic", "docker")


def flat(run: PlaybookRun) -> str:
    return re.sub(r"\s+", " ", run.output)


def stray(node: Handle) -> str:
    return node.execute("find", "/etc/docker", "/var/lib/kubegpu", "-name", ".*kubegpu-*")


def test_a_default_runtime_that_does_not_exist_is_refused_before_writing(node: Handle) -> None:
    ghost = OPERATORS.replace("{", '{"default-runtime": "ghost", ', 1)
    write(node, DAEMON_JSON, ghost)
    before = started(node)
    for arguments in ((), ("--check",)):
        run = role(node, *arguments, docker_runtime_set_default=False, docker_runtime_allow_restart="always")
        assert run.returncode != 0
        assert f'{DAEMON_JSON}, line 1, column 21: default-runtime is "ghost"' in flat(run)
    assert read(node) == ghost
    assert started(node) == before
    # The real dockerd says the same.
    node.execute("systemctl", "reload", "docker")
    assert info(node)["DefaultRuntime"] == "runc"
    write(node, DAEMON_JSON, OPERATORS)


def test_a_runtime_without_a_binary_is_refused_before_writing(node: Handle) -> None:
    run = role(node, docker_runtime_path="/opt/none/nvidia-container-runtime")
    assert "is not an executable file" in flat(run)
    assert read(node) == OPERATORS


def test_a_flag_in_the_unit_is_found_while_dockerd_is_down(node: Handle) -> None:
    defaults = read(node, "/etc/default/docker")
    write(node, "/etc/default/docker", defaults + 'DOCKER_OPTS="--default-runtime=runc"\n')
    try:
        # It still runs without the flag; the next start would have it.
        run = role(node)
        assert "is a flag of the systemd unit docker.service and a key of /etc/docker/daemon.json" in flat(run), (
            run.output
        )
        node.execute("systemctl", "stop", "docker.socket", "docker.service")
        run = role(node)
        assert run.returncode != 0
        assert "--default-runtime and the key default-runtime" in flat(run), run.output
        assert read(node) == OPERATORS
    finally:
        write(node, "/etc/default/docker", defaults)
        node.execute("systemctl", "start", "docker.socket", "docker.service")


def test_a_conflict_that_was_there_before_is_named_and_nothing_is_restarted(node: Handle) -> None:
    """The next start of this Docker fails; the restart that --gpus needs would be it."""
    conflicting = OPERATORS.replace("{", '{"hosts": ["unix:///run/second.sock"],', 1)
    node.execute("touch", "/usr/bin/nvidia-container-runtime-hook")
    write(node, DAEMON_JSON, conflicting)
    before = started(node)
    try:
        for arguments in ((), ("--check",)):
            run = role(node, *arguments, docker_runtime_allow_restart="always")
            assert run.returncode != 0
            assert "--host and the key hosts" in flat(run), run.output
            assert "Docker refuses the file as it is, too" in flat(run)
        assert (read(node), started(node)) == (conflicting, before)
        assert info(node)["DefaultRuntime"] == "runc"
    finally:
        write(node, DAEMON_JSON, OPERATORS)


def test_the_bare_name_of_nvidias_packages_stays(node: Handle) -> None:
    theirs = OPERATORS.replace("{", '{"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}},', 1)
    write(node, DAEMON_JSON, theirs)
    node.execute("systemctl", "reload", "docker")
    try:
        run = role(node, docker_runtime_allow_restart="never")
        assert run.returncode == 0, run.output
        assert 'its path is "nvidia-container-runtime"' in flat(run)
        assert info(node)["DefaultRuntime"] == "nvidia"
        for _again in range(2):
            run = role(node, docker_runtime_state="absent", docker_runtime_allow_restart="never")
            assert (run.returncode, read(node)) == (0, theirs), run.output
        assert "nvidia" in info(node)["Runtimes"]
    finally:
        write(node, DAEMON_JSON, '{"runtimes": {}, "default-runtime": "runc"}')
        node.execute("systemctl", "reload", "docker")
        write(node, DAEMON_JSON, OPERATORS)


def test_a_read_only_etc_docker_is_found_before_anything(node: Handle) -> None:
    before = node.execute("find", "/var/lib", "-path", "/var/lib/kubegpu*")
    node.execute("mount", "--bind", "/etc/docker", "/etc/docker")
    node.execute("mount", "-o", "remount,ro,bind", "/etc/docker")
    try:
        for arguments in ((), ("--check",)):
            run = role(node, *arguments)
            assert run.returncode != 0
            assert "/etc/docker/daemon.json is on a file system that is mounted read-only" in flat(run), run.output
        assert node.execute("find", "/var/lib", "-path", "/var/lib/kubegpu*") == before
    finally:
        node.execute("umount", "/etc/docker")
    assert read(node) == OPERATORS


def test_a_daemon_that_will_not_start_gets_its_file_back(node: Handle) -> None:
    """The reload works; the restart, which --gpus needs after the toolkit was installed, does not."""
    write(node, DROP_IN, "[Service]\nExecStartPre=/bin/sh -c '! grep -q nvidia-container /etc/docker/daemon.json'\n")
    node.execute("systemctl", "daemon-reload")
    node.execute("touch", "/usr/bin/nvidia-container-runtime-hook")
    try:
        run = role(node, docker_runtime_allow_restart="always")
        assert run.returncode != 0
        assert f"{DAEMON_JSON} is again what it was. The daemon runs." in flat(run), run.output
        assert "The daemon's last log lines before that" in run.output
        assert read(node) == OPERATORS
        assert set(info(node)["Runtimes"]) == {"io.containerd.runc.v2", "io.containerd.runtime.v1.linux", "runc"}
    finally:
        node.execute("rm", DROP_IN)
        node.execute("systemctl", "daemon-reload")
        node.execute("systemctl", "restart", "docker")


def test_killed_runs_are_put_right_by_the_next(node: Handle) -> None:
    node.execute("docker", "run", "-d", "--name", "bystander", images.BASE, "sleep", "infinity")
    state = ("docker", "inspect", "--format", "{{.State.Pid}} {{.State.StartedAt}}", "bystander")
    container, daemon = node.execute(*state), started(node)
    for task in ("Write the file", "Reload the daemon", "Read the live state back"):
        killed_role(node, task)
        run = role(node)
        assert run.returncode == 0, run.output
        assert info(node)["DefaultRuntime"] == "nvidia"
        assert role(node).changed == 0
        assert stray(node) == ""
        back = role(node, docker_runtime_state="absent", docker_runtime_allow_restart="never")
        assert back.returncode == 0, back.output
        assert read(node) == OPERATORS
    # dockerd was never restarted, neither by the role nor by the way back.
    assert (node.execute(*state), started(node)) == (container, daemon)


def test_absent_is_undone_by_reload_also_when_killed(node: Handle) -> None:
    container = node.execute("docker", "inspect", "--format", "{{.State.Pid}}", "bystander")
    daemon = started(node)
    for task in ("Reload the daemon", "Read the live state back", "Write the file as it is to stay"):
        assert role(node).returncode == 0
        absent = {"docker_runtime_state": "absent", "docker_runtime_allow_restart": "never"}
        killed_role(node, task, **absent)
        run = role(node, **absent)
        assert run.returncode == 0, run.output
        assert "must be restarted" not in run.output
        found = info(node)
        assert (found["DefaultRuntime"], "nvidia" in found["Runtimes"]) == ("runc", False)
        assert read(node) == OPERATORS
        assert role(node, **absent).changed == 0
        assert stray(node) == ""
    assert node.execute("docker", "inspect", "--format", "{{.State.Pid}}", "bystander") == container
    assert started(node) == daemon


def test_an_interrupted_run_whose_successor_fails_goes_back_to_what_worked(node: Handle) -> None:
    assert role(node).returncode == 0
    good = read(node)
    killed_role(node, "Reload the daemon", docker_runtime_args=["--debug"])
    assert "--debug" in read(node)
    write(node, DROP_IN, "[Service]\nExecReload=\nExecReload=/bin/true\n")
    node.execute("systemctl", "daemon-reload")
    try:
        run = role(node, docker_runtime_args=["--debug"])
        assert run.returncode != 0
        assert "is again what it was before an earlier run that did not get to apply it" in flat(run), run.output
        assert read(node) == good
        assert info(node)["DefaultRuntime"] == "nvidia"
    finally:
        node.execute("rm", DROP_IN)
        node.execute("systemctl", "daemon-reload")
    assert role(node).changed == 0


def open_gpu(node: Handle, container: str) -> str:
    """What opening /dev/nvidia0 gives: there is no driver behind it (ENXIO), or it is forbidden (EPERM)."""
    script = (
        "import os, errno\n"
        "try: os.open('/dev/nvidia0', os.O_RDWR)\n"
        "except OSError as error: print(errno.errorcode[error.errno])"
    )
    return node.execute("docker", "exec", container, "python3", "-c", script)


def test_containers_keep_their_gpus_over_a_daemon_reload(node: Handle) -> None:
    start = ("docker", "run", "-d", "--runtime=runc", "--device", "/dev/nvidia0", "--name")
    node.execute("sh", "-c", "test ! -e /dev/char || mv /dev/char /dev/char.away")
    node.execute(*start, "without-links", images.BASE, "sleep", "infinity")
    run = dev_char(node, "--check")
    assert run.changed == 1, run.output
    assert "created: /dev/char/195:0 -> ../nvidia0" in run.output
    run = dev_char(node)
    assert "created: /dev/char/195:0 -> ../nvidia0" in run.output
    node.execute(*start, "with-links", images.BASE, "sleep", "infinity")
    names = ("without-links", "with-links")
    assert {name: open_gpu(node, name) for name in names} == dict.fromkeys(names, "ENXIO")
    node.execute("systemctl", "daemon-reload")
    assert {name: open_gpu(node, name) for name in names} == {"without-links": "EPERM", "with-links": "ENXIO"}
    node.execute("docker", "rm", "-f", *names)
    assert dev_char(node).changed == 0


def test_somebody_elses_runtime_is_kept_and_reported(node: Handle) -> None:
    assert role(node, docker_runtime_state="absent").returncode == 0
    theirs = '{"runtimes": {"nvidia": {"path": "/opt/theirs"}}}'
    write(node, DAEMON_JSON, theirs)
    node.execute("systemctl", "reload", "docker")
    run = role(node, docker_runtime_set_default=False)
    assert (run.returncode, run.changed, read(node)) == (0, 0, theirs), run.output
    assert 'was made by somebody else: its path is "/opt/theirs"' in flat(run)
    run = role(node)
    assert "/opt/theirs is not an executable file" in flat(run)
    run = role(node, docker_runtime_set_default=False, docker_runtime_on_conflict="fail")
    assert (run.returncode != 0, read(node)) == (True, theirs)
    run = role(node, docker_runtime_set_default=False, docker_runtime_on_conflict="replace")
    assert run.returncode == 0, run.output
    assert info(node)["Runtimes"]["nvidia"]["path"] == "/usr/bin/nvidia-container-runtime"
    run = role(node, docker_runtime_state="absent")
    assert (run.returncode, read(node)) == (0, theirs), run.output
    assert info(node)["Runtimes"]["nvidia"]["path"] == "/opt/theirs"


def test_rootless_docker(node: Handle) -> None:
    node.execute("useradd", "--create-home", "--shell", "/bin/bash", "alice")
    play = {"become": True, "become_user": "alice", "environment": {"XDG_RUNTIME_DIR": "/run/user/1000"}}
    run = role(node, play=play, docker_runtime_rootless=True)
    # No daemon of hers runs, so the module's file is what can be seen.
    assert run.returncode == 0, run.output
    assert json.loads(read(node, "/home/alice/.config/docker/daemon.json"))["default-runtime"] == "nvidia"
    assert node.execute("stat", "-c", "%U", "/home/alice/.config/docker/daemon.json") == "alice"
    toolkit = read(node, "/etc/nvidia-container-runtime/config.toml")
    assert re.findall(r"^no-cgroups = true$", toolkit, re.MULTILINE) == ["no-cgroups = true"]
    assert toolkit.index("[nvidia-container-cli]") < toolkit.index("no-cgroups = true")
    assert "it counts for every engine" in flat(run).lower()
    again = role(node, play=play, docker_runtime_rootless=True)
    assert (again.returncode, again.changed) == (0, 0), again.output


def forget_starts(node: Handle) -> None:
    """Docker's unit may be started three times a minute; the tests are faster than that."""
    node.execute("systemctl", "reset-failed", "docker.service")


def cdi_folders(node: Handle) -> list[str]:
    """Where the running engine looks for CDI specifications; the node's client is too old to show it."""
    script = (
        "import http.client, json, socket\n"
        "connection = http.client.HTTPConnection('localhost')\n"
        "connection.sock = socket.socket(socket.AF_UNIX)\n"
        "connection.sock.connect('/var/run/docker.sock')\n"
        "connection.request('GET', '/info')\n"
        "print(json.dumps(json.load(connection.getresponse())['CDISpecDirs']))"
    )
    return json.loads(node.execute("python3", "-c", script)) or []


@pytest.mark.parametrize("series", ["26", pytest.param("28", marks=pytest.mark.matrix)])
def test_a_newer_engine(node: Handle, series: str) -> None:
    """The same by newer engines, which also have CDI to switch on; since 28.2 it is on unless told otherwise."""
    try:
        folder = engines.docker(series)
    except engines.EngineError as error:
        pytest.skip(f"Docker {series} cannot be had here: {error}")
    node.execute("systemctl", "stop", "docker.socket", "docker.service")
    for program in ("dockerd", "docker-proxy"):
        docker.run("cp", str(folder / program), f"{node.node}:/usr/sbin/{program}")
    write(node, DAEMON_JSON, OPERATORS)
    node.execute("rm", "-rf", "/var/lib/kubegpu")
    node.execute("systemctl", "start", "docker.service")
    assert info(node)["ServerVersion"].startswith(f"{series}.")
    node.execute("docker", "run", "-d", "--runtime=runc", "--name", f"newer-{series}", images.BASE, "sleep", "infinity")
    state = ("docker", "inspect", "--format", "{{.State.Pid}} {{.State.StartedAt}}", f"newer-{series}")
    container, daemon = node.execute(*state), started(node)

    run = role(node)
    assert run.returncode == 0, run.output
    assert (info(node)["DefaultRuntime"], info(node)["Runtimes"]["nvidia"]["path"]) == (
        "nvidia",
        "/usr/bin/nvidia-container-runtime",
    )
    assert role(node).changed == 0
    # With a container that runs and no live-restore, CDI has to wait for leave to restart.
    by_default = cdi_folders(node)
    assert by_default == ([] if series == "26" else ["/etc/cdi", "/var/run/cdi"])
    run = role(node, docker_runtime_cdi=True)
    assert ("which reads it only when it starts" in flat(run)) == (not by_default), run.output
    assert json.loads(read(node))["features"] == {"cdi": True}
    assert cdi_folders(node) == by_default
    assert (node.execute(*state), started(node)) == (container, daemon)

    forget_starts(node)
    run = role(node, docker_runtime_cdi=True, docker_runtime_allow_restart="always")
    assert run.returncode == 0, run.output
    assert "/etc/cdi" in cdi_folders(node)
    assert (started(node) != daemon) == (not by_default)
    assert role(node, docker_runtime_cdi=True).changed == 0
    forget_starts(node)
    run = role(node, docker_runtime_state="absent", docker_runtime_allow_restart="always")
    assert (run.returncode, read(node)) == (0, OPERATORS), run.output
    assert (info(node)["DefaultRuntime"], "nvidia" in info(node)["Runtimes"]) == ("runc", False)
    assert cdi_folders(node) == by_default
