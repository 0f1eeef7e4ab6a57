"""The role containerd_runtime against real containerds, 1.6 of the node and others where they can be fetched.

Each version runs in the same node, one after the other, with a container that must live through everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import tomllib

from tests.e2e.nodes import fresh_cluster
from tests.engines import debian as engines
from tests.sim.cluster import cluster, docker, images
from tests.sim.cluster.use import Handle, PlaybookRun, wait_for

SPEC = cluster.Spec("ctd", gpus=1, kubernetes=False)
MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"
RUNTIME = "/usr/bin/nvidia-container-runtime"

# The operator's file: settings at several depths, comments, and a cgroup driver that must not get lost.
OPERATORS = """\
# our containerd, do not touch
version = VERSION
IMPORTS
[PLUGIN]
  max_container_log_line_size = 4321 # long lines

  [PLUGIN.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [PLUGIN.containerd.runtimes.runc.options]
      SystemdCgroup = true
"""


@dataclass(frozen=True)
class Case:
    """A containerd series with a main file of some config version, with or without an import of drop-ins."""

    series: str
    version: int
    imports: bool

    @property
    def plugin(self) -> str:
        return {2: 'plugins."io.containerd.grpc.v1.cri"', 3: "plugins.'io.containerd.cri.v1.runtime'"}[self.version]

    @property
    def text(self) -> str:
        imports = 'imports = ["/etc/containerd/conf.d/*.toml"]' if self.imports else ""
        text = OPERATORS.replace("VERSION", str(self.version)).replace("IMPORTS", imports)
        return text.replace("PLUGIN", self.plugin)

    @property
    def written(self) -> str:
        """The file that the runtime belongs into."""
        return DROP_IN if self.imports and self.series.startswith("2") else MAIN


CASES = [
    Case("1.6", 2, False),
    pytest.param(Case("1.7", 2, True), marks=pytest.mark.matrix),
    Case("2", 3, True),
    pytest.param(Case("2", 2, True), marks=pytest.mark.matrix),
]


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    """A node without Kubernetes that has the toolkit."""
    with fresh_cluster(SPEC) as handle:
        run = handle.playbook("site.yml", "--tags", "container_toolkit")
        assert run.returncode == 0, run.output
        with images.archive(images.BASE).open("rb") as stream:
            docker.run("exec", "-i", handle.node, "ctr", "-n", "k8s.io", "images", "import", "-", stdin=stream)
        yield handle


def install(machine: Handle, series: str) -> None:
    """Makes the node's containerd one of the series, as an upgrade of the package would."""
    if machine.execute("containerd", "--version").find(f" {series}.") >= 0:
        return
    try:
        folder = engines.containerd(series)
    except engines.EngineError as error:
        pytest.skip(f"containerd {series} cannot be had here: {error}")
    machine.execute("systemctl", "stop", "containerd")
    for program in ("containerd", "containerd-shim-runc-v2", "ctr"):
        docker.run("cp", str(folder / program), f"{machine.node}:/usr/bin/{program}")
    machine.execute("systemctl", "start", "containerd")


@pytest.fixture(params=CASES, ids=lambda case: f"{case.series}-v{case.version}{'-imports' * case.imports}")
def case(request: pytest.FixtureRequest, machine: Handle) -> Iterator[Case]:
    """The containerd and its operator's file, without us."""
    wanted: Case = request.param
    install(machine, wanted.series)
    put(machine, MAIN, wanted.text)
    machine.execute("rm", "-rf", "/etc/containerd/conf.d", "/var/lib/kubegpu")
    machine.execute("systemctl", "restart", "containerd")
    yield wanted


@pytest.fixture
def container(machine: Handle, case: Case) -> Iterator[tuple[str, str]]:
    """A running container of this containerd: PID and start time of its process."""
    image = f"docker.io/{images.BASE}"
    machine.execute("ctr", "-n", "k8s.io", "run", "--detach", image, "survivor", "sleep", "3600")
    yield survivor(machine)
    machine.execute("ctr", "-n", "k8s.io", "task", "kill", "-s", "KILL", "survivor")
    wait_for("the container's end", lambda: "STOPPED" in machine.execute("ctr", "-n", "k8s.io", "task", "ls"))
    machine.execute("ctr", "-n", "k8s.io", "task", "rm", "survivor")
    machine.execute("ctr", "-n", "k8s.io", "container", "rm", "survivor")


def survivor(machine: Handle) -> tuple[str, str]:
    rows = [row.split() for row in machine.execute("ctr", "-n", "k8s.io", "task", "ls").splitlines()]
    ((_, pid, state),) = [row for row in rows if row[0] == "survivor"]
    assert state == "RUNNING"
    return pid, machine.execute("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()[19]


def put(machine: Handle, path: str, text: str) -> None:
    local = machine.folder / "put"
    local.write_text(text)
    # not docker cp, which does not see a tmpfs
    with local.open("rb") as stream:
        docker.run("exec", "-i", machine.node, "sh", "-c", f"cat > {path}", stdin=stream)


def read(machine: Handle, path: str) -> str:
    # not through execute, which strips
    return machine.execute("sh", "-c", f"cat {path}; echo .")[:-1]


def there(machine: Handle, path: str) -> bool:
    return docker.succeeds("exec", machine.node, "test", "-e", path)


def role(machine: Handle, *arguments: str) -> PlaybookRun:
    return machine.playbook("site.yml", "-e", "kubegpu_runtime=containerd", "--tags", "containerd_runtime", *arguments)


def settings(machine: Handle) -> dict[tuple[str, ...], Any]:
    """What containerd makes of its files: path of keys -> value, without what is at its zero value."""
    found: dict[tuple[str, ...], Any] = {}

    def walk(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        elif value not in ("", 0, [], None) and path not in (("imports",),):
            found[path] = value

    walk(tomllib.loads(machine.execute("containerd", "config", "dump")), ())
    return found


@contextmanager
def refusing(machine: Handle) -> Iterator[None]:
    """A containerd whose unit does not start with our runtime in a file."""
    folder = "/run/systemd/system/containerd.service.d"
    machine.execute("mkdir", "-p", folder)
    refuse = f"[Service]\nExecStartPre=/bin/sh -c '! grep -qr {RUNTIME} /etc/containerd --include=*.toml'\n"
    put(machine, f"{folder}/refuse.conf", refuse)
    machine.execute("systemctl", "daemon-reload")
    try:
        yield
    finally:
        machine.execute("rm", "-r", folder)
        machine.execute("systemctl", "daemon-reload")


def daemon(machine: Handle) -> str:
    return machine.execute("systemctl", "show", "--property", "MainPID", "--value", "containerd")


def cri_works(machine: Handle) -> bool:
    rows = [row.split() for row in machine.execute("ctr", "plugins", "ls").splitlines()]
    return any(row[1] in ("cri", "runtime") and row[-1] == "ok" for row in rows if len(row) > 2)


def test_present_and_absent_while_a_container_runs(machine: Handle, case: Case, container: tuple[str, str]) -> None:
    before, old_daemon = settings(machine), daemon(machine)
    run = role(machine)
    assert run.returncode == 0, run.output
    assert run.changed > 0
    assert there(machine, case.written)
    assert daemon(machine) != old_daemon
    assert survivor(machine) == container
    assert cri_works(machine)

    after = settings(machine)
    plugin = {"1": "io.containerd.grpc.v1.cri", "2": "io.containerd.cri.v1.runtime"}[case.series[0]]
    prefix = ("plugins", plugin, "containerd")
    ours = {path: value for path, value in after.items() if path[:5] == (*prefix, "runtimes", "nvidia")}
    assert ours[(*prefix, "runtimes", "nvidia", "options", "BinaryName")] == RUNTIME
    assert ours[(*prefix, "runtimes", "nvidia", "options", "SystemdCgroup")] is True
    assert after[(*prefix, "default_runtime_name")] == "nvidia"
    # SystemdCgroup of runc and every other setting
    default = (*prefix, "default_runtime_name")
    assert {path: value for path, value in after.items() if path not in ours and path != default} == {
        path: value for path, value in before.items() if path != default
    }
    assert before[(*prefix, "runtimes", "runc", "options", "SystemdCgroup")] is True

    again = role(machine)
    assert (again.returncode, again.changed) == (0, 0), again.output
    gone = role(machine, "-e", "containerd_runtime_state=absent")
    assert gone.returncode == 0, gone.output
    assert read(machine, MAIN) == case.text
    assert not there(machine, DROP_IN)
    assert settings(machine) == before
    assert survivor(machine) == container
    nothing = role(machine, "-e", "containerd_runtime_state=absent")
    assert (nothing.returncode, nothing.changed) == (0, 0), nothing.output


def expect_roll_back(
    machine: Handle, case: Case, container: tuple[str, str], before: dict[tuple[str, ...], Any], words: str
) -> None:
    """A run while containerd does not start with our file fails with these words, and all is as it was before."""
    with refusing(machine):
        run = role(machine)
        assert run.returncode != 0
        assert words in run.output
        assert "containerd runs." in run.output
        assert read(machine, MAIN) == case.text
        assert not there(machine, DROP_IN)
        assert cri_works(machine)
        assert settings(machine) == before
        assert survivor(machine) == container


@pytest.mark.parametrize("case", CASES[:3], indirect=True, ids=lambda case: case.series)
def test_a_containerd_that_will_not_start_is_rolled_back(
    machine: Handle, case: Case, container: tuple[str, str]
) -> None:
    before = settings(machine)
    expect_roll_back(machine, case, container, before, "did not accept the configuration")


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], indirect=True, ids=lambda case: case.series)
def test_a_run_that_died_right_after_it_removed_the_file_is_completed(machine: Handle, case: Case) -> None:
    if case.written == MAIN:
        machine.execute("rm", MAIN)  # so that absent removes the file again
        machine.execute("systemctl", "restart", "containerd")
    assert role(machine).returncode == 0
    assert there(machine, case.written)
    # what a run leaves behind that is killed between the file and the restart
    died = role(machine, "-e", "containerd_runtime_state=absent", "-e", "containerd_runtime_allow_restart=never")
    assert died.returncode == 0, died.output
    assert not there(machine, case.written)
    old_daemon = daemon(machine)
    run = role(machine, "-e", "containerd_runtime_state=absent")
    assert run.returncode == 0, run.output
    assert daemon(machine) != old_daemon
    again = role(machine, "-e", "containerd_runtime_state=absent")
    assert (again.returncode, again.changed) == (0, 0), again.output


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], indirect=True, ids=lambda case: case.series)
def test_what_an_earlier_run_wrote_is_rolled_back(machine: Handle, case: Case, container: tuple[str, str]) -> None:
    before = settings(machine)
    first = role(machine, "-e", "containerd_runtime_allow_restart=never")
    assert first.returncode == 0, first.output
    assert there(machine, case.written)
    expect_roll_back(machine, case, container, before, f"{case.written}: again what containerd ran with before")


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], indirect=True, ids=lambda case: case.series)
def test_dockers_own_file_switches_cri_off(machine: Handle, case: Case) -> None:
    text = '#   Docker\n\ndisabled_plugins = ["cri"]\n\n#root = "/var/lib/containerd"\n'
    put(machine, MAIN, text)
    machine.execute("systemctl", "restart", "containerd")
    old_daemon = daemon(machine)
    refused = role(machine)
    assert refused.returncode != 0
    assert "disabled_plugins (line 3) switches CRI off" in refused.output
    assert (read(machine, MAIN), daemon(machine)) == (text, old_daemon)
    run = role(machine, "-e", "containerd_runtime_enable_cri=true")
    assert run.returncode == 0, run.output
    assert cri_works(machine)
    gone = role(machine, "-e", "containerd_runtime_state=absent")
    assert gone.returncode == 0, gone.output
    assert read(machine, MAIN) == text


@pytest.mark.parametrize("case", [CASES[2]], indirect=True, ids=lambda case: case.series)
def test_the_engine_that_runs_is_asked_and_not_one_in_path(machine: Handle, case: Case) -> None:
    """containerd 2.x from its archive in /usr/local/bin, beside what a package of 1.6 left in /usr/bin."""
    unit = "/run/systemd/system/containerd.service.d"
    machine.execute("sh", "-c", "mv /usr/bin/containerd /usr/bin/containerd-shim-runc-v2 /usr/bin/ctr /usr/local/bin/")
    try:
        old = engines.containerd("1.6")
        docker.run("cp", str(old / "containerd"), f"{machine.node}:/usr/bin/containerd")
        machine.execute("mkdir", "-p", unit)
        put(machine, f"{unit}/place.conf", "[Service]\nExecStart=\nExecStart=/usr/local/bin/containerd\n")
        machine.execute("systemctl", "daemon-reload")
        machine.execute("systemctl", "restart", "containerd")
        run = role(machine)
        assert run.returncode == 0, run.output
        assert there(machine, case.written)
        gone = role(machine, "-e", "containerd_runtime_state=absent")
        assert gone.returncode == 0, gone.output
    finally:
        machine.execute("rm", "-rf", unit)
        machine.execute("sh", "-c", "cd /usr/local/bin && mv -f containerd containerd-shim-runc-v2 ctr /usr/bin/")
        machine.execute("systemctl", "daemon-reload")
        machine.execute("systemctl", "restart", "containerd")


def test_crio_gets_its_drop_in_on_a_node_where_it_does_not_run_yet(machine: Handle) -> None:
    """The files only: Debian has no CRI-O that could be started here."""
    drop_in = "/etc/crio/crio.conf.d/99-nvidia.toml"
    arguments = ("site.yml", "-e", "kubegpu_runtime=crio", "--tags", "crio_runtime")
    dry = machine.playbook(*arguments, "--check", "--diff")
    assert dry.returncode == 0, dry.output
    assert dry.changed > 0
    assert not there(machine, "/etc/crio")
    run = machine.playbook(*arguments)
    assert run.returncode == 0, run.output
    assert tomllib.loads(read(machine, drop_in)) == {
        "crio": {
            "runtime": {
                "default_runtime": "nvidia",
                "runtimes": {"nvidia": {"runtime_path": RUNTIME, "runtime_type": "oci"}},
            }
        }
    }
    again = machine.playbook(*arguments)
    assert (again.returncode, again.changed) == (0, 0), again.output
    gone = machine.playbook(*arguments, "-e", "crio_runtime_state=absent")
    assert gone.returncode == 0, gone.output
    assert machine.execute("find", "/etc/crio", "-type", "f") == ""
