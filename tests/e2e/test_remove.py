"""The way back: what site.yml made goes again, on two nodes of their own.

The tests build on each other in the order of this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster, docker
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("remove", nodes=2, gpus=1)
FIRST, SECOND = SPEC.node_name(1), SPEC.node_name(2)
ALL = ("-e", "kubegpu_remove_image=true", "-e", "kubegpu_remove_toolkit=true")
KINDS = "nodes,namespaces,runtimeclasses,clusterroles,clusterrolebindings"
NAMESPACED = "daemonsets,configmaps,serviceaccounts,roles,rolebindings"
# What anybody's run leaves: backups of files that were edited, and the kubelet's own record.
EXPECTED = re.compile(r"[.]\d+[.]\d{4}-\d\d-\d\d@|kubelet_internal_checkpoint$")


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as handle:
        yield handle


@pytest.fixture(scope="module")
def untouched(machine: Handle) -> dict[str, set[str]]:
    """What there was before the first run: everything on each node, and the cluster's objects."""
    return {**{node: on_node(node) for node in (FIRST, SECOND)}, "cluster": objects(machine)}


def on_node(node: str) -> set[str]:
    """Everything that lies where site.yml writes, with the content of files; packages; images."""
    places = ["/etc", "/usr/local", "/opt", "/var/lib/kubegpu", "/var/lib/kubelet/device-plugins"]
    script = (
        "find {} -xdev \\( -path /etc/kubernetes -o -path /opt/kubernetes -o -path /etc/cni \\) -prune"
        " -o -printf '%y %m %p\\n';"
        "find /etc -xdev -path /etc/kubernetes -prune -o -type f -not -name '*.cache' -print0 | xargs -0 sha256sum;"
        "dpkg-query -W; ctr -n k8s.io images ls -q; docker image ls -q"
    )
    output = docker.run("exec", node, "sh", "-c", script.format(" ".join(places)) + " 2>/dev/null || true")
    return {line for line in output.splitlines() if not EXPECTED.search(line)}


def objects(machine: Handle) -> set[str]:
    names = (
        machine.kubectl("get", KINDS, "-o", "name")
        + "\n"
        + machine.kubectl(
            "get",
            NAMESPACED,
            "-A",
            "-o",
            "jsonpath={range .items[*]}{.kind} {.metadata.namespace} {.metadata.name}\n{end}",
        )
    )
    labels = machine.kubectl("get", "nodes", "-o", "jsonpath={range .items[*]}{.metadata.labels}\n{end}")
    return set(names.splitlines()) | set(labels.splitlines())


def changes(before: set[str], after: set[str]) -> list[str]:
    return sorted([f"- {line}" for line in before - after] + [f"+ {line}" for line in after - before])


def gpu_pod(machine: Handle, name: str, node: str) -> None:
    pod = pods.gpu_pod(name, "exec sleep 86400")
    pod["spec"]["nodeName"] = node
    machine.apply(pod)
    wait_for(f"the pod {name} running", lambda: machine.get("pod", name)["status"]["phase"] == "Running")


def plugin_nodes(machine: Handle) -> list[str]:
    found = machine.get("pods", "-n", "nvidia-device-plugin")["items"]
    return sorted(pod["spec"]["nodeName"] for pod in found)


def test_nothing_is_taken_while_a_pod_uses_a_gpu(machine: Handle, untouched: dict[str, set[str]]) -> None:
    run = machine.playbook("site.yml")
    assert run.returncode == 0, run.output
    assert changes(untouched[FIRST], on_node(FIRST)) != []
    gpu_pod(machine, "training", SECOND)
    installed = {node: on_node(node) for node in (FIRST, SECOND)}
    run = machine.playbook("remove.yml", *ALL)
    assert run.returncode != 0
    assert f"Pods use GPUs on {SECOND}: default/training (1 x nvidia.com/gpu)" in " ".join(run.output.split())
    assert run.changed == 0, run.output
    for node, before in installed.items():
        assert changes(before, on_node(node)) == []
    assert plugin_nodes(machine) == [FIRST, SECOND]


def test_one_node_goes_and_the_plugin_stays_for_the_other(machine: Handle) -> None:
    run = machine.playbook("remove.yml", "--limit", FIRST)
    assert run.returncode == 0, run.output
    assert f"it serves {SECOND}" in " ".join(run.output.split())
    assert plugin_nodes(machine) == [SECOND]
    assert machine.get("pod", "training")["status"]["phase"] == "Running"


def test_check_mode_announces_the_rest_and_changes_nothing(machine: Handle) -> None:
    before = {node: on_node(node) for node in (FIRST, SECOND)}
    run = machine.playbook("remove.yml", *ALL, "-e", "kubegpu_remove_force=true", "--check", "--diff")
    assert run.returncode == 0, run.output
    assert run.changed > 0
    assert plugin_nodes(machine) == [SECOND]
    for node, files in before.items():
        assert changes(files, on_node(node)) == []


def test_forced_the_pod_runs_on_and_nothing_else_is_left(machine: Handle, untouched: dict[str, set[str]]) -> None:
    run = machine.playbook("remove.yml", *ALL, "-e", "kubegpu_remove_force=true")
    assert run.returncode == 0, run.output
    assert machine.get("pod", "training")["status"]["phase"] == "Running"
    machine.kubectl("delete", "pod", "training")
    for node in (FIRST, SECOND):
        assert changes(untouched[node], on_node(node)) == []
        assert "nvidia" not in docker.run(
            "exec", node, "docker", "info", "--format", "{{.Runtimes}} {{.DefaultRuntime}}"
        )
    assert changes(untouched["cluster"], objects(machine)) == []


def test_a_second_removal_changes_nothing(machine: Handle) -> None:
    run = machine.playbook("remove.yml", *ALL)
    assert run.returncode == 0, run.output
    assert run.changed == 0, run.output


def test_it_can_be_installed_again(machine: Handle) -> None:
    run = machine.playbook("site.yml")
    assert run.returncode == 0, run.output
    assert plugin_nodes(machine) == [FIRST, SECOND]
    wait_for("the GPU of the first node", lambda: machine.gpus() == 1)
