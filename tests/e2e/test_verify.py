"""verify.yml on a cluster of two nodes: what it proves when all is well, and what it says when a link is broken.

The tests build on each other in the order of this file. Each breaks something for real, lets verify look, and mends it.
Two nodes are broken at a time, each in its own way, so that a run tells of both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.nodes import fresh_cluster, kill_when
from tests.e2e.users import kubeconfig, token, with_rights
from tests.sim.cluster import cluster, docker
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("verify", nodes=2, gpus=2)
FIRST, SECOND = SPEC.node_name(1), SPEC.node_name(2)
NAMESPACE = "nvidia-device-plugin"
READER, BLIND = "kubegpu-reader", "kubegpu-blind"
# nothing here is started anew, so that nothing is to be waited for
AT_ONCE = ("-e", "verify_registration_timeout=0")
NO_POD = ("-e", "verify_image=", "-e", json.dumps({"verify_docker_image": ""}))
NODE_ONLY = ("-e", "kubegpu_cluster=false")

Links = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def machine() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as handle:
        run = handle.playbook("site.yml", "--skip-tags", "verify")
        assert run.returncode == 0, run.output
        yield handle


@pytest.fixture(autouse=True)
def answers_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "ansible.posix.json")


def play(machine: Handle, name: str, *arguments: str) -> dict[str, Any]:
    """What the callback ansible.posix.json tells of a run."""
    run = machine.playbook(name, *arguments)
    start = run.output.find('{\n    "custom_stats"')
    assert start >= 0, run.output
    return dict(json.JSONDecoder().raw_decode(run.output[start:])[0])


def verify(machine: Handle, *arguments: str) -> dict[str, Links]:
    """The links by node."""
    answer = play(machine, "verify.yml", *arguments)
    found: dict[str, Links] = {}
    for task in answer["plays"][-1]["tasks"]:
        for host, result in task["hosts"].items():
            for link in result.get("ansible_facts", {}).get("kubegpu_verify", []):
                found.setdefault(host, {})[link["name"]] = link
    assert found, answer
    return found


def test_pods(machine: Handle) -> list[str]:
    return machine.kubectl("get", "pods", "-A", "-l", "kubegpu.nvidia/verify", "-o", "name").split()


test_pods.__test__ = False  # type: ignore[attr-defined]


def test_a_killed_run_leaves_pods_and_the_next_one_proves_all_and_removes_them(machine: Handle) -> None:
    kill_when("the test pods", lambda: test_pods(machine), machine, "verify.yml", *NO_POD)
    assert test_pods(machine)

    for node, links in verify(machine).items():
        assert {name: link["status"] for name, link in links.items() if link["status"] != "passed"} == {
            "crio": "skipped"
        }, node
        assert "a pod with limits 2 saw 2 GPUs" in links["all_gpus"]["detail"]
        assert "Insufficient nvidia.com/gpu" in links["one_more"]["detail"]
    assert test_pods(machine) == []


@dataclass(frozen=True)
class Break:
    """A link that is broken on one node: how, how it is mended, and what verify has to say."""

    link: str
    cause: str
    remedy: str
    harm: str
    mend: str
    where: tuple[str, ...] = NODE_ONLY


CLI = "/usr/bin/nvidia-container-cli"
CONFIG = "/etc/nvidia-container-runtime/config.toml"


def broken_cli(when: str, words: str) -> str:
    """What makes the toolkit's program fail where its arguments fit a pattern of the shell's."""
    script = f'#!/bin/sh\\ncase $* in {when}) echo {words} >&2; exit 1;; esac\\nexec /root/cli "$@"\\n'
    return f"mv {CLI} /root/cli && printf '{script}' >{CLI} && chmod +x {CLI}"


# what is broken on the first node and on the second, in one run
PAIRS = [
    (
        Break("driver", "does not answer", "dmesg", "nvml-sim unload", "nvml-sim load"),
        Break(
            "toolkit",
            "nvidia-container-runtime is missing",
            "install the toolkit again",
            "mv /usr/bin/nvidia-container-runtime /root/",
            "mv /root/nvidia-container-runtime /usr/bin/",
        ),
    ),
    (
        Break(
            "docker",
            "the runtime nvidia is not in its configuration",
            "tag docker_runtime",
            "cp -a /etc/docker/daemon.json /root/ && echo '{}' >/etc/docker/daemon.json",
            "cp -a /root/daemon.json /etc/docker/",
        ),
        Break(
            "containerd",
            "the runtime nvidia is not in its configuration",
            "tag containerd_runtime",
            "cp -a /etc/containerd/config.toml /root/ && echo 'version = 2' >/etc/containerd/config.toml",
            "cp -a /root/config.toml /etc/containerd/",
        ),
    ),
    (
        Break(
            "docker",
            "is due",
            "tag docker_runtime",
            "cp -a /etc/docker/daemon.json /root/ && echo '{}' >/etc/docker/daemon.json && systemctl restart docker"
            " && cp -a /root/daemon.json /etc/docker/",
            "systemctl reload docker",
        ),
        Break(
            "containerd",
            "a restart is due",
            "tag containerd_runtime",
            "cp -a /etc/containerd/config.toml /root/ && touch /etc/containerd/config.toml",
            "cp -a /root/config.toml /etc/containerd/",
        ),
    ),
]
IN_CLUSTER = [
    (
        Break(
            "plugin",
            "has not the label nvidia.com/gpu.present=true",
            "tag device_plugin",
            f"kubectl label node {FIRST} nvidia.com/gpu.present-",
            f"kubectl label node {FIRST} nvidia.com/gpu.present=true",
        ),
        Break(
            "plugin",
            "has the taint dedicated:NoExecute",
            "device_plugin_tolerations",
            f"kubectl taint node {SECOND} dedicated=x:NoExecute",
            f"kubectl taint node {SECOND} dedicated-",
        ),
    ),
]


def plugins_ready(machine: Handle) -> int:
    jsonpath = "jsonpath={.items[*].status.containerStatuses[0].ready}"
    return machine.kubectl("get", "pods", "-n", NAMESPACE, "-o", jsonpath).split().count("true")


def healthy(machine: Handle) -> None:
    wait_for("the plugins", lambda: plugins_ready(machine) == 2)
    for node in (FIRST, SECOND):
        wait_for(f"the GPUs of {node}", lambda node=node: machine_gpus(machine, node) == 2)  # type: ignore[misc]


def machine_gpus(machine: Handle, node: str) -> int:
    return int(machine.get("node", node)["status"]["allocatable"].get("nvidia.com/gpu", "0"))


def said(links: Links, broken: Break) -> None:
    """The first link that failed is the one that was broken, with its cause and remedy."""
    failed = next((link for link in links.values() if link["status"] == "failed"), None)
    assert failed is not None, links
    assert failed["name"] == broken.link
    assert broken.cause in failed["detail"]
    assert broken.remedy in failed["remedy"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(broken.link for broken in pair))
def test_a_link_of_the_node_that_is_broken_is_named(machine: Handle, pair: tuple[Break, Break]) -> None:
    nodes = dict(zip((FIRST, SECOND), pair, strict=True))
    try:
        for node, broken in nodes.items():
            docker.run("exec", node, "bash", "-c", broken.harm)
        found = verify(machine, *NODE_ONLY, *NO_POD)
    finally:
        for node, broken in nodes.items():
            docker.run("exec", node, "bash", "-c", broken.mend)
    for node, broken in nodes.items():
        said(found[node], broken)


def test_without_docker_a_container_of_the_kubelets_containerd_proves_the_toolkit(machine: Handle) -> None:
    runtime = "/usr/bin/nvidia-container-runtime"
    no_docker = "systemctl stop docker.socket docker && rm -f /run/docker.sock && mv /usr/sbin/dockerd /root/"
    no_gpu = f"mv {runtime} /root/ && printf '#!/bin/sh\nexec runc \"$@\"\n' >{runtime} && chmod 755 {runtime}"
    harm = {FIRST: f"{no_docker} && {no_gpu}", SECOND: no_docker}
    docker_again = "mv /root/dockerd /usr/sbin/; systemctl start docker.socket docker"
    mend = {FIRST: f"mv /root/nvidia-container-runtime /usr/bin/; {docker_again}", SECOND: docker_again}
    try:
        for node, command in harm.items():
            docker.run("exec", node, "bash", "-c", command)
        found = verify(machine, *NODE_ONLY)
        for node in harm:
            assert "kubegpu" not in docker.run("exec", node, "ctr", "-n", "k8s.io", "containers", "ls", "-q")
    finally:
        for node, command in mend.items():
            docker.run("exec", node, "bash", "-c", command)
    for links in found.values():
        assert [links[name]["status"] for name in ("docker", "docker_gpus", "docker_runtime")] == ["skipped"] * 3
    assert found[SECOND]["containerd_runtime"]["status"] == "passed", found[SECOND]
    assert "saw 2 GPUs" in found[SECOND]["containerd_runtime"]["detail"]
    said(found[FIRST], Break("containerd_runtime", "nvidia-smi: not found", "nvidia-container-cli info", "", ""))


def ready(machine: Handle, node: str) -> bool:
    conditions = machine.get("node", node)["status"]["conditions"]
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def plugin_of(machine: Handle, node: str) -> str:
    return machine.kubectl("get", "pods", "-n", NAMESPACE, "--field-selector", f"spec.nodeName={node}", "-o", "name")


def test_a_label_that_lies_and_a_node_that_is_away_are_named(machine: Handle) -> None:
    healthy(machine)
    machine.kubectl("label", "node", FIRST, "nvidia.com/gpu.product=Tesla-K80")
    docker.run("exec", SECOND, "systemctl", "stop", "kubelet")
    try:
        wait_for("the node away", lambda: not ready(machine, SECOND), 120)
        found = verify(machine, *AT_ONCE, *NO_POD)
    finally:
        docker.run("exec", SECOND, "systemctl", "start", "kubelet")
        machine.kubectl("label", "node", FIRST, "nvidia.com/gpu.product-")
    said(found[FIRST], Break("labels", "nvidia.com/gpu.product is Tesla-K80", "gpu-feature-discovery", "", ""))
    said(found[SECOND], Break("node", "it is not ready", "kubelet", "", ""))
    wait_for("the node back", lambda: ready(machine, SECOND))


def configured(machine: Handle, config_map: dict[str, Any]) -> None:
    """Plugins with this configuration; and new kubelets, as one that goes on keeps what is gone for five minutes."""
    machine.apply(config_map)
    machine.kubectl("delete", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=nvidia-device-plugin")
    wait_for("the plugins", lambda: plugins_ready(machine) == 2)
    for node in (FIRST, SECOND):
        docker.run("exec", node, "systemctl", "restart", "kubelet")
    wait_for("the plugins to be known", lambda: plugins_ready(machine) == 2 and shown(machine) == {4})


def shown(machine: Handle) -> set[int]:
    """How many devices the nodes offer, of either name; one that is not shared counts for two."""
    found = set()
    for node in (FIRST, SECOND):
        known = machine.get("node", node)["status"]["allocatable"]
        found.add(2 * int(known.get("nvidia.com/gpu", "0")) + int(known.get("nvidia.com/gpu.shared", "0")))
    return found


def test_a_gpu_that_is_out_is_counted_and_a_name_that_others_chose_is_told(machine: Handle) -> None:
    healthy(machine)
    machine.execute("nvml-sim", "xid", "0", "79")
    try:
        wait_for("a GPU less", lambda: machine_gpus(machine, FIRST) == 1)
        found = verify(machine, *AT_ONCE, *NO_POD)
    finally:
        machine.kubectl("exec", "-n", NAMESPACE, plugin_of(machine, FIRST), "--", "nvidia-devplugin", "ack", "0")
    said(found[FIRST], Break("resources", "capacity 2, allocatable 1, expected 2", "1 device unhealthy", "", ""))
    assert found[SECOND]["resources"]["status"] == "passed"

    # by hand, past the role: the resource gets another name
    config = ("configmap", "nvidia-device-plugin-config", "-n", NAMESPACE)
    before = machine.get(*config)
    shared = {"renameByDefault": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 2}]}
    document = {"version": "v1", "sharing": {"timeSlicing": shared}}
    try:
        configured(machine, {**before, "data": {"config.yaml": json.dumps(document)}})
        wait_for("no GPU of the usual name", lambda: machine_gpus(machine, FIRST) == machine_gpus(machine, SECOND) == 0)
        found = verify(machine, *AT_ONCE, *NO_POD)
    finally:
        configured(machine, {**before, "metadata": {"name": config[1], "namespace": NAMESPACE}})
    for links in found.values():
        said(links, Break("registered", "has not registered nvidia.com/gpu", "does its configuration rename", "", ""))
        assert "nvidia.com/gpu.shared: capacity 4, allocatable 4, expected 0" in links["resources"]["detail"]


def test_containers_that_get_no_gpu_or_not_all_of_them_are_told_apart(machine: Handle) -> None:
    healthy(machine)
    for node in (FIRST, SECOND):
        # the mode that uses this program for every container; by default those of the runtime get their GPUs by CDI
        docker.run("exec", node, "cp", "-a", CONFIG, "/root/config.toml")
        docker.run("exec", node, "nvidia-ctk", "config", "--in-place", "--set", "nvidia-container-runtime.mode=legacy")
    try:
        docker.run("exec", FIRST, "bash", "-c", broken_cli("*configure*", "out of order"))
        docker.run("exec", SECOND, "bash", "-c", broken_cli("*device=*,*", "not all of them"))
        found = verify(machine, *AT_ONCE, "-e", "verify_timeout=20")
    finally:
        for node in (FIRST, SECOND):
            docker.run("exec", node, "bash", "-c", f"mv /root/cli {CLI}; mv /root/config.toml {CONFIG}")
    said(found[FIRST], Break("docker_gpus", "out of order", "debug set in", "", ""))
    pod = found[FIRST]["pod"]
    assert (pod["status"], "out of order" in pod["detail"]) == ("failed", True), pod
    assert found[SECOND]["pod"]["status"] == "passed"
    said(found[SECOND], Break("all_gpus", "not all of them", "nvidia", "", ""))
    assert test_pods(machine) == []


# containers with --gpus go another way on such a node, by runc and the toolkit's hook
NOT_THE_DEFAULT = (
    "cp -a /etc/docker/daemon.json /usr/bin/nvidia-container-runtime /root/"
    ' && sed -i \'s/"default-runtime": "nvidia"/"default-runtime": "runc"/\' /etc/docker/daemon.json'
    " && systemctl reload docker"
    " && printf '#!/bin/sh\\necho the runtime is broken >&2; exit 1\\n' >/usr/bin/nvidia-container-runtime"
)
THE_DEFAULT = (
    "cp -a /root/nvidia-container-runtime /usr/bin/ && cp -a /root/daemon.json /etc/docker/ && systemctl reload docker"
)


def test_a_runtime_that_is_not_the_default_is_tried_too(machine: Handle) -> None:
    try:
        docker.run("exec", SECOND, "bash", "-c", NOT_THE_DEFAULT)
        found = verify(machine, *NODE_ONLY, "--limit", SECOND)
    finally:
        docker.run("exec", SECOND, "bash", "-c", THE_DEFAULT)
    assert found[SECOND]["docker_gpus"]["status"] == "passed"
    said(found[SECOND], Break("docker_runtime", "did not terminate successfully", "debug set in", "", ""))


# Binds the pod that should wait, as a scheduler would that does not count the resource; the cluster's own is stopped.
ROGUE = """
get() { kubectl get pods -n %(namespace)s -l kubegpu.nvidia/verify-pod=$1 -o "jsonpath={.items[*]$2}"; }
for try in $(seq 300); do [ "$(get all .status.phase)" = Running ] && break; sleep 0.2; done
systemctl stop kube-scheduler
for try in $(seq 100); do pod=$(get more .metadata.name); [ -n "$pod" ] && break; sleep 0.2; done
echo '{"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "'$pod'"},
  "target": {"kind": "Node", "name": "%(node)s"}}' |
  kubectl create --raw /api/v1/namespaces/%(namespace)s/pods/$pod/binding -f -
"""


def test_a_scheduler_that_does_not_count_is_noticed(machine: Handle) -> None:
    healthy(machine)
    try:
        script = ROGUE % {"namespace": NAMESPACE, "node": FIRST}
        docker.run("exec", "-d", FIRST, "bash", "-c", script)
        found = verify(machine, *AT_ONCE, "--limit", FIRST, "-e", json.dumps({"verify_docker_image": ""}))
    finally:
        machine.execute("systemctl", "start", "kube-scheduler")
    said(found[FIRST], Break("one_more", "was placed on the node", "who owns nvidia.com/gpu", "", ""))
    assert test_pods(machine) == []


@pytest.mark.parametrize("pair", IN_CLUSTER, ids=lambda pair: "-".join(broken.link for broken in pair))
def test_a_plugin_that_is_kept_away_from_its_node_is_named(machine: Handle, pair: tuple[Break, Break]) -> None:
    healthy(machine)
    try:
        for broken in pair:
            machine.execute("bash", "-c", broken.harm)
        wait_for("the plugins gone", lambda: not machine.get("pods", "-n", NAMESPACE)["items"])
        found = verify(machine, *AT_ONCE, *NO_POD)
    finally:
        for broken in pair:
            machine.execute("bash", "-c", broken.mend)
    for node, broken in zip((FIRST, SECOND), pair, strict=True):
        said(found[node], broken)
        assert found[node]["registered"]["status"] == "failed"
        assert "link plugin" in found[node]["registered"]["remedy"]


def test_what_stands_between_us_and_the_api_is_named(machine: Handle) -> None:
    healthy(machine)
    blind = token(machine, BLIND)
    looking = [{"apiGroups": [""], "resources": ["nodes", "pods", "events"], "verbs": ["get", "list"]}]
    reader = with_rights(machine, READER, looking)
    quota = ["--hard=pods=0", "-n", NAMESPACE]
    machine.kubectl("create", "quota", "none", *quota)

    def file(path: str) -> tuple[str, ...]:
        return ("-e", f"kubegpu_kubeconfig={path}")

    me = "system:serviceaccount:default:"
    expired = kubeconfig(machine, "expired", token=f"{blind}x")
    table = [
        (file("/does/not/exist"), "node", "does not exist", "kubegpu_kubeconfig"),
        (file(expired), "node", "does not know the user", "expired"),
        (
            file(kubeconfig(machine, "away", server="https://127.0.0.1:1")),
            "node",
            "cannot be reached",
            "kubegpu_api_host",
        ),
        (file(kubeconfig(machine, "blind", token=blind)), "node", f"{me}{BLIND} may not get nodes", "ClusterRole"),
        (
            file(kubeconfig(machine, "nobody", username="")),
            "node",
            "showed the API server no credentials",
            "kubectl config",
        ),
        (file(reader), "pod", f"{me}{READER} may not create pods in the namespace {NAMESPACE}", "--verb=create"),
        (("-e", "kubegpu_node_name=another"), "node", "no node named another", "kubegpu_node_name"),
        (
            ("-e", "verify_resource=example.com/gpu", "-e", "verify_expected_gpus=2"),
            "registered",
            "example.com/gpu",
            "log",
        ),
        ((), "pod", "a quota of the namespace is used up", "raise the quota"),
    ]
    with ThreadPoolExecutor(3) as pool:
        common = ("--limit", FIRST, *AT_ONCE, "-e", "verify_timeout=10")
        runs = list(pool.map(lambda row: verify(machine, *common, *row[0])[FIRST], table))
    machine.kubectl("delete", "quota", "none", "-n", NAMESPACE)
    for links, (_arguments, link, cause, remedy) in zip(runs, table, strict=True):
        said(links, Break(link, cause, remedy, "", ""))


def test_a_pod_that_cannot_start_and_gpus_that_others_use(machine: Handle) -> None:
    healthy(machine)
    from tests.demo import pods

    taker = pods.gpu_pod("taker", "exec sleep 600")
    taker["spec"]["nodeName"] = SECOND
    machine.apply(taker)
    wait_for("the pod that takes a GPU", lambda: machine.get("pod", "taker")["status"]["phase"] == "Running")
    found = verify(machine, *AT_ONCE, "-e", "verify_image=localhost/kubegpu/none:1", "-e", "verify_timeout=10")
    said(found[FIRST], Break("pod", "Pull", "the image is neither on the node", "", ""))
    assert found[SECOND]["all_gpus"] == {
        "name": "all_gpus", "status": "skipped", "detail": "1 of 2 are in use, by default/taker", "remedy": "",
    }  # fmt: skip
    machine.kubectl("delete", "pod", "taker", "--grace-period=1")
    assert test_pods(machine) == []
