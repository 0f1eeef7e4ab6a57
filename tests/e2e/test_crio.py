"""A node whose kubelet uses a real CRI-O, set up as CRI-O's packages do it: runc, crun and conmon are not in PATH.

$KUBEGPU_CRIO names the program crio; without it nothing here is run. The pod "bystander" runs while something is done
to CRI-O, and must not notice.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster, docker, programs
from tests.sim.cluster.use import Handle, wait_for

pytestmark = pytest.mark.skipif(not os.environ.get(programs.CRIO), reason=f"{programs.CRIO} is not set")

SPEC = cluster.Spec("crio", gpus=2, runtime="crio")
DROP_IN = "/etc/crio/crio.conf.d/99-nvidia.toml"
TOOLKIT = "/etc/nvidia-container-runtime/config.toml"
SHIPPED = 'runtimes = ["runc", "crun"]'
RUNTIME = ("site.yml", "--tags", "container_toolkit,crio_runtime")
REFUSAL = "/etc/systemd/system/crio.service.d/refusal.conf"
OPERATOR = """[crio.runtime.runtimes.nvidia]
runtime_path = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
runtime_type = "oci"
monitor_path = "/usr/libexec/crio/conmon"
"""
UUID = re.compile(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Container = tuple[int, int, str]


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as made:
        yield made


@pytest.fixture(scope="module")
def before(machine: Handle) -> str:
    """The node as it was."""
    return snapshot(machine)


@pytest.fixture
def clean(machine: Handle, before: str) -> Iterator[None]:
    """However a test ends, the node is afterwards without our settings and the test's pods, and CRI-O runs."""
    yield
    machine.execute("rm", "-rf", DROP_IN, "/var/lib/kubegpu/runtime-config", REFUSAL)
    machine.execute("sh", "-c", f"test ! -e {TOOLKIT} || sed -i 's|^runtimes = .*|{SHIPPED}|' {TOOLKIT}")
    machine.execute("systemctl", "daemon-reload")
    machine.execute("systemctl", "restart", "crio")
    delete_pods(machine)


@pytest.fixture
def bystander(machine: Handle) -> Container:
    """A pod that runs before a test does something to CRI-O."""
    machine.apply(pods.gpu_pod("bystander", "exec sleep 86400", gpus=0))
    wait_for("the bystander running", lambda: phase(machine, "bystander") == "Running")
    return container(machine)


def snapshot(machine: Handle) -> str:
    """What a run could have changed: packages, and the content of /etc with its times."""
    packages = machine.execute("dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    files = machine.execute("find", "/etc", "/usr/local", "-xdev", "-type", "f", "-printf", "%p %s %T@\n")
    return packages + "\n".join(sorted(files.splitlines()))


def crio_files(machine: Handle) -> list[str]:
    """CRI-O's files in a snapshot."""
    return [line for line in snapshot(machine).splitlines() if line.startswith("/etc/crio/")]


def phase(machine: Handle, pod: str) -> str:
    return str(machine.get("pod", pod)["status"]["phase"])


def trouble(machine: Handle, pod: str) -> list[str]:
    """The kubelet's words on why a pod does not run."""
    uid = machine.get("pod", pod)["metadata"]["uid"]
    events = machine.get("events", f"--field-selector=involvedObject.uid={uid},type=Warning")["items"]
    return [event["message"] for event in events if event["reason"] in ("Failed", "FailedCreatePodSandBox")]


def run_pod(machine: Handle, name: str, gpus: int = 0, script: str = "exec sleep 86400") -> None:
    """Starts a pod and waits until it runs, or until the kubelet says that its sandbox cannot be made."""
    machine.apply(pods.gpu_pod(name, script, gpus))
    wait_for(f"the pod {name}", lambda: phase(machine, name) != "Pending" or trouble(machine, name))
    assert phase(machine, name) in ("Running", "Succeeded"), trouble(machine, name)


def delete_pods(machine: Handle) -> None:
    machine.kubectl("delete", "pods", "-l", "app=kubegpu-test", "--wait=true", "--grace-period=0", "--force")


def container(machine: Handle) -> Container:
    """The bystander as CRI-O and the kubelet have it: restarts, PID, start (proc(5), field 22 of stat)."""
    status = machine.get("pod", "bystander")["status"]["containerStatuses"][0]
    inspected = json.loads(machine.execute("crictl", "inspect", status["containerID"].removeprefix("cri-o://")))
    assert inspected["status"]["state"] == "CONTAINER_RUNNING", inspected["status"]
    pid = inspected["info"]["pid"]
    start = machine.execute("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    return status["restartCount"], pid, start


def daemon(machine: Handle) -> str:
    """The running CRI-O; "0" where none runs."""
    return machine.execute("systemctl", "show", "--property", "MainPID", "--value", "crio")


def starts(machine: Handle) -> None:
    """CRI-O starts with the files as they are; else its own words."""
    if not docker.succeeds("exec", machine.node, "systemctl", "restart", "crio"):
        pytest.fail(machine.execute("journalctl", "--unit", "crio", "--lines", "5", "--output", "cat"))
    machine.execute("crictl", "version")


def write(machine: Handle, path: str, text: str) -> None:
    """Writes a file on the node, and the folder that it is in."""
    machine.execute("sh", "-c", 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1"', "sh", path, text)


def refuse(machine: Handle) -> None:
    """Has CRI-O fail to start as long as a drop-in names the runtime, which no check of ours can see."""
    command = "! grep --quiet nvidia-container-runtime -r /etc/crio/crio.conf.d"
    write(machine, REFUSAL, f"[Service]\nExecStartPre=/bin/sh -c '{command}'\n")
    machine.execute("systemctl", "daemon-reload")


def shows_its_gpu(machine: Handle, pod: str) -> None:
    """Runs a pod that asks for one GPU, names no RuntimeClass, and sees one GPU of the node."""
    run_pod(machine, pod, 1, "nvidia-smi -L; exec sleep 86400")
    wait_for("nvidia-smi in the pod", lambda: UUID.search(machine.kubectl("logs", pod)))
    (seen,) = UUID.findall(machine.kubectl("logs", pod))
    assert seen in machine.execute("nvidia-smi", "-L")


def test_pods_run_on_a_node_with_crio(machine: Handle, before: str, clean: None, bystander: Container) -> None:
    status = machine.get("node", machine.node)["status"]
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("cri-o://")
    for program in ("crun", "runc", "conmon"):
        assert not docker.succeeds("exec", machine.node, "sh", "-c", f"command -v {program}")


def test_check_mode_changes_nothing_on_an_untouched_node(machine: Handle, before: str) -> None:
    run = machine.playbook("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert run.changed > 0, run.output
    assert snapshot(machine) == before


def test_crio_starts_with_what_a_run_wrote_that_did_not_restart_it(machine: Handle, clean: None) -> None:
    run = machine.playbook(*RUNTIME, "-e", "crio_runtime_allow_restart=never")
    assert run.returncode == 0, run.output
    starts(machine)


def test_a_file_with_which_crio_would_not_start_is_not_written(
    machine: Handle, clean: None, bystander: Container
) -> None:
    files, old = crio_files(machine), daemon(machine)
    run = machine.playbook(*RUNTIME, "-e", "crio_runtime_monitor_path=/nowhere/conmon")
    assert run.returncode != 0, run.output
    assert "monitor_path of the runtime nvidia, /nowhere/conmon, does not exist" in run.output
    assert daemon(machine) == old
    assert crio_files(machine) == files
    assert container(machine) == bystander


@pytest.mark.parametrize("earlier", [False, True], ids=["this-run", "an-earlier-run"])
def test_a_file_with_which_crio_does_not_start_is_taken_back(
    machine: Handle, clean: None, bystander: Container, earlier: bool
) -> None:
    files = crio_files(machine)
    if earlier:
        run = machine.playbook(*RUNTIME, "-e", "crio_runtime_allow_restart=never")
        assert run.returncode == 0, run.output
        assert crio_files(machine) != files
    refuse(machine)
    run = machine.playbook(*RUNTIME)
    assert run.returncode != 0, run.output
    assert f"{DROP_IN} is again as CRI-O last ran with it" in run.output
    assert daemon(machine) != "0"
    assert crio_files(machine) == files
    assert container(machine) == bystander


def test_pods_run_before_and_after_nvidias_runtime_became_the_default(
    machine: Handle, clean: None, bystander: Container
) -> None:
    old = daemon(machine)
    run = machine.playbook(*RUNTIME)
    assert run.returncode == 0, run.output
    assert daemon(machine) not in (old, "0")
    assert container(machine) == bystander
    run_pod(machine, "after")
    assert container(machine) == bystander


def test_the_gpu_operators_runtime_is_kept(machine: Handle, clean: None) -> None:
    write(machine, DROP_IN, OPERATOR)
    files = crio_files(machine)
    for playbook in ("site.yml", "remove.yml"):
        run = machine.playbook(playbook, "--tags", "crio_runtime", "-e", "crio_runtime_set_default=false")
        assert run.returncode == 0, run.output
        assert re.search(r"was\s+made\s+by\s+somebody\s+else", run.output), run.output
        assert crio_files(machine) == files


def test_the_whole_chain(machine: Handle, bystander: Container) -> None:
    old = daemon(machine)
    run = machine.playbook("site.yml")
    assert run.returncode == 0, run.output
    assert daemon(machine) not in (old, "0")
    assert machine.gpus() == 2
    assert container(machine) == bystander
    shows_its_gpu(machine, "gpu")
    again = machine.playbook("site.yml")
    assert (again.returncode, again.changed) == (0, 0), again.output


def test_a_pod_gets_its_gpu_from_the_kubelet_where_the_default_runtime_is_crios_own(machine: Handle) -> None:
    config = {"version": "v1", "flags": {"plugin": {"deviceListStrategy": "cdi-cri"}}}
    extra = {"crio_runtime_set_default": False, "container_toolkit_cdi": True, "device_plugin_config": config}
    run = machine.playbook("site.yml", "-e", json.dumps(extra))
    assert run.returncode == 0, run.output
    assert "default_runtime" not in machine.execute("cat", DROP_IN)
    shows_its_gpu(machine, "cdi")


def test_absent_takes_everything_back_and_crio_starts(machine: Handle, before: str) -> None:
    running = container(machine)
    machine.kubectl("delete", "pod", "gpu", "cdi", "--grace-period=0", "--force")
    run = machine.playbook("remove.yml")
    assert run.returncode == 0, run.output
    assert crio_files(machine) == [line for line in before.splitlines() if line.startswith("/etc/crio/")]
    assert SHIPPED in machine.execute("cat", TOOLKIT).splitlines()
    starts(machine)
    assert container(machine) == running
    run_pod(machine, "after")
