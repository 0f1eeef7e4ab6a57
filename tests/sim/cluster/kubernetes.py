"""One node's Kubernetes configuration: the files below its /etc/kubernetes. Pure but for writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
PKI = "/etc/kubernetes/pki"
ENDPOINTS = {
    "containerd": "unix:///run/containerd/containerd.sock",
    "crio": "unix:///var/run/crio/crio.sock",
}
"""Container runtime -> where the kubelet reaches it."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster: its position (from 1; the first carries the control plane), name and address."""

    index: int
    name: str
    address: str

    @property
    def pod_range(self) -> str:
        return f"10.88.{self.index}.0/24"


def flags(**values: str) -> str:
    return " ".join(f"--{key.replace('_', '-')}={value}" for key, value in values.items())


def control_plane_environment(first: Node) -> dict[str, str]:
    etcd = "http://127.0.0.1:2379"
    return {
        "ETCD_FLAGS": flags(
            data_dir="/var/lib/etcd",
            listen_client_urls=etcd,
            advertise_client_urls=etcd,
            listen_peer_urls="http://127.0.0.1:2380",
            initial_advertise_peer_urls="http://127.0.0.1:2380",
            initial_cluster="default=http://127.0.0.1:2380",
        ),
        "APISERVER_FLAGS": flags(
            etcd_servers=etcd,
            bind_address="0.0.0.0",  # noqa: S104  (inside the node's own network)
            advertise_address=first.address,
            secure_port="6443",
            client_ca_file=f"{PKI}/ca.crt",
            tls_cert_file=f"{PKI}/apiserver.crt",
            tls_private_key_file=f"{PKI}/apiserver.key",
            service_account_issuer="https://kubernetes.default.svc",
            service_account_key_file=f"{PKI}/sa.pub",
            service_account_signing_key_file=f"{PKI}/sa.key",
            service_cluster_ip_range=SERVICE_RANGE,
            authorization_mode="Node,RBAC",
            enable_admission_plugins="NodeRestriction",
            allow_privileged="true",
            kubelet_client_certificate=f"{PKI}/admin.crt",
            kubelet_client_key=f"{PKI}/admin.key",
            kubelet_certificate_authority=f"{PKI}/ca.crt",
            kubelet_preferred_address_types="InternalIP",
            v="1",
        ),
        "CONTROLLER_MANAGER_FLAGS": flags(
            kubeconfig="/etc/kubernetes/controller-manager.conf",
            leader_elect="false",
            service_account_private_key_file=f"{PKI}/sa.key",
            root_ca_file=f"{PKI}/ca.crt",
            use_service_account_credentials="true",
            v="1",
        ),
        "SCHEDULER_FLAGS": flags(kubeconfig="/etc/kubernetes/scheduler.conf", leader_elect="false", v="1"),
    }


def node_environment(
    node: Node, nodes: list[Node], version: tuple[int, int], runtime: str = "containerd"
) -> dict[str, str]:
    """The variables of /etc/kubernetes/node.env; ``version`` is the kubelet's (major, minor)."""
    kubelet = {
        "config": "/etc/kubernetes/kubelet.yaml",
        "kubeconfig": "/etc/kubernetes/kubelet.conf",
        "hostname_override": node.name,
        "node_ip": node.address,
        "v": "2",
    }
    if version < (1, 27):
        kubelet["container_runtime_endpoint"] = ENDPOINTS[runtime]
    if version < (1, 24):
        kubelet["container_runtime"] = "remote"
    environment = {
        "SERVICE_IP": SERVICE_IP,
        "CONTROL_PLANE_IP": nodes[0].address,
        "PEER_ROUTES": " ".join(f"{peer.pod_range}={peer.address}" for peer in nodes if peer != node),
        "KUBELET_FLAGS": flags(**kubelet),
    }
    if node == nodes[0]:
        environment.update(control_plane_environment(node))
    return environment


def kubelet_configuration(node: Node, version: tuple[int, int], runtime: str = "containerd") -> dict[str, object]:
    configuration: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/{node.name}.crt",
        "tlsPrivateKeyFile": f"{PKI}/{node.name}.key",
        "resolvConf": "/etc/resolv.conf",
        "imageGCHighThresholdPercent": 100,
        # Tests wait for allocatable to follow dozens of times, at the default of 10 s for 5 s on average; and a status
        # that did not change is written no more often than by default.
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "5m",
        # the disk is the host's, and its fill level is no business of the test cluster's
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
    }
    if version >= (1, 27):
        configuration["containerRuntimeEndpoint"] = ENDPOINTS[runtime]
    if version >= (1, 31):
        configuration["failCgroupV1"] = False
    return configuration


def network_configuration(node: Node) -> dict[str, object]:
    return {
        "cniVersion": "0.4.0",
        "name": "kubegpu-sim",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pod_range}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def write(
    folder: Path,
    node: Node,
    nodes: list[Node],
    version: tuple[int, int],
    kubelet: Mapping[str, object],
    runtime: str = "containerd",
) -> None:
    """Writes what is not a certificate below ``folder``, the node's /etc/kubernetes."""
    environment = node_environment(node, nodes, version, runtime)
    (folder / "node.env").write_text("".join(f'{key}="{value}"\n' for key, value in environment.items()))
    configuration = {**kubelet_configuration(node, version, runtime), **kubelet}
    (folder / "kubelet.yaml").write_text(json.dumps(configuration, indent=2))
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-bridge.conflist").write_text(json.dumps(network_configuration(node), indent=2))
    if node == nodes[0]:
        (folder / "control-plane").touch()
