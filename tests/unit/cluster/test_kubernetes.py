"""What depends on the Kubernetes version in a node's configuration."""

from __future__ import annotations

import json

import pytest

from tests.sim.cluster import kubernetes

FIRST = kubernetes.Node(1, "node-1", "192.0.2.11")
SECOND = kubernetes.Node(2, "node-2", "192.0.2.12")


@pytest.mark.parametrize(
    ("version", "flags", "keys"),
    [
        pytest.param((1, 20), {"--container-runtime", "--container-runtime-endpoint"}, set(), id="1.20"),
        pytest.param((1, 24), {"--container-runtime-endpoint"}, set(), id="1.24-without-dockershim"),
        pytest.param((1, 27), set(), {"containerRuntimeEndpoint"}, id="1.27-endpoint-in-the-file"),
        pytest.param((1, 31), set(), {"containerRuntimeEndpoint", "failCgroupV1"}, id="1.31-cgroup-v1-by-leave"),
    ],
)
def test_the_kubelet_is_told_its_runtime_as_its_version_wants(
    version: tuple[int, int], flags: set[str], keys: set[str]
) -> None:
    environment = kubernetes.node_environment(FIRST, [FIRST], version)
    given = {flag.partition("=")[0] for flag in environment["KUBELET_FLAGS"].split()}
    assert {flag for flag in given if flag.startswith("--container-runtime")} == flags
    configuration = kubernetes.kubelet_configuration(FIRST, version)
    assert {"containerRuntimeEndpoint", "failCgroupV1"} & configuration.keys() == keys


def test_only_the_first_node_carries_the_control_plane_and_each_routes_to_the_others() -> None:
    nodes = [FIRST, SECOND]
    first, second = (kubernetes.node_environment(node, nodes, (1, 20)) for node in nodes)
    assert "APISERVER_FLAGS" in first
    assert "APISERVER_FLAGS" not in second
    assert (first["PEER_ROUTES"], second["PEER_ROUTES"]) == ("10.88.2.0/24=192.0.2.12", "10.88.1.0/24=192.0.2.11")
    assert first["CONTROL_PLANE_IP"] == second["CONTROL_PLANE_IP"] == FIRST.address


@pytest.mark.parametrize("version", [(1, 26), (1, 37)])
def test_the_kubelet_of_a_node_with_crio_is_told_its_socket(version: tuple[int, int]) -> None:
    told = kubernetes.node_environment(FIRST, [FIRST], version, "crio")["KUBELET_FLAGS"]
    told += json.dumps(kubernetes.kubelet_configuration(FIRST, version, "crio"))
    assert "unix:///var/run/crio/crio.sock" in told
    assert "containerd" not in told
