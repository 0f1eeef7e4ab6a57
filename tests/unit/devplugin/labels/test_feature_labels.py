"""The labels, against those that gpu-feature-discovery gives the same machines; and valid for whatever comes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.config.settings import parse, resolve
from nvidia_devplugin.labels.feature_labels import Machine, Node, family, feature_file, labels, valid
from nvidia_devplugin.model import Gpu, MigAttributes, MigDevice

MIB = 2**20
COMPUTE = Machine("DGX A100", 0x030200)


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


def of(*gpus: Gpu, config: str = "", machine: Machine = COMPUTE, **more: object) -> dict[str, str]:
    """The labels without their domain."""
    rules = resolve(parse(config.encode()), {}, {}).rules
    made = labels(Node(gpus, "550.54.15", (12, 4), machine, **more), rules)
    assert all(key.startswith("nvidia.com/") for key in made)
    return {key.removeprefix("nvidia.com/"): value for key, value in made.items()}


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


SHARED = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}"
RENAMED = "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 10}]}}"
SHARED_MIG = """
flags: {migStrategy: mixed}
sharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 2}]}}
"""


@pytest.mark.parametrize(
    ("gpus", "config", "expected"),
    [
        pytest.param(
            [t4()], "",
            {"gpu.product": "Tesla-T4", "gpu.count": "1", "gpu.replicas": "1", "gpu.memory": "15360",
             "gpu.family": "turing", "gpu.compute.major": "7", "gpu.compute.minor": "5", "mig.capable": "false"},
            id="t4",
        ),
        pytest.param([a100(0), a100(1)], "", {**A100, "gpu.count": "2", "gpu.replicas": "1"}, id="a100"),
        pytest.param(
            [a100(0), a100(1)], "flags: {migStrategy: single}",
            {**A100, "gpu.count": "2", "gpu.replicas": "1", "mig.strategy": "single"},
            id="single-without-mig",
        ),
        pytest.param(
            [a100(0, "1g.5gb", "3g.20gb")], "", {**A100, "gpu.count": "1", "gpu.replicas": "0"},
            id="mig-that-nobody-looks-at",
        ),
        pytest.param(
            [a100(0, "1g.5gb", "1g.5gb"), a100(1, "1g.5gb")], "flags: {migStrategy: single}",
            {**A100, **part("gpu", "1g.5gb", count="3"), "mig.strategy": "single"},
            id="single",
        ),
        pytest.param(
            [a100(0, "1g.5gb", "1g.5gb")], "flags: {migStrategy: single}\n" + SHARED,
            {**A100, "mig.strategy": "single",
             **part("gpu", "1g.5gb", count="2", replicas="10", product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED",
                    **{"sharing-strategy": "time-slicing"})},
            id="single-shared",
        ),
        *(
            pytest.param(
                gpus, "flags: {migStrategy: single}",
                {**A100, "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID", "gpu.count": "0", "gpu.replicas": "0",
                 "gpu.memory": "0", "mig.strategy": "single"},
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
            {**A100, "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID", "gpu.count": "0", "gpu.replicas": "0",
             "gpu.memory": "0", "mig.strategy": "single", "gpu.sharing-strategy": "time-slicing"},
            id="single-half-shared",
        ),
        pytest.param(
            [a100(0, "1g.5gb", "3g.20gb", "1g.5gb"), a100(1)], "flags: {migStrategy: mixed}",
            {**A100, "gpu.count": "2", "gpu.replicas": "1", "mig.strategy": "mixed",
             **part("mig-1g.5gb", "1g.5gb", count="2"), **part("mig-3g.20gb", "3g.20gb", count="1")},
            id="mixed",
        ),
        pytest.param(
            [a100(0, "1g.5gb+me")], "flags: {migStrategy: mixed}",
            {**A100, "gpu.count": "1", "gpu.replicas": "0", "mig.strategy": "mixed",
             **part("mig-1g.5gb.me", "1g.5gb+me", count="1")},
            id="mixed-media-extensions",
        ),
        pytest.param(
            [a100(0, "1g.5gb")], SHARED_MIG,
            {**A100, "gpu.count": "1", "gpu.replicas": "0", "mig.strategy": "mixed",
             **part("mig-1g.5gb", "1g.5gb", count="1", replicas="2", product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED",
                    **{"sharing-strategy": "time-slicing"})},
            id="mixed-shared",
        ),
        pytest.param(
            [h100(index) for index in range(8)], SHARED,
            {**H100, "gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED", "gpu.count": "8", "gpu.replicas": "10",
             "gpu.sharing-strategy": "time-slicing"},
            id="h100-shared",
        ),
        pytest.param(
            [h100(0)], RENAMED,
            {**H100, "gpu.count": "1", "gpu.replicas": "10", "gpu.sharing-strategy": "time-slicing"},
            id="h100-shared-under-another-name",
        ),
        pytest.param(
            [t4(0), h100(1), h100(2)], "", {**H100, "gpu.count": "2", "gpu.replicas": "1"}, id="two-models",
        ),
        pytest.param(
            [h100(0), t4(1)], "kubegpu: {gpus: {exclude: [1]}}", {**H100, "gpu.count": "1", "gpu.replicas": "1"},
            id="one-left-out",
        ),
    ],
)  # fmt: skip
def test_the_labels_of_known_machines(gpus, config, expected):
    assert of(*gpus, config=config) == {**COMMON, **expected}


def test_no_gpu_no_labels():
    assert of() == {}
    assert of(timestamp=1594644571) == {"gfd.timestamp": "1594644571"}


def test_what_is_not_known_is_left_out_or_unknown():
    made = of(replace(t4(), memory_bytes=0, compute=None), machine=Machine())
    assert made["gpu.machine"] == made["gpu.mode"] == "unknown"
    assert "gpu.memory" not in made
    assert "gpu.family" not in made
    rules = resolve({}, {}, {}).rules
    assert not [key for key in labels(Node((t4(),)), rules) if ".cuda." in key or "/cuda." in key]


def test_a_driver_version_of_two_numbers_has_an_empty_revision():
    rules = resolve({}, {}, {}).rules
    made = labels(Node((t4(),), "455.06"), rules)
    assert made["nvidia.com/cuda.driver-version.revision"] == made["nvidia.com/cuda.driver.rev"] == ""
    assert made["nvidia.com/cuda.driver-version.minor"] == "06"


def test_vgpu_and_display():
    made = of(t4(), machine=Machine("VM", 0x030000, ("525.60.12", "r525_00")))
    assert made["gpu.mode"] == "graphics"
    assert {key: value for key, value in made.items() if key.startswith("vgpu")} == {
        "vgpu.present": "true", "vgpu.host-driver-version": "525.60.12", "vgpu.host-driver-branch": "r525_00",
    }  # fmt: skip


def test_a_clique_is_named_only_when_all_agree():
    one, other = (replace(h100(0), clique=f"7b968a6d-c8aa-45e1-9e07-e1e51be99c31.{n}") for n in (1, 2))
    assert of(one, replace(one, index=1), h100(2))["gpu.clique"] == one.clique
    assert "gpu.clique" not in of(one, other)


@pytest.mark.parametrize(
    ("compute", "name"),
    [((1, 3), "tesla"), ((2, 1), "fermi"), ((5, 2), "maxwell"), ((6, 1), "pascal"), ((9, 0), "hopper"),
     ((3, 5), "kepler"), ((7, 0), "volta"), ((7, 5), "turing"), ((8, 6), "ampere"), ((8, 9), "ada-lovelace"),
     ((10, 0), "blackwell"), ((12, 0), "blackwell"), ((4, 0), "undefined"), ((99, 0), "undefined")],
)  # fmt: skip
def test_families(compute, name):
    assert family(compute) == name


def test_a_good_value_stays_as_it_is():
    for value in ("", "DGX-A100", "7b968a6d-c8aa-45e1-9e07-e1e51be99c31.1", "455.06", "a" * 63):
        assert valid(value) == value


def test_another_is_cut_to_what_kubernetes_takes():
    assert valid("a" * 64) == "a" * 63
    assert valid("-H100/80 GB_") == "H10080GB"
    assert valid("a" * 62 + "..") == "a" * 62


@given(st.text(max_size=200), st.text(max_size=200))
def test_every_value_is_one_that_kubernetes_takes(name, machine):
    made = of(replace(a100(0), name=name), machine=Machine(machine), config=SHARED)
    for value in made.values():
        assert len(value) <= 63
        assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?", value)


def test_the_file_is_what_nfd_reads():
    assert feature_file({"nvidia.com/gpu.count": "2", "nvidia.com/cuda.driver.rev": ""}) == (
        "nvidia.com/gpu.count=2\nnvidia.com/cuda.driver.rev=\n"
    )
