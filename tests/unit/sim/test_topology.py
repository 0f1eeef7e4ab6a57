"""Paths between GPUs, NVLink, and what is near to a GPU."""

from __future__ import annotations

import pytest

from tests.unit.sim.conftest import Machine

PIX, NODE, SYS = 10, 40, 50
EACH = "handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]\n"


@pytest.mark.parametrize(
    ("model", "paths"),
    [
        pytest.param("L40S", [0, PIX, NODE, NODE, SYS, SYS, SYS, SYS], id="pairs-on-a-switch"),
        pytest.param("H100", [0, NODE, NODE, NODE, SYS, SYS, SYS, SYS], id="switch-per-gpu"),
    ],
)
def test_common_ancestor(machine: Machine, model: str, paths: list[int]) -> None:
    machine.init("--model", model, "--count", 8)
    code = "result = [[n.nvmlDeviceGetTopologyCommonAncestor(a, b) for b in handles] for a in handles]"
    matrix = machine.ask(EACH + code)
    assert matrix[0] == paths
    assert matrix == [list(row) for row in zip(*matrix, strict=True)]


def test_nearest_gpus(machine: Machine) -> None:
    machine.init("--model", "L40S", "--count", 4)
    assert machine.ask(
        EACH + "result = [[n.nvmlDeviceGetIndex(x) for x in n.nvmlDeviceGetTopologyNearestGpus(handles[2], level)]"
        " for level in (10, 40, 50)]"
    ) == [[3], [], [0, 1]]


def test_numa_and_cpus(machine: Machine) -> None:
    machine.init("--model", "H100", "--count", 4)  # two nodes with 32 CPUs each
    assert machine.ask(
        EACH
        + """
result = [[list(n.nvmlDeviceGetMemoryAffinity(h, 1, 0)), [hex(w) for w in n.nvmlDeviceGetCpuAffinity(h, 2)]]
          for h in (handles[0], handles[3])]
"""
    ) == [[[1], ["0xffffffff", "0x0"]], [[2], ["0xffffffff00000000", "0x0"]]]


@pytest.mark.parametrize(
    ("arguments", "active", "remotes"),
    [
        pytest.param(["--count", 8], 18, [2] * 18, id="nvswitch"),
        pytest.param(["--count", 2, "--nvlink", "pairs"], 18, [0] * 18, id="bridge"),
        pytest.param(["--count", 1, "--nvlink", "mesh"], 0, [255] * 18, id="alone"),
    ],
)
def test_nvlink_wiring(machine: Machine, arguments: list[object], active: int, remotes: list[int]) -> None:
    machine.init("--model", "H100", *arguments)
    assert machine.ask(
        EACH + "h = handles[0]\nresult = [sum(n.nvmlDeviceGetNvLinkState(h, i) for i in range(18)),"
        " [n.nvmlDeviceGetNvLinkRemoteDeviceType(h, i) for i in range(18)], code_of(n.nvmlDeviceGetNvLinkState, h, 18)]"
    ) == [active, remotes, 2]


def test_mesh_of_four_a100(machine: Machine) -> None:
    machine.init("--model", "A100", "--count", 4)
    remotes = machine.ask(
        EACH
        + """
of = {n.nvmlDeviceGetPciInfo(h).busId: i for i, h in enumerate(handles)}
result = [of[n.nvmlDeviceGetNvLinkRemotePciInfo(handles[0], link).busId] for link in range(12)]
"""
    )
    assert remotes == [1] * 4 + [2] * 4 + [3] * 4


def test_peer_to_peer_over_nvlink(machine: Machine) -> None:
    machine.init("--model", "RTX-A6000", "--count", 4)  # bridges join 0-1 and 2-3
    assert machine.ask(
        EACH + "result = [n.nvmlDeviceGetP2PStatus(handles[0], h, n.NVML_P2P_CAPS_INDEX_NVLINK) for h in handles[1:]]"
    ) == [0, 5, 5]
