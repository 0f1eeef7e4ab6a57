"""From a bare node to a running GPU pod, and what happens to it afterwards.

The tests build on each other in the order of this file, as the days of a node do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster, docker
from tests.sim.cluster.use import ROOT, Handle, wait_for

SPEC = cluster.Spec("e2e", gpus=2)
RESOURCE = "nvidia.com/gpu"
DAEMON_JSON = "/etc/docker/daemon.json"
IMAGE = pods.IMAGE.removeprefix("docker.io/")
UUID = re.compile(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def node() -> Iterator[Handle]:
    """A fresh node with two GPUs and a Kubernetes, as a person finds it before the first run of site.yml."""
    with fresh_cluster(SPEC) as handle:
        yield handle


def phase(node: Handle, pod: str) -> str:
    return str(node.get("pod", pod)["status"]["phase"])


def delete_pods(node: Handle) -> None:
    node.kubectl("delete", "pods", "-l", "app=kubegpu-test", "--wait=true")


def gpu_uuids(node: Handle) -> list[str]:
    return UUID.findall(node.execute("nvidia-smi", "-L"))


def snapshot(node: Handle) -> str:
    """What site.yml could have changed on the node: packages, and the content of /etc with its times."""
    packages = node.execute("dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    files = node.execute("find", "/etc", "/usr/local", "-xdev", "-type", "f", "-printf", "%p %s %T@\n")
    return packages + "\n".join(sorted(files.splitlines()))


def process(node: Handle, pod: str) -> tuple[str, str, str, int]:
    """Who runs a pod: its container's id, first process, that one's start (proc(5), field 22 of stat), restarts."""
    status = node.get("pod", pod)["status"]["containerStatuses"][0]
    container = status["containerID"].removeprefix("containerd://")
    tasks = dict(line.split()[:2] for line in node.execute("ctr", "-n", "k8s.io", "tasks", "ls").splitlines()[1:])
    pid = tasks[container]
    started = node.execute("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    return container, pid, started, status["restartCount"]


def test_check_mode_goes_through_on_an_untouched_node_and_changes_nothing(node: Handle) -> None:
    before = snapshot(node)
    run = node.playbook("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert run.changed > 0, run.output
    assert snapshot(node) == before
    assert node.gpus("capacity") == 0


def test_site_takes_the_node_from_driver_to_schedulable_gpus(node: Handle) -> None:
    node.apply(pods.gpu_pod("bystander", "exec sleep 86400", gpus=0))
    wait_for("the pod bystander running", lambda: phase(node, "bystander") == "Running")
    bystander, containerd = process(node, "bystander"), node.execute("pgrep", "-x", "containerd")
    run = node.playbook("site.yml")
    assert run.returncode == 0, run.output
    assert node.gpus("capacity") == 2
    assert node.gpus("allocatable") == 2
    # containerd was restarted for its new runtime; the pod did not notice
    assert node.execute("pgrep", "-x", "containerd") != containerd
    assert process(node, "bystander") == bystander
    node.kubectl("delete", "pod", "bystander")


def test_a_second_run_changes_nothing_and_is_short(node: Handle) -> None:
    run = node.playbook("site.yml")
    assert run.returncode == 0, run.output
    assert run.changed == 0, run.output
    # each is a round trip to the node, or to the cluster; the proof at the end comes on top
    ran = [task for task in re.split(r"\n(?=TASK \[)", run.output) if f"ok: [{node.node}" in task]
    assert len([task for task in ran if not task.startswith("TASK [kubegpu.nvidia.verify")]) <= 30, run.output


def test_the_tarball_installs_elsewhere_and_finds_nothing_to_do(node: Handle, tmp_path: Path) -> None:
    galaxy = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection"]
    environment = {key: value for key, value in os.environ.items() if key != "ANSIBLE_CONFIG"}
    build = [*galaxy, "build", str(ROOT), "--output-path", str(tmp_path)]
    subprocess.run(build, cwd=tmp_path, env=environment, check=True)
    (tarball,) = tmp_path.glob("kubegpu-nvidia-*.tar.gz")
    install = [*galaxy, "install", "--offline", "--no-deps", "-p", str(tmp_path), str(tarball)]
    subprocess.run(install, cwd=tmp_path, env=environment, check=True)
    # nothing to do also means: the daemon's image has the same tag from the same content
    run = node.playbook("kubegpu.nvidia.site", collections=tmp_path)
    assert run.returncode == 0, run.output
    assert run.changed == 0, run.output


def test_check_mode_after_the_fact_announces_nothing(node: Handle) -> None:
    run = node.playbook("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert run.changed == 0, run.output


def test_every_part_runs_by_itself(node: Handle) -> None:
    parts = ("driver_check", "container_toolkit", "docker_runtime", "containerd_runtime", "device_plugin", "verify")
    arguments = [
        *(("site.yml", "--tags", part, "--limit", node.node) for part in parts),
        ("verify.yml", "--check"),
        ("remove.yml", "--check", "--limit", node.node, "--tags", "docker_runtime"),
    ]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda words: node.playbook(*words), arguments))
    for words, run in zip(arguments, runs, strict=True):
        assert run.returncode == 0, run.output
        assert words[0] == "remove.yml" or run.changed == 0, run.output
        assert sum(counters["ok"] for counters in run.stats.values()) > 1, run.output


def test_a_pod_gets_its_gpu_through_the_kubelet_from_our_daemon(node: Handle) -> None:
    script = f"ls /dev/nvidia[0-9]*; {pods.SHOW_GPUS}"
    node.apply(pods.gpu_pod("one", script))
    wait_for("the pod one running", lambda: phase(node, "one") == "Running")
    wait_for("nvidia-smi in the pod", lambda: "UUID" in node.kubectl("logs", "one"))
    log = node.kubectl("logs", "one")

    # the kubelet's own record says which device its Allocate call gave to which pod
    allocated = node.allocated("one")
    assert list(allocated) == [RESOURCE]
    given = allocated[RESOURCE]
    assert len(given) == 1

    # … and the process has it: as a device node, and as the only GPU that the driver shows
    assert pods.gpus_shown(log) == given
    minor = gpu_uuids(node).index(given[0])
    assert re.findall(r"^/dev/nvidia\d+$", log, re.MULTILINE) == [f"/dev/nvidia{minor}"]


def test_a_pod_with_a_gpu_reaches_no_socket_of_the_host(node: Handle) -> None:
    plugins = "/var/lib/kubelet/device-plugins"
    # the kubelet's own and the plugin's; to connect one has to be allowed to write
    on_node = node.execute("find", plugins, "-type", "s", "-printf", "%f %m %u\n").splitlines()
    assert len(on_node) >= 2
    assert [line for line in on_node if not re.fullmatch(r"\S+ [0-7][0145][0145] root", line)] == []
    look = "find / -type s -not -path '/proc/*'; true"
    sockets = node.kubectl("exec", "one", "--", "sh", "-c", look).splitlines()
    # the toolkit brings those of the driver's daemons, where they run
    assert [path for path in sockets if not re.match(r"(/var)?/run/nvidia-", path)] == []
    listening = node.kubectl("exec", "one", "--", "cat", "/proc/net/unix")
    assert "device-plugins" not in listening


def test_with_all_gpus_taken_a_further_pod_stays_pending(node: Handle) -> None:
    node.apply(pods.gpu_pod("two", "exec sleep 600"))
    wait_for("the pod two running", lambda: phase(node, "two") == "Running")
    node.apply(pods.gpu_pod("three", "exec sleep 600"))

    def unschedulable() -> bool:
        conditions = node.get("pod", "three")["status"].get("conditions", [])
        return any(item.get("reason") == "Unschedulable" and RESOURCE in item["message"] for item in conditions)

    wait_for("the scheduler's verdict", unschedulable)
    assert phase(node, "three") == "Pending"
    node.kubectl("delete", "pod", "one")
    wait_for("the pod three running once a GPU is free", lambda: phase(node, "three") == "Running")
    delete_pods(node)


def test_a_pod_that_asks_for_both_gpus_sees_both(node: Handle) -> None:
    node.apply(pods.gpu_pod("both", "nvidia-smi -L", gpus=2))
    wait_for("the pod both", lambda: phase(node, "both") == "Succeeded")
    assert sorted(UUID.findall(node.kubectl("logs", "both"))) == sorted(gpu_uuids(node))
    delete_pods(node)


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        pytest.param(["--gpus", "all"], 2, id="gpus-all"),
        pytest.param(["--gpus", "1"], 1, id="gpus-1"),
        pytest.param(["--runtime=nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=1"], 1, id="runtime-nvidia"),
        pytest.param(["-e", "NVIDIA_VISIBLE_DEVICES=all"], 2, id="default-runtime"),
    ],
)
def test_docker_on_the_node_hands_gpus_to_containers(node: Handle, options: list[str], seen: int) -> None:
    output = node.execute("docker", "run", "--rm", *options, IMAGE, "nvidia-smi", "-L")
    assert len(UUID.findall(output)) == seen, output


def plugin_pod(node: Handle) -> dict[str, Any]:
    (pod,) = node.get("pods", "-n", "nvidia-device-plugin")["items"]
    return dict(pod)


def registrations(node: Handle) -> int:
    log = node.kubectl("logs", "-n", "nvidia-device-plugin", plugin_pod(node)["metadata"]["name"])
    return log.count("event=registered")


def test_allocatable_comes_back_by_itself_after_a_kubelet_restart(node: Handle) -> None:
    before, registered = plugin_pod(node), registrations(node)
    node.execute("systemctl", "restart", "kubelet")
    # The node's status still shows the GPUs of before, but a kubelet that starts anew has no device until the daemon
    # has registered again, and refuses GPU pods that it is given in between.
    wait_for("the daemon registered with the new kubelet", lambda: registrations(node) > registered)
    wait_for("allocatable after the restart", lambda: node.gpus() == 2)
    node.apply(pods.gpu_pod("after-restart", "nvidia-smi -L"))
    wait_for("a GPU pod after the restart", lambda: phase(node, "after-restart") == "Succeeded")
    delete_pods(node)
    after = plugin_pod(node)
    # a new kubelet deletes our socket before it listens: the daemon has no reason to register twice
    assert registrations(node) == registered + 1
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in (before, after)]
    assert restarts[0] == restarts[1]


def test_an_xid_of_the_application_leaves_the_gpu_alone_a_critical_one_takes_it_out(node: Handle) -> None:
    node.execute("nvml-sim", "xid", "0", "31")  # page fault of the application
    node.execute("nvml-sim", "xid", "1", "79")  # fell off the bus
    wait_for("one GPU less", lambda: node.gpus("allocatable") == 1)
    assert node.gpus("capacity") == 2
    node.apply(pods.gpu_pod("survivor", "nvidia-smi -L"))
    wait_for("a pod on the healthy GPU", lambda: phase(node, "survivor") == "Succeeded")
    assert UUID.findall(node.kubectl("logs", "survivor")) == gpu_uuids(node)[:1]
    delete_pods(node)
    # … until somebody says that it was looked after.
    plugin = plugin_pod(node)["metadata"]["name"]
    node.kubectl("exec", "-n", "nvidia-device-plugin", plugin, "--", "nvidia-devplugin", "ack", "1")
    wait_for("both GPUs again", lambda: node.gpus("allocatable") == 2)


def test_an_unparsable_daemon_json_stops_the_role_and_stays_as_it_was(node: Handle) -> None:
    good = node.execute("cat", DAEMON_JSON)
    broken = '{\n  "debug": true,\n  "log-level" "info"\n}\n'
    (node.folder / node.node / "broken.json").write_text(broken)  # the node's /etc/kubernetes
    node.execute("cp", "--preserve=all", DAEMON_JSON, "/root/daemon.json.good")
    node.execute("cp", "/etc/kubernetes/broken.json", DAEMON_JSON)
    before = node.execute("stat", "-c", "%i %Y %s %a", DAEMON_JSON)
    try:
        run = node.playbook("site.yml")
        assert run.returncode != 0
        assert re.search(rf"{DAEMON_JSON}\D+3\D+15\b", run.output), run.output
        assert node.execute("cat", DAEMON_JSON) == broken.strip()
        assert node.execute("stat", "-c", "%i %Y %s %a", DAEMON_JSON) == before
    finally:
        node.execute("cp", "--preserve=all", "/root/daemon.json.good", DAEMON_JSON)
    assert node.execute("cat", DAEMON_JSON) == good
    assert docker.succeeds("exec", node.node, "docker", "info")


def test_an_image_is_pushed_to_a_registry_from_which_the_kubelet_pulls_it(node: Handle, tmp_path: Path) -> None:
    daemonset = ("daemonset", "-n", "nvidia-device-plugin", "nvidia-device-plugin")

    def image() -> str:
        return str(node.get(*daemonset)["spec"]["template"]["spec"]["containers"][0]["image"])

    ours = image()
    name, tag = "127.0.0.1:5000/gpu/nvidia-devplugin", ours.rpartition(":")[2]
    # the build itself was tried above: this build host has it already
    saved = tmp_path / "image.tar"
    docker.run("save", "--output", str(saved), ours)
    with saved.open("rb") as archive:
        docker.run("exec", "-i", node.node, "docker", "load", "-q", stdin=archive)
    node.execute("docker", "tag", ours, f"{name}:{tag}")
    script = node.folder / node.node / "registry.py"  # the node's /etc/kubernetes
    shutil.copy(ROOT / "tests" / "sim" / "registry.py", script)
    docker.run("exec", "-d", node.node, "python3", "/etc/kubernetes/registry.py", "5000")
    # containerd 1.x speaks HTTP with a registry of its own host, 2.x has to be told
    hosts = "/etc/containerd/certs.d/127.0.0.1:5000"
    node.execute("sh", "-c", f"mkdir -p {hosts} && echo 'server = \"http://127.0.0.1:5000\"' > {hosts}/hosts.toml")
    wait_for("the registry", lambda: docker.succeeds("exec", node.node, "bash", "-c", ">/dev/tcp/127.0.0.1/5000"))
    extra = {
        "device_plugin_image_source": "push",
        "device_plugin_image": name,
        "device_plugin_build_host": node.node,
    }
    push = ("site.yml", "--tags", "device_plugin", "-e", json.dumps(extra))
    run = node.playbook(*push)
    assert run.returncode == 0, run.output
    assert image() == f"{name}:{tag}"
    status = plugin_pod(node)["status"]["containerStatuses"][0]
    assert status["ready"]
    assert status["imageID"].startswith(f"{name}@sha256:"), "it was pulled, not loaded"
    assert "changed: [" not in node.playbook(*push).output
    # nobody is there to take it
    node.execute("pkill", "-f", "registry.py")
    refused = node.playbook(*push)
    assert refused.returncode != 0
    assert "could not be pushed" in " ".join(refused.output.split())


def test_the_fleets_report_tells_of_the_node_and_of_a_host_that_is_away(node: Handle, tmp_path: Path) -> None:
    """One good node whose pod has a GPU, and a host that cannot be reached."""
    away = tmp_path / "away.json"
    nowhere = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    away.write_text(json.dumps({"gpu_nodes": {"hosts": {"away": nowhere}}}))
    path = tmp_path / "fleet.html"
    node.apply(pods.gpu_pod("reported", "sleep 3600"))
    try:
        wait_for("the pod", lambda: node.get("pod", "reported")["status"]["phase"] == "Running", 90)
        run = node.playbook("report.yml", "-i", str(away), "-e", f"kubegpu_report_path={path}")
    finally:
        node.kubectl("delete", "pod", "reported", "--wait=true", "--grace-period=0")
    assert run.returncode == 0, run.output
    assert run.changed == 0, run.output
    report = json.loads(path.with_suffix(".json").read_text())
    found = {item["host"]: item for item in report["nodes"]}
    assert found["away"]["state"] == "unreachable"
    good = found[node.node]
    assert good["state"] == "ok", good["findings"]
    assert good["links_source"] == "checks"
    assert [len(gpu["used_by"]) for gpu in good["gpus"]] in ([1, 0], [0, 1])
    (pod,) = report["pods"]
    assert (pod["name"], pod["host"], len(pod["gpus"])) == ("reported", node.node, 1)
    (resource,) = [item for item in good["kubernetes"]["resources"] if item["name"] == "nvidia.com/gpu"]
    assert resource == {"name": "nvidia.com/gpu", "capacity": 2, "allocatable": 2, "requested": 1}
    assert "reported" in path.read_text()

    # in check mode, and with a cluster that does not answer, it goes through as well; verify's failure does not end it
    arguments = ("-e", f"kubegpu_report_path={path}", "-e", "kubegpu_kubeconfig=/does/not/exist")
    path.unlink()
    assert node.playbook("report.yml", "--check", *arguments).returncode == 0
    assert not path.exists()
    alone = node.playbook("report.yml", *arguments, "-e", "kubegpu_report_verify=true")
    assert (alone.returncode, alone.changed) == (0, 0), alone.output
    report = json.loads(path.with_suffix(".json").read_text())
    (found_alone,) = report["nodes"]
    links = {link["name"]: link["status"] for link in found_alone["links"]}
    assert found_alone["links_source"] == "verify"
    assert (links["driver"], links["node"]) == ("passed", "failed")
    assert "does not exist" in report["cluster"]["problem"]["cause"]
