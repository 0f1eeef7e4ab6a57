"""A node whose kubelet uses a real CRI-O, set up as CRI-O's packages do it: crun and conmon are not in PATH.

$KUBEGPU_CRIO names the program crio; without it nothing here is run. The pod "bystander" is there from the first test to
the last: whatever is done to CRI-O, its process lives on.
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
CRUN = "/usr/libexec/crio/crun"
MONITOR = ("-e", "crio_runtime_monitor_path=/usr/libexec/crio/conmon")
TOOLKIT = "/etc/nvidia-container-runtime/config.toml"
UUID = re.compile(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

lacking = pytest.mark.xfail(strict=True, reason="Container runtimes: what real files and real engines taught")


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as made:
        run_pod(made, "bystander")
        yield made


@pytest.fixture(scope="module")
def before(machine: Handle) -> str:
    """The node as it was."""
    return snapshot(machine)


@pytest.fixture(scope="module")
def bystander(machine: Handle) -> tuple[str, str]:
    return process(machine)


@pytest.fixture
def taken_back(machine: Handle, before: str) -> Iterator[None]:
    """However a test ends, the node is afterwards without our drop-in, and CRI-O runs."""
    yield
    delete_pods(machine)
    machine.execute("rm", "-rf", DROP_IN, "/var/lib/kubegpu/runtime-config")
    machine.execute("systemctl", "restart", "crio")
    wait_for("CRI-O", lambda: docker.succeeds("exec", machine.node, "crictl", "version"))


def snapshot(machine: Handle) -> str:
    """What a run could have changed: packages, and the content of /etc with its times."""
    packages = machine.execute("dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    files = machine.execute("find", "/etc", "/usr/local", "-xdev", "-type", "f", "-printf", "%p %s %T@\n")
    return packages + "\n".join(sorted(files.splitlines()))


def configuration(machine: Handle) -> str:
    """What CRI-O reads, with its times."""
    return machine.execute("find", "/etc/crio", "-printf", "%p %s %T@\n")


def phase(machine: Handle, pod: str) -> str:
    return str(machine.get("pod", pod)["status"]["phase"])


def trouble(machine: Handle, pod: str) -> list[str]:
    """The kubelet's words on why a pod does not run."""
    events = machine.get("events", f"--field-selector=involvedObject.name={pod},type=Warning")["items"]
    return [event["message"] for event in events]


def run_pod(machine: Handle, name: str, gpus: int = 0, script: str = "exec sleep 86400") -> None:
    """Starts a pod and waits until it runs, or until the kubelet says that its sandbox cannot be made."""
    machine.apply(pods.gpu_pod(name, script, gpus))
    wait_for(f"the pod {name}", lambda: phase(machine, name) != "Pending" or trouble(machine, name))
    assert phase(machine, name) in ("Running", "Succeeded"), trouble(machine, name)


def delete_pods(machine: Handle) -> None:
    """All pods of a test but the bystander."""
    names = machine.get("pods", "-l", "app=kubegpu-test")["items"]
    for name in (item["metadata"]["name"] for item in names):
        if name != "bystander":
            machine.kubectl("delete", "pod", name, "--wait=true", "--grace-period=0", "--force")


def process(machine: Handle) -> tuple[str, str]:
    """The first process of the bystander: PID and start (proc(5), field 22 of stat)."""
    status = machine.get("pod", "bystander")["status"]["containerStatuses"][0]
    inspected = machine.execute("crictl", "inspect", status["containerID"].removeprefix("cri-o://"))
    pid = str(json.loads(inspected)["info"]["pid"])
    return pid, machine.execute("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()[19]


def daemon(machine: Handle) -> str:
    """The running CRI-O; "0" where none runs."""
    return machine.execute("systemctl", "show", "--property", "MainPID", "--value", "crio")


def starts(machine: Handle) -> None:
    """CRI-O starts with the files as they are; else its own words."""
    if not docker.succeeds("exec", machine.node, "systemctl", "restart", "crio"):
        pytest.fail(machine.execute("journalctl", "--unit", "crio", "--lines", "5", "--output", "cat"))
    machine.execute("crictl", "version")


def test_pods_run_on_a_node_with_crio(machine: Handle, before: str, bystander: tuple[str, str]) -> None:
    status = machine.get("node", machine.node)["status"]
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("cri-o://")
    for program in ("crun", "runc", "conmon"):
        assert not docker.succeeds("exec", machine.node, "sh", "-c", f"command -v {program}")


def test_check_mode_changes_nothing_on_an_untouched_node(machine: Handle, before: str) -> None:
    run = machine.playbook("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert run.changed > 0, run.output
    assert snapshot(machine) == before


@lacking
def test_a_default_run_takes_the_node_to_schedulable_gpus(machine: Handle, taken_back: None) -> None:
    run = machine.playbook("site.yml")
    assert run.returncode == 0, run.output
    assert machine.gpus() == 2


@lacking
def test_crio_starts_with_what_a_run_wrote_that_did_not_restart_it(machine: Handle, taken_back: None) -> None:
    run = machine.playbook("site.yml", "--tags", "crio_runtime", "-e", "crio_runtime_allow_restart=never")
    if run.returncode == 0:  # a run that refuses leaves nothing that would keep CRI-O from its start
        machine.execute("test", "-e", DROP_IN)
    starts(machine)


def test_a_file_with_which_crio_does_not_start_is_taken_back(machine: Handle, bystander: tuple[str, str]) -> None:
    files = configuration(machine)
    run = machine.playbook("site.yml", "--tags", "crio_runtime", "-e", "crio_runtime_monitor_path=/nowhere/conmon")
    assert run.returncode != 0, run.output
    assert "/nowhere/conmon" in run.output, "CRI-O's own words"
    assert daemon(machine) != "0"
    assert [line for line in configuration(machine).splitlines() if "/crio.conf.d " not in line] == [
        line for line in files.splitlines() if "/crio.conf.d " not in line
    ]
    assert process(machine) == bystander
    starts(machine)


def test_containers_live_through_the_restart(machine: Handle, bystander: tuple[str, str]) -> None:
    old = daemon(machine)
    role = ("site.yml", "--tags", "container_toolkit,crio_runtime", *MONITOR)
    run = machine.playbook(*role)
    assert run.returncode == 0, run.output
    assert daemon(machine) not in (old, "0")
    assert process(machine) == bystander
    again = machine.playbook(*role)
    assert (again.returncode, again.changed) == (0, 0), again.output


@lacking
def test_a_pod_without_a_gpu_runs_in_the_default_runtime(machine: Handle) -> None:
    assert 'default_runtime = "nvidia"' in machine.execute("crio", "config")
    try:
        run_pod(machine, "plain")
    finally:
        delete_pods(machine)


@lacking
def test_a_pod_with_a_gpu_runs(machine: Handle) -> None:
    try:
        run = machine.playbook("site.yml", "--skip-tags", "verify", *MONITOR, "-e", "device_plugin_rollout_timeout=30")
        assert run.returncode == 0, run.output
        run_pod(machine, "gpu", gpus=1)
    finally:
        delete_pods(machine)


def test_the_whole_chain_once_the_toolkit_knows_where_crun_is(machine: Handle, bystander: tuple[str, str]) -> None:
    """What the faults above leave to the operator: the monitor's path, and crun's in the toolkit's file."""
    machine.execute("nvidia-ctk", "config", "--in-place", "--set", f"nvidia-container-runtime.runtimes={CRUN}")
    run = machine.playbook("site.yml", *MONITOR)
    assert run.returncode == 0, run.output
    assert machine.gpus() == 2
    assert process(machine) == bystander
    run_pod(machine, "gpu", gpus=1, script="nvidia-smi -L; exec sleep 86400")
    wait_for("nvidia-smi in the pod", lambda: UUID.search(machine.kubectl("logs", "gpu")))
    seen = UUID.findall(machine.kubectl("logs", "gpu"))
    assert len(seen) == 1
    assert seen[0] in machine.execute("nvidia-smi", "-L")
    again = machine.playbook("site.yml", *MONITOR)
    assert (again.returncode, again.changed) == (0, 0), again.output
    delete_pods(machine)


def test_absent_takes_everything_back(machine: Handle, before: str, bystander: tuple[str, str]) -> None:
    run = machine.playbook("remove.yml", *MONITOR)
    assert run.returncode == 0, run.output
    found = snapshot(machine)
    assert [line for line in found.splitlines() if "/etc/crio" in line] == [
        line for line in before.splitlines() if "/etc/crio" in line
    ]
    starts(machine)
    assert process(machine) == bystander
    run_pod(machine, "after")
