"""How two GPUs are connected: from nvidia-smi's matrix, and from the tree of PCI bridges."""

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import topology
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.shape import empty_gpu

MATRIX = (
    "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
    "GPU0\t X \tNV12\tSYS\tPXB\t0-51,104-155\t0\t\tN/A\n"
    "GPU1\tNV12\t X \tPIX\tSYS\t0-51,104-155\t0\t\tN/A\n"
    "GPU2\tSYS\tPIX\t X \tNODE\t52-103\t1\t\tN/A\n"
    "NIC0\tPXB\tSYS\tNODE\t X \t\t\t\t\n\n"
    "Legend:\n\n  X    = Self\n  SYS  = Connection traversing PCIe\n\nNIC Legend:\n\n  NIC0: mlx5_0\n"
)


def gpus(*lost):
    made = []
    for index in range(3 + len(lost)):
        gpu = empty_gpu()
        gpu["index"], gpu["lost"] = index, index in lost
        made.append(gpu)
    return made


def test_the_matrix():
    assert topology.parse(MATRIX, gpus()) == [
        {"gpus": [0, 1], "connection": "NV12", "nvlinks": 12},
        {"gpus": [0, 2], "connection": "SYS", "nvlinks": 0},
        {"gpus": [1, 2], "connection": "PIX", "nvlinks": 0},
    ]


def test_the_matrix_leaves_out_a_lost_gpu():
    found = {tuple(pair["gpus"]): pair["connection"] for pair in topology.parse(MATRIX, gpus(1))}
    assert found == {(0, 1): None, (0, 2): "NV12", (0, 3): "SYS", (1, 2): None, (1, 3): None, (2, 3): "PIX"}


@pytest.mark.parametrize("text", ["", "Failed to initialize NVML: Unknown Error\n", "\tGPU0\nGPU0\t X \n"])
def test_no_matrix(text):
    assert [(pair["connection"], pair["nvlinks"]) for pair in topology.parse(text, gpus())] == [(None, None)] * 3


ROOT, OTHER = "pci0000:16", "pci0000:64"
UPSTREAM = f"{ROOT}/0000:16:02.0/0000:17:00.0"


@pytest.mark.parametrize(
    ("first", "second", "nodes", "expected"),
    [
        pytest.param(f"{UPSTREAM}/0000:18:00.0", f"{UPSTREAM}/0000:18:01.0", (0, 0), "PIX", id="one-switch"),
        pytest.param(
            f"{UPSTREAM}/0000:18:00.0/0000:19:00.0/0000:1a:00.0",
            f"{UPSTREAM}/0000:18:01.0/0000:1d:00.0/0000:1e:00.0",
            (0, 0),
            "PXB",
            id="a-switch-below-each-port",
        ),
        pytest.param(f"{ROOT}/0000:16:02.0", f"{ROOT}/0000:16:03.0", (0, 0), "PHB", id="two-root-ports"),
        pytest.param(f"{ROOT}/0000:16:02.0", f"{OTHER}/0000:64:02.0", (0, 0), "NODE", id="two-host-bridges"),
        pytest.param(f"{ROOT}/0000:16:02.0", f"{OTHER}/0000:64:02.0", (None, None), "NODE", id="no-numa"),
        pytest.param(f"{ROOT}/0000:16:02.0", f"{OTHER}/0000:64:02.0", (0, 1), "SYS", id="two-nodes"),
        pytest.param(None, f"{OTHER}/0000:64:02.0", (0, 0), None, id="unknown-place"),
    ],
)
def test_the_tree_of_bridges(tmp_path, first, second, nodes, expected):
    ends = []
    for number, (bridges, node) in enumerate(zip((first, second), nodes, strict=True)):
        address = f"0000:{0xA0 + number:02x}:00.0"
        ends.append({"bus_id": address, "numa_node": node})
        if bridges:
            (tmp_path / "sys/devices" / bridges / address).mkdir(parents=True)
            (tmp_path / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)
            (tmp_path / "sys/bus/pci/devices" / address).symlink_to(f"../../../devices/{bridges}/{address}")
    assert topology.path(*ends, str(tmp_path)) == expected
    assert topology.path(*reversed(ends), str(tmp_path)) == expected
