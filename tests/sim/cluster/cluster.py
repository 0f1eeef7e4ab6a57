"""Brings a named group of simulated nodes up and takes it down again."""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.sim.toolkit import repository

from . import binaries, docker, images, kubernetes, names, paths, pki, programs
from .lock import alone
from .progress import Say
from .wait import NotReadyError, wait_for

LABEL = "io.kubegpu.sim.cluster"
PRIVILEGED = ["--privileged"]
# What --privileged would give, less what a machine without CAP_SYS_RESOURCE cannot.
NEARLY_PRIVILEGED = [
    "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm",
]  # fmt: skip

INTO_DOCKER = ["docker", "load", "-q"]
INTO_CONTAINERD = ["ctr", "-n", "k8s.io", "images", "import", "-"]
# skopeo reads an archive twice, so not from a pipe
INTO_CRIO = [
    "sh", "-ec", 'cat > "$0"; skopeo copy -q "docker-archive:$0" "containers-storage:$1"; rm "$0"', "/tmp/image.tar",
    f"docker.io/{images.BASE}",
]  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """A wanted cluster. ``gpus`` simulated GPUs of ``model`` on each of ``nodes`` nodes, with driver ``driver``."""

    name: str
    nodes: int = 1
    gpus: int = 2
    model: str = "H100"
    driver: str = "550.54.15"
    kubernetes: bool = True
    kubelet: Mapping[str, object] = field(default_factory=dict)
    """Keys of the kubelet's configuration that differ from the test cluster's."""
    runtime: str = "containerd"
    """What the kubelet runs pods with. A node has Docker and containerd, or, with ``crio``, CRI-O alone."""

    def node_name(self, index: int) -> str:
        return names.container(self.name, index)

    @property
    def network(self) -> str:
        return names.network(self.name)

    @property
    def repository(self) -> str:
        return names.container(self.name, "repo")


def up(spec: Spec, say: Say) -> Path:
    """Brings the cluster up, or finds it up; returns the folder with its kubeconfig and inventory."""
    images.ensure_crio_node(say) if spec.runtime == "crio" else images.ensure(say)
    packages = repository.ensure(say)
    kubernetes_folder = None
    node_programs: dict[str, Path] = {}
    if spec.kubernetes:  # others need not wait for a build of many minutes
        with alone("kubernetes"):
            kubernetes_folder = binaries.ensure(say)
        node_programs = programs.of_node(spec.runtime, say)
    folder = paths.cluster(spec.name)
    hosts = [spec.node_name(index) for index in range(1, spec.nodes + 1)]
    running = [name for name in (*hosts, spec.repository) if _running(name)]
    if len(running) == len(hosts) + 1 and (folder / "inventory.json").exists():
        say(f"cluster {spec.name}: already running")
        return folder
    down(spec.name)
    folder.mkdir(parents=True)
    with alone("network"):  # another process would be given the range between the two calls of _create_network
        subnet = _create_network(spec)
    nodes = [kubernetes.Node(index, name, str(subnet[10 + index])) for index, name in enumerate(hosts, start=1)]
    docker.run(
        "run", "-d", "--init", "--name", spec.repository, "--label", f"{LABEL}={spec.network}",
        "--network", spec.network, "--ip", str(subnet[5]), "--restart", "unless-stopped", "--stop-signal", "SIGINT",
        "-v", f"{packages}:/repo:ro", images.BASE, "python3", "-m", "http.server", "--directory", "/repo", "80",
    )  # fmt: skip
    if kubernetes_folder:
        _write_configuration(spec, folder, nodes, binaries.version(kubernetes_folder))
    for node in nodes:
        say(f"node {node.name} at {node.address}: {spec.gpus} x {spec.model}, driver {spec.driver}")
        _start_node(spec, node, folder, kubernetes_folder, node_programs)
    for node in nodes:
        wait_for(f"systemd in {node.name}", lambda node=node: _systemd_up(node.name), 120)  # type: ignore[misc]
        answers = ["crictl", "version"] if spec.runtime == "crio" else ["docker", "info"]
        wait_for(
            f"{answers[0]} in {node.name}",
            lambda node=node, answers=answers: docker.succeeds("exec", node.name, *answers),  # type: ignore[misc]
            60,
        )
    say("loading the test image into " + ", ".join(hosts))
    with ThreadPoolExecutor() as side_by_side:
        # Kubernetes takes about as long to get ready as the images to be unpacked, and it waits more
        loads = [
            side_by_side.submit(_load_test_image, node.name, engine) for node in nodes for engine in _loaders(spec)
        ]
        if kubernetes_folder:
            for node in nodes:
                say(f"waiting for {node.name} to be Ready")
                wait_for(f"node {node.name} Ready", lambda node=node: _node_ready(hosts[0], node.name), 180)  # type: ignore[misc]
            wait_for(
                "the default ServiceAccount",
                lambda: docker.succeeds(*_kubectl(hosts[0]), "get", "serviceaccount", "default"),
                60,
            )
        for load in loads:
            load.result()
    fingerprint = (packages / "libnvidia-container/gpgkey.fingerprint").read_text().strip()
    _write_inventory(spec, nodes, folder, fingerprint)
    return folder


def down(name: str) -> None:
    """Removes the containers, their volumes, the network and the files of a cluster; nothing there is no error."""
    containers = docker.run("ps", "-aq", "--filter", f"label={LABEL}={names.network(name)}").split()
    if containers:
        docker.run("rm", "-fv", *containers)
    if docker.inspect("network", names.network(name)):
        docker.run("network", "rm", names.network(name))
    shutil.rmtree(paths.cluster(name), ignore_errors=True)


def _kubectl(control_plane: str) -> list[str]:
    return ["exec", control_plane, "kubectl"]


def _running(name: str) -> bool:
    container = docker.inspect("container", name)
    return bool(container and container["State"]["Running"])


def _create_network(spec: Spec) -> ipaddress.IPv4Network:
    """A network whose addresses we may choose: Docker picks a free range, which is then asked for by name."""
    create = ["network", "create", "--label", f"{LABEL}={spec.network}"]
    docker.run(*create, spec.network)
    details = docker.inspect("network", spec.network)
    if details is None:
        raise NotReadyError(f"the network {spec.network} vanished")
    subnet = details["IPAM"]["Config"][0]["Subnet"]
    docker.run("network", "rm", spec.network)
    docker.run(*create, "--subnet", subnet, spec.network)
    return ipaddress.IPv4Network(subnet)


def _write_configuration(spec: Spec, folder: Path, nodes: list[kubernetes.Node], version: tuple[int, int]) -> None:
    first = nodes[0]
    server = f"https://{first.address}:6443"
    for node in nodes:
        (folder / node.name / "pki").mkdir(parents=True)
    own = folder / first.name / "pki"
    ca = pki.authority(own)
    pki.service_account_keys(own)
    pki.issue(ca, own, "admin", "kubernetes-admin", "system:masters")
    pki.issue(ca, own, "controller-manager", "system:kube-controller-manager")
    pki.issue(ca, own, "scheduler", "system:kube-scheduler")
    hosts = (first.name, "localhost", "kubernetes.default.svc", first.address, "127.0.0.1", kubernetes.SERVICE_IP)
    pki.issue(ca, own, "apiserver", "kube-apiserver", hosts=hosts)
    for client, file in (("admin", "admin"), ("controller-manager", "controller-manager"), ("scheduler", "scheduler")):
        pki.kubeconfig(folder / first.name / f"{file}.conf", server, own, client, seen_at=kubernetes.PKI)
    pki.kubeconfig(folder / "kubeconfig", server, own, "admin")
    for node in nodes:
        target = folder / node.name / "pki"
        if node != first:
            shutil.copy(own / "ca.crt", target / "ca.crt")
        pki.issue(ca, target, node.name, f"system:node:{node.name}", "system:nodes", (node.name, node.address))
        pki.kubeconfig(folder / node.name / "kubelet.conf", server, target, node.name, seen_at=kubernetes.PKI)
        kubernetes.write(folder / node.name, node, nodes, version, spec.kubelet, spec.runtime)


def _start_node(
    spec: Spec, node: kubernetes.Node, folder: Path, kubernetes_folder: Path | None, mounted: dict[str, Path]
) -> None:
    arguments = [
        "run", "-d", "--name", node.name, "--hostname", node.name, "--label", f"{LABEL}={spec.network}",
        "--network", spec.network, "--ip", node.address, "--runtime", "runc", "--cgroupns", "private",
        "--device", "/dev/fuse", "--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec",
        "-v", "/var/lib/docker", "-v", "/var/lib/containerd", "-v", "/var/lib/kubelet",
    ]  # fmt: skip
    if spec.gpus:
        settings = {"GPU_MODEL": spec.model, "GPU_COUNT": str(spec.gpus), "GPU_DRIVER": spec.driver}
        arguments += [item for key, value in settings.items() for item in ("-e", f"{key}={value}")]
    if Path("/dev/kmsg").exists():
        arguments += ["--device", "/dev/kmsg"]
    if Path("/lib/modules").is_dir():
        arguments += ["-v", "/lib/modules:/lib/modules:ro"]
    if kubernetes_folder:
        arguments += [
            "-v", f"{kubernetes_folder}:/opt/kubernetes/bin:ro",
            "-v", f"{images.archive(images.PAUSE).parent}:/opt/kubernetes/images:ro",
            "-v", f"{folder / node.name}:/etc/kubernetes",
            "-v", f"{folder / node.name / 'cni'}:/etc/cni/net.d",
        ]  # fmt: skip
    arguments += [item for place, program in mounted.items() for item in ("-v", f"{program}:{place}:ro")]
    if spec.runtime == "crio":
        docker.run(*arguments, "-v", "/var/lib/containers", *_privileges(), images.CRIO_NODE)
    else:
        docker.run(*arguments, *_privileges(), images.NODE)


@functools.cache
def _privileges() -> list[str]:
    if docker.succeeds("run", "--rm", *PRIVILEGED, images.BASE, "true"):
        return PRIVILEGED
    return NEARLY_PRIVILEGED


def _systemd_up(container: str) -> bool:
    if not _running(container):
        raise NotReadyError(f"{container} stopped: {docker.run('logs', '--tail', '20', container)}")
    try:
        # "degraded" is good enough: some unit that needs a machine of its own
        return docker.run("exec", container, "systemctl", "is-system-running") == "running"
    except docker.DockerError as error:
        return "degraded" in str(error)


def _node_ready(control_plane: str, node: str) -> bool:
    try:
        text = docker.run(*_kubectl(control_plane), "get", "node", node, "-o", "json")
    except docker.DockerError:
        return False
    conditions = json.loads(text)["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _loaders(spec: Spec) -> list[list[str]]:
    if spec.runtime == "crio":
        return [INTO_CRIO]
    return [INTO_DOCKER, INTO_CONTAINERD] if spec.kubernetes else [INTO_DOCKER]


def _load_test_image(container: str, engine: list[str]) -> None:
    """The image of test containers and pods, since a node on a closed network can pull none."""
    with images.archive(images.BASE).open("rb") as stream:
        docker.run("exec", "-i", container, *engine, stdin=stream)


def _certificate_bundle() -> str | None:
    """The certificates that this machine trusts, which may include those of a proxy that opens TLS."""
    candidates = (os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/cert.pem")
    return next((path for path in candidates if path and Path(path).is_file()), None)


def _write_inventory(spec: Spec, nodes: list[kubernetes.Node], folder: Path, fingerprint: str) -> None:
    """An Ansible inventory (JSON is YAML) that reaches the nodes through the Docker Engine."""
    variables: dict[str, object] = {
        "ansible_connection": "community.docker.docker",
        "ansible_python_interpreter": "/usr/bin/python3",
        "container_toolkit_repo_url": f"http://{spec.repository}/libnvidia-container",
        "container_toolkit_repo_key_fingerprint": fingerprint,
    }
    if spec.kubernetes:
        variables["kubegpu_kubeconfig"] = str(folder / "kubeconfig")
        variables["device_plugin_base_image"] = images.BASE
        if bundle := _certificate_bundle():
            variables["device_plugin_build_ca_bundle"] = bundle
        variables["verify_image"] = f"docker.io/{images.BASE}"
        variables["verify_docker_image"] = images.BASE
    else:
        variables["kubegpu_cluster"] = False
    inventory = {
        "all": {
            "children": {"gpu_nodes": {"hosts": {node.name: {} for node in nodes}, "vars": variables}},
        }
    }
    (folder / "inventory.json").write_text(json.dumps(inventory, indent=2))
