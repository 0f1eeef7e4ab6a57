"""The labels of a table of machines: those that gpu-feature-discovery 0.20 gives them. Valid for any other input."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.config.settings import parse, resolve
from nvidia_devplugin.labels.feature_labels import Machine, Node, feature_file, labels, valid
from nvidia_devplugin.model import Gpu, MigAttributes, MigDevice

MIB = 2**20
VGA, CONTROLLER_3D = 0x030000, 0x030200
BARE_METAL = Machine("DGX A100", {f"00000000:{index + 1:02X}:00.0": CONTROLLER_3D for index in range(8)}, vgpu=False)


def board(index: int, name: str, mib: int, compute: tuple[int, int], **more: object) -> Gpu:
    made = Gpu(index, f"GPU-{name}-{index}", index, name, mib * MIB, f"00000000:{index + 1:02X}:00.0", compute=compute)
    return replace(made, **more)


def t4(index: int = 0) -> Gpu:
    return board(index, "Tesla T4", 15360, (7, 5))


def a100(index: int = 0, *profiles: str, mig: bool | None = None) -> Gpu:
    """An A100; split if profiles are named."""
    parts = tuple(
        MigDevice(at, f"MIG-{index}-{at}", profile, at, 0, 1, attributes=ATTRIBUTES[profile])
        for at, profile in enumerate(profiles)
    )
    enabled = bool(profiles) if mig is None else mig
    return board(
        index, "NVIDIA A100-SXM4-40GB", 40960, (8, 0), mig_capable=True, mig_enabled=enabled, mig=parts
    )  # fmt: skip


def h100(index: int = 0) -> Gpu:
    return board(index, "NVIDIA H100 80GB HBM3", 81559, (9, 0), mig_capable=True)


ATTRIBUTES = {
    "1g.5gb": MigAttributes(4864, 14, 1, 1, 1, 0, 0, 0, 0),
    "1g.5gb+me": MigAttributes(4864, 14, 1, 1, 1, 1, 0, 1, 1),
    "3g.20gb": MigAttributes(20096, 42, 3, 3, 3, 2, 0, 0, 0),
}


def of(*gpus: Gpu, config: str = "", **facts: object) -> dict[str, str]:
    """The labels without their domain."""
    rules = resolve(parse(config.encode()), {}, {}).rules
    node = Node(gpus, **{"driver_version": "550.54.15", "cuda_version": (12, 4), "machine": BARE_METAL, **facts})
    found = labels(node, rules)
    assert all(key.startswith("nvidia.com/") for key in found)
    return {key.removeprefix("nvidia.com/"): value for key, value in found.items()}


def machine(**facts: object) -> dict[str, Machine]:
    """For a row of the table: bare metal but for these facts."""
    return {"machine": replace(BARE_METAL, **facts)}


def classes(*numbers: int) -> dict[str, int]:
    """PCI classes of the first GPUs."""
    return {f"00000000:{index + 1:02X}:00.0": number for index, number in enumerate(numbers)}


COMMON = {
    "cuda.driver-version.full": "550.54.15",
    "cuda.driver-version.major": "550",
    "cuda.driver-version.minor": "54",
    "cuda.driver-version.revision": "15",
    "cuda.driver.major": "550",
    "cuda.driver.minor": "54",
    "cuda.driver.rev": "15",
    "cuda.runtime-version.full": "12.4",
    "cuda.runtime-version.major": "12",
    "cuda.runtime-version.minor": "4",
    "cuda.runtime.major": "12",
    "cuda.runtime.minor": "4",
    "gpu.machine": "DGX-A100",
    "gpu.mode": "compute",
    "gpu.sharing-strategy": "none",
    "mps.capable": "false",
    "vgpu.present": "false",
}
T4 = {
    "gpu.product": "Tesla-T4",
    "gpu.count": "1",
    "gpu.replicas": "1",
    "gpu.memory": "15360",
    "gpu.family": "turing",
    "gpu.compute.major": "7",
    "gpu.compute.minor": "5",
    "mig.capable": "false",
}
A100 = {
    "gpu.product": "NVIDIA-A100-SXM4-40GB",
    "gpu.memory": "40960",
    "gpu.family": "ampere",
    "gpu.compute.major": "8",
    "gpu.compute.minor": "0",
    "mig.capable": "true",
}
H100 = {
    "gpu.product": "NVIDIA-H100-80GB-HBM3",
    "gpu.memory": "81559",
    "gpu.family": "hopper",
    "gpu.compute.major": "9",
    "gpu.compute.minor": "0",
    "mig.capable": "true",
}


def part(key: str, profile: str, **more: str) -> dict[str, str]:
    has = ATTRIBUTES[profile]
    of_a_profile = {
        "product": f"NVIDIA-A100-SXM4-40GB-MIG-{profile.replace('+', '.')}",
        "replicas": "1",
        "sharing-strategy": "none",
        "memory": str(has.memory_mib),
        "multiprocessors": str(has.multiprocessors),
        "slices.gi": str(has.gi_slices),
        "slices.ci": str(has.ci_slices),
        "engines.copy": str(has.copy_engines),
        "engines.decoder": str(has.decoders),
        "engines.encoder": "0",
        "engines.jpeg": str(has.jpegs),
        "engines.ofa": str(has.ofas),
    }
    return {f"{key}.{name}": value for name, value in {**of_a_profile, **more}.items()}


INVALID = {
    "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID",
    "gpu.count": "0",
    "gpu.replicas": "0",
    "gpu.sharing-strategy": "",
    "gpu.memory": "0",
}
CLIQUE = "7b968a6d-c8aa-45e1-9e07-e1e51be99c31"


def without(*names: str) -> dict[str, str | None]:
    """The labels of a T4 but for these of gpu.*."""
    return {**T4, **{f"gpu.{name}": None for name in names}}


SHARED = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}"
RENAMED = "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 10}]}}"
SHARED_MIG = """
flags: {migStrategy: mixed}
sharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 2}]}}
"""


@pytest.mark.parametrize(
    ("gpus", "config", "facts", "expected"),
    [
        # internal/lm/resource.go: NewGPUResourceLabeler, baseLabeler, getProductName
        pytest.param([t4()], "", {}, T4, id="t4"),
        pytest.param([a100(0), a100(1)], "", {}, {**A100, "gpu.count": "2", "gpu.replicas": "1"}, id="a100"),
        # internal/lm/mig-strategy.go: newMigStrategySingleLabeler, newInvalidMigStrategyLabeler
        pytest.param(
            [a100(0), a100(1)], "flags: {migStrategy: single}",
            {}, {**A100, "gpu.count": "2", "gpu.replicas": "1", "mig.strategy": "single"},
            id="single-without-mig",
        ),
        pytest.param(
            [a100(0, "1g.5gb", "3g.20gb")], "", {}, {**A100, "gpu.count": "1", "gpu.replicas": "0"},
            id="mig-with-strategy-none",
        ),
        pytest.param(
            [a100(0, "1g.5gb", "1g.5gb"), a100(1, "1g.5gb")], "flags: {migStrategy: single}",
            {}, {**A100, **part("gpu", "1g.5gb", count="3"), "mig.strategy": "single"},
            id="single",
        ),
        pytest.param(
            [a100(0, "1g.5gb", "1g.5gb")], "flags: {migStrategy: single}\n" + SHARED,
            {}, {**A100, "mig.strategy": "single",
             **part("gpu", "1g.5gb", count="2", replicas="10", product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED",
                    **{"sharing-strategy": "time-slicing"})},
            id="single-shared",
        ),
        *(
            pytest.param(
                gpus, "flags: {migStrategy: single}",
                {}, {**A100, **INVALID, "mig.strategy": "single"},
                id=f"single-{why}",
            )
            for why, gpus in {
                "two-profiles": [a100(0, "1g.5gb", "3g.20gb")],
                "half": [a100(0, "1g.5gb"), a100(1)],
                "empty": [a100(0, "1g.5gb"), a100(1, mig=True)],
            }.items()
        ),
        pytest.param(
            [a100(0, "1g.5gb"), a100(1)], "flags: {migStrategy: single}\n" + SHARED,
            {}, {**A100, **INVALID, "mig.strategy": "single"},
            id="single-half-shared",
        ),
        # internal/lm/mig-strategy.go: newMigStrategyMixedLabeler; internal/resource/nvml-mig-device.go: GetAttributes
        pytest.param(
            [a100(0, "1g.5gb", "3g.20gb", "1g.5gb"), a100(1)], "flags: {migStrategy: mixed}",
            {}, {**A100, "gpu.count": "2", "gpu.replicas": "1", "mig.strategy": "mixed",
             **part("mig-1g.5gb", "1g.5gb", count="2"), **part("mig-3g.20gb", "3g.20gb", count="1")},
            id="mixed",
        ),
        pytest.param(
            [a100(0, "1g.5gb+me")], "flags: {migStrategy: mixed}",
            {}, {**A100, "gpu.count": "1", "gpu.replicas": "0", "mig.strategy": "mixed",
             **part("mig-1g.5gb.me", "1g.5gb+me", count="1")},
            id="mixed-media-extensions",
        ),
        pytest.param(
            [a100(0, "1g.5gb")], SHARED_MIG,
            {}, {**A100, "gpu.count": "1", "gpu.replicas": "0", "mig.strategy": "mixed",
             **part("mig-1g.5gb", "1g.5gb", count="1", replicas="2", product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED",
                    **{"sharing-strategy": "time-slicing"})},
            id="mixed-shared",
        ),
        # internal/lm/resource.go: getReplicas, isShared, isRenamed
        pytest.param(
            [h100(index) for index in range(8)], SHARED,
            {}, {**H100, "gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED", "gpu.count": "8", "gpu.replicas": "10",
             "gpu.sharing-strategy": "time-slicing"},
            id="h100-shared",
        ),
        pytest.param(
            [h100(0)], RENAMED,
            {}, {**H100, "gpu.count": "1", "gpu.replicas": "10", "gpu.sharing-strategy": "time-slicing"},
            id="h100-shared-under-another-name",
        ),
        # of several models gpu-feature-discovery labels a random one; GPUs can be left out here alone
        pytest.param(
            [t4(0), h100(1), h100(2)], "", {}, {**H100, "gpu.count": "2", "gpu.replicas": "1"}, id="two-models",
        ),
        pytest.param(
            [h100(0), t4(1)], "kubegpu: {gpus: {exclude: [1]}}", {}, {**H100, "gpu.count": "1", "gpu.replicas": "1"},
            id="one-left-out",
        ),
        # internal/lm/resource.go: newArchitectureLabels, getArchFamily
        *(
            pytest.param(
                [replace(t4(), compute=(major, minor))], "", {},
                {**T4, "gpu.family": name, "gpu.compute.major": str(major), "gpu.compute.minor": str(minor)},
                id=f"family-{major}.{minor}",
            )
            for major, minor, name in [
                (1, 3, "tesla"), (2, 1, "fermi"), (3, 5, "kepler"), (4, 0, "undefined"), (5, 2, "maxwell"),
                (6, 1, "pascal"), (7, 0, "volta"), (7, 5, "turing"), (8, 6, "ampere"), (8, 9, "ada-lovelace"),
                (9, 0, "hopper"), (10, 3, "blackwell"), (11, 0, "undefined"), (12, 1, "blackwell"), (13, 0, "rubin"),
                (14, 0, "undefined"),
            ]
        ),
        *(
            pytest.param([replace(t4(), compute=compute)], "", {}, without("family", "compute.major", "compute.minor"),
                         id=f"family-{why}")
            for why, compute in {"none": (0, 0), "unreadable": None}.items()
        ),
        pytest.param([replace(t4(), memory_bytes=0)], "", {}, without("memory"), id="memory-unreadable"),
        # internal/lm/machine-type.go and sanitise in internal/lm/resource.go
        *(
            pytest.param([t4()], "", machine(product=product), {**T4, "gpu.machine": label}, id=f"machine-{why}")
            for why, product, label in [
                ("unreadable", None, "unknown"),
                ("empty", "\n", ""),
                ("blanks", " PowerEdge  R750\n", "PowerEdge-R750"),
                ("characters", "ProLiant DL380 (P/N 868703-B21), Rev_1.0\n", "ProLiant-DL380-PN-868703-B21-Rev_1.0"),
                ("tab", "A\tB", "AB"),
            ]
        ),
        # internal/lm/nvml.go: getModeForClasses
        *(
            pytest.param(
                [t4(0), t4(1)], "", machine(pci_classes=classes(*numbers)),
                {**T4, "gpu.count": "2", "gpu.mode": mode},
                id=f"mode-{why}",
            )
            for why, numbers, mode in [
                ("vga", (VGA, VGA), "graphics"),
                ("3d", (CONTROLLER_3D, CONTROLLER_3D), "compute"),
                ("mixed", (CONTROLLER_3D, VGA), "unknown"),
                ("other", (0x038000, 0x038000), "unknown"),
                ("half-unreadable", (VGA,), "unknown"),
                ("unreadable", (), "unknown"),
            ]
        ),
        pytest.param(
            [t4(0), t4(1)], "kubegpu: {gpus: {exclude: [1]}}", machine(pci_classes=classes(VGA, CONTROLLER_3D)),
            {**T4, "gpu.mode": "graphics"}, id="mode-without-a-GPU-that-is-left-out",
        ),
        # internal/lm/vgpu.go
        pytest.param(
            [t4()], "", machine(vgpu=True, vgpu_host=("525.60.12", "r525_00")),
            {**T4, "vgpu.present": "true", "vgpu.host-driver-version": "525.60.12",
             "vgpu.host-driver-branch": "r525_00"},
            id="vgpu",
        ),
        pytest.param([t4()], "", machine(vgpu=None), {**T4, "vgpu.present": None}, id="vgpu-unreadable"),
        pytest.param([], "", {}, {**dict.fromkeys(COMMON), "vgpu.present": "false"}, id="no-gpu"),
        # internal/lm/timestamp.go
        pytest.param([t4()], "", {"timestamp": 1594644571}, {**T4, "gfd.timestamp": "1594644571"}, id="timestamp"),
        # internal/lm/nvml.go: newVersionLabeler
        pytest.param(
            [t4()], "", {"driver_version": "455.06"},
            {**T4, **{f"cuda.driver-version.{key}": value for key, value in
                      {"full": "455.06", "major": "455", "minor": "06", "revision": ""}.items()},
             "cuda.driver.major": "455", "cuda.driver.minor": "06", "cuda.driver.rev": ""},
            id="driver-version-of-two-numbers",
        ),
        # internal/lm/imex.go: getFabricIDs
        *(
            pytest.param(
                [replace(h100(index), clique=clique) for index, clique in enumerate(cliques)], "", {},
                {**H100, "gpu.count": str(len(cliques)), "gpu.replicas": "1", **label},
                id=f"clique-{why}",
            )
            for why, cliques, label in [
                ("one", (CLIQUE + ".1", "", CLIQUE + ".1"), {"gpu.clique": CLIQUE + ".1"}),
                ("two-cliques", (CLIQUE + ".1", CLIQUE + ".2"), {}),
                ("two-clusters", (CLIQUE + ".1", CLIQUE.replace("7", "8") + ".1"), {}),
            ]
        ),
    ],
)  # fmt: skip
def test_the_labels_of_known_machines(gpus, config, facts, expected):
    """expected: the labels that differ from COMMON; None for one that is missing."""
    wanted = {key: value for key, value in {**COMMON, **expected}.items() if value is not None}
    assert of(*gpus, config=config, **facts) == wanted


@pytest.mark.parametrize("version", ["", "550", "1.2.3.4"])
def test_versions_that_cannot_be_read_are_left_out(version):
    found = of(t4(), driver_version=version, cuda_version=None)
    assert not [key for key in found if key.startswith("cuda.")]
    assert found["gpu.product"] == "Tesla-T4"


def test_a_valid_value_is_kept():
    for value in ("", "DGX-A100", "7b968a6d-c8aa-45e1-9e07-e1e51be99c31.1", "455.06", "a" * 63):
        assert valid(value) == value


def test_an_invalid_value_becomes_a_valid_one():
    assert valid("a" * 64) == "a" * 63
    assert valid("-H100/80 GB_") == "H10080GB"
    assert valid("a" * 62 + "..") == "a" * 62


@given(st.text(max_size=200), st.text(max_size=200))
def test_every_value_is_one_that_kubernetes_accepts(name, product):
    made = of(replace(a100(0), name=name), machine=Machine(product), config=SHARED)
    for value in made.values():
        assert len(value) <= 63
        assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?", value)


def test_the_file_is_what_nfd_reads():
    assert feature_file({"nvidia.com/gpu.count": "2", "nvidia.com/cuda.driver.rev": ""}) == (
        "nvidia.com/gpu.count=2\nnvidia.com/cuda.driver.rev=\n"
    )
