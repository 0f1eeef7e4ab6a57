"""The way there on a busy cluster that another device plugin has, and the way back, on two nodes of their own.

The tests build on each other in the order of this file. site.yml's last step, verify, is left to other files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo import pods
from tests.e2e.nodes import fresh_cluster, kill_when
from tests.e2e.users import documented_rights, with_rights
from tests.sim.cluster import cluster, docker
from tests.sim.cluster.use import Handle, PlaybookRun, wait_for

SPEC = cluster.Spec("remove", nodes=2, gpus=1)
FIRST, SECOND = SPEC.node_name(1), SPEC.node_name(2)
SITE = ("site.yml", "--skip-tags", "verify")
REPLACE = ("-e", "device_plugin_replace_others=true")
# The role's manifest of the first release, and something of a still older one that nobody wants any more.
FORMER = Path(__file__).with_name("former-0.1.0.json")
LEFT_OVER: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "name": "nvidia-device-plugin-former",
        "namespace": "nvidia-device-plugin",
        "labels": {"app.kubernetes.io/managed-by": "kubegpu.nvidia"},
    },
}
ALL = ("-e", "kubegpu_remove_image=true", "-e", "kubegpu_remove_toolkit=true")
DRAIN = ("-e", "kubegpu_drain=true")
KINDS = "nodes,namespaces,runtimeclasses,clusterroles,clusterrolebindings"
NAMESPACED = "daemonsets,configmaps,serviceaccounts,roles,rolebindings"
# What anybody's run leaves: backups of files that were edited, and the kubelet's own record.
EXPECTED = re.compile(r"[.]\d+[.]\d{4}-\d\d-\d\d@|kubelet_internal_checkpoint$")


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    """All playbooks of this file run as a user who may do no more than docs/kubernetes-rights.yml says."""
    with fresh_cluster(SPEC) as handle:
        in_inventory(handle, "kubegpu_kubeconfig", with_rights(handle, "deployer", documented_rights()))
        yield handle


def foreign() -> dict[str, Any]:
    """What stands for another device plugin: it has the name, and the kubelet's folder, and offers nothing."""
    pod = pods.gpu_pod("nvidia-device-plugin", "exec sleep 86400", gpus=0)["spec"]
    del pod["restartPolicy"]
    pod["volumes"] = [{"name": "folder", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}]
    labels = {"app": "foreign-plugin"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    metadata = {"name": "nvidia-device-plugin-daemonset", "namespace": "kube-system"}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


def deployment(name: str, replicas: int, gpus: int = 0) -> dict[str, Any]:
    """Pods of somebody who wants so many of them, wherever they are."""
    labels = {"app": name}
    pod = pods.gpu_pod(name, "exec sleep 86400", gpus=gpus)["spec"]
    del pod["restartPolicy"]
    # one on each node as long as that can be, or there would be nobody to drain
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": 100, "podAffinityTerm": apart}]
    pod["affinity"] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def untouched(machine: Handle) -> dict[str, set[str]]:
    """What there was before the first run: everything on each node, and the cluster's objects."""
    machine.apply(foreign())
    machine.apply(deployment("web", 2))
    wait_for("the other device plugin on both nodes", lambda: foreign_pods(machine) == 2)
    wait_for("both pods of web", lambda: web_pods(machine) == 2)
    return {**{node: on_node(node) for node in (FIRST, SECOND)}, "cluster": objects(machine)}


def foreign_pods(machine: Handle) -> int:
    daemonset = machine.get("daemonset", "-n", "kube-system", "nvidia-device-plugin-daemonset")
    return int(daemonset["status"].get("numberReady", 0))


def web_pods(machine: Handle) -> int:
    return int(machine.get("deployment", "web")["status"].get("readyReplicas", 0))


def in_inventory(machine: Handle, name: str, value: str) -> None:
    inventory = json.loads(machine.inventory.read_text())
    inventory["all"]["children"]["gpu_nodes"]["vars"][name] = value
    machine.inventory.write_text(json.dumps(inventory))


def restarts_of_containerd(machine: Handle, allowed: str) -> None:
    """An inventory variable, for one that is given with -e would win over the playbook's own."""
    in_inventory(machine, "containerd_runtime_allow_restart", allowed)


def containerd(node: str) -> str:
    return docker.run("exec", node, "pgrep", "-x", "containerd")


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


def test_one_node_after_the_other_is_emptied_for_its_restart(machine: Handle, untouched: dict[str, set[str]]) -> None:
    before = {node: containerd(node) for node in (FIRST, SECOND)}
    restarts_of_containerd(machine, "never")
    run = machine.playbook(*SITE, "-e", "kubegpu_drain=true")
    restarts_of_containerd(machine, "safe")
    assert {node: containerd(node) != before[node] for node in before} == {FIRST: True, SECOND: True}
    steps = re.findall(r"^TASK \[(Cordon|Drain|Uncordon) it\].*\n(?:.*\n)*?changed: \[(\S+)", run.output, re.MULTILINE)
    assert steps == [(step, node) for node in (FIRST, SECOND) for step in ("Cordon", "Drain", "Uncordon")], run.output
    for node in machine.get("nodes")["items"]:
        assert "unschedulable" not in node["spec"]
        assert "kubegpu.nvidia/cordoned" not in node["metadata"].get("annotations", {})
    wait_for("both pods of web", lambda: web_pods(machine) == 2)
    # … and then the run ends, since the place is taken
    assert run.returncode != 0
    assert "The DaemonSet kube-system/nvidia-device-plugin-daemonset" in run.output
    assert foreign_pods(machine) == 2


def test_a_former_release_is_upgraded_and_the_other_plugin_gives_way(machine: Handle) -> None:
    machine.apply(json.loads(FORMER.read_text()))
    machine.apply(LEFT_OVER)
    former = machine.get("daemonset", "-n", "nvidia-device-plugin", "nvidia-device-plugin")
    run = machine.playbook(*SITE, "--tags", "device_plugin", *REPLACE)
    assert run.returncode == 0, run.output
    present = machine.get("daemonset", "-n", "nvidia-device-plugin", "nvidia-device-plugin")
    assert present["metadata"]["uid"] == former["metadata"]["uid"]
    images = [item["spec"]["template"]["spec"]["containers"][0]["image"] for item in (former, present)]
    assert images[0] != images[1]
    assert plugin_nodes(machine) == [FIRST, SECOND]
    assert "former" not in machine.kubectl("get", "configmaps", "-n", "nvidia-device-plugin", "-o", "name")
    assert foreign_pods(machine) == 0
    wait_for("the GPU of the first node", lambda: machine.gpus() == 1)


def test_what_is_rendered_is_what_is_deployed(machine: Handle, tmp_path: Path) -> None:
    run = machine.playbook("render.yml", "-e", f"device_plugin_render_dir={tmp_path}")
    assert run.returncode == 0, run.output
    docker.run("cp", str(tmp_path), f"{FIRST}:/root/rendered")
    # "kubectl diff" ends with 1 where the server's dry run would change something
    options = ("--server-side", "--force-conflicts", "--field-manager=kubegpu.nvidia")
    assert machine.kubectl("diff", *options, "-k", "/root/rendered") == ""


def test_what_the_cluster_refuses_is_said_with_its_remedy(machine: Handle) -> None:
    looking = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb in ("get", "list")]} for rule in documented_rights()
    ]
    reader = with_rights(machine, "reader", [rule for rule in looking if rule["verbs"]])
    extra = {"kubegpu_kubeconfig": reader, "device_plugin_max_unavailable": 2}
    run = machine.playbook(*SITE, "--tags", "device_plugin", "-e", json.dumps(extra))
    machine.kubectl("delete", "clusterrole,clusterrolebinding", "reader")
    machine.kubectl("delete", "serviceaccount", "reader")
    assert run.returncode != 0
    said = " ".join(run.output.split())
    assert "Apply the objects: the user system:serviceaccount:default:reader may not patch " in said
    assert "kubectl create clusterrole kubegpu --verb=patch --resource=" in said
    assert run.stats[FIRST]["failed"] == 1


def test_a_user_with_these_rights_makes_the_agent_too(machine: Handle) -> None:
    extra = {"device_plugin_agent_features": ["events", "acknowledge", "labels"]}
    run = machine.playbook("site.yml", "--tags", "device_plugin,verify", "-e", json.dumps(extra))
    assert run.returncode == 0, run.output
    assert machine.kubectl("get", "clusterrole", "nvidia-device-plugin-agent", "-o", "name")


def test_a_drain_that_is_refused_stops_the_run_and_gives_the_node_back(machine: Handle) -> None:
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    document = {
        "apiVersion": "policy/v1" if machine.version() >= (1, 21) else "policy/v1beta1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": budget,
    }
    machine.apply(document)
    wait_for("the budget", lambda: machine.get("pdb", "web")["status"].get("currentHealthy") == 2)
    busy = machine.get("pods", "-l", "app=web")["items"][0]["spec"]["nodeName"]
    before = containerd(busy)
    restarts_of_containerd(machine, "never")
    extra = {
        "kubegpu_drain": True,
        "kubegpu_drain_options": {"wait_timeout": 5},
        "containerd_runtime_set_default": False,
    }
    command = ("site.yml", "--tags", "containerd_runtime", "-e", json.dumps(extra), "--limit", busy)
    run = machine.playbook(*command)
    machine.kubectl("delete", "pdb", "web")
    # the plugin's own pod has an emptyDir for its agent, which is not the reason
    assert "local storage" not in run.output
    given_back(machine, busy, before, run, "a PodDisruptionBudget keeps the pod default/web-")
    # sleep, as a container's first process, ends when it is killed, and that is later than the drain waits
    slow = pods.gpu_pod("slow", "exec sleep 86400", gpus=0)
    slow["spec"].update(nodeName=busy, terminationGracePeriodSeconds=600)
    machine.apply(slow)
    wait_for("the slow pod", lambda: machine.get("pod", "slow")["status"]["phase"] == "Running")
    run = machine.playbook(*command, "-e", '{"kubegpu_drain_options": {"wait_timeout": 5, "force": true}}')
    restarts_of_containerd(machine, "safe")
    machine.kubectl("delete", "pod", "slow", "--force", "--grace-period=0")
    given_back(machine, busy, before, run, "the pods to be evicted had not ended in time: default/slow. To do:")
    wait_for("the pod elsewhere", lambda: machine.get("deployment", "web")["status"].get("readyReplicas") == 2)


def given_back(machine: Handle, node: str, before: str, run: PlaybookRun, cause: str) -> None:
    """A run that could not empty a node left it as it was, and said why."""
    assert run.returncode != 0
    assert f"{node} was not emptied, so nothing was restarted on it: {cause}" in " ".join(run.output.split()), (
        run.output
    )
    assert re.search(r"^TASK \[Uncordon it\].*\nchanged", run.output, re.MULTILINE), run.output
    assert "unschedulable" not in machine.get("node", node)["spec"]
    assert containerd(node) == before


def test_nothing_is_taken_while_a_pod_uses_a_gpu(machine: Handle, untouched: dict[str, set[str]]) -> None:
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
    wait_for("the other device plugin on both nodes again", lambda: foreign_pods(machine) == 2)


def test_a_second_removal_changes_nothing(machine: Handle) -> None:
    run = machine.playbook("remove.yml", *ALL)
    assert run.returncode == 0, run.output
    assert run.changed == 0, run.output


def test_it_can_be_installed_again(machine: Handle) -> None:
    run = machine.playbook(*SITE, *REPLACE)
    assert run.returncode == 0, run.output
    assert plugin_nodes(machine) == [FIRST, SECOND]
    wait_for("the GPU of the first node", lambda: machine.gpus() == 1)


def cordoned(machine: Handle) -> list[str]:
    nodes = machine.get("nodes")["items"]
    return [node["metadata"]["name"] for node in nodes if node["spec"].get("unschedulable")]


def test_drained_the_pods_go_first_and_the_next_run_ends_what_a_killed_one_began(
    machine: Handle, untouched: dict[str, set[str]]
) -> None:
    machine.apply(deployment("trainer", 1, gpus=1))
    wait_for("the trainer", lambda: machine.get("deployment", "trainer")["status"].get("readyReplicas") == 1)
    kill_when("a node that is cordoned", lambda: cordoned(machine), machine, "remove.yml", *ALL, *DRAIN)
    assert cordoned(machine)
    run = machine.playbook("remove.yml", *ALL, *DRAIN)
    assert run.returncode == 0, run.output
    assert cordoned(machine) == []
    (pod,) = machine.get("pods", "-l", "app=trainer")["items"]
    assert pod["status"]["phase"] == "Pending", "there are no GPUs any more"
    machine.kubectl("delete", "deployment", "trainer")
    for node in (FIRST, SECOND):
        assert changes(untouched[node], on_node(node)) == []
    assert changes(untouched["cluster"], objects(machine)) == []
