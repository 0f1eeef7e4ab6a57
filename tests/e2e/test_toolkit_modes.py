"""NVIDIA's runtime, hook and CDI generator in a real Docker: what a container gets in each of the toolkit's modes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster, images
from tests.sim.cluster.docker import DockerError
from tests.sim.cluster.use import Handle

SPEC = cluster.Spec("modes", gpus=2, kubernetes=False)
CONFIG = "/etc/nvidia-container-runtime/config.toml"

SEEN = """
import ctypes, glob, json, os, shutil, subprocess
found = {"nodes": sorted(os.path.basename(path) for path in glob.glob("/dev/nvidia*"))}
for name, function in (("ml", "nvmlInit_v2"), ("cuda", "cuInit")):
    try:
        library = ctypes.CDLL({"ml": "libnvidia-ml.so.1", "cuda": "libcuda.so.1"}[name])
        found[name] = getattr(library, function)(*([0] if name == "cuda" else []))
    except OSError:
        found[name] = None
found["smi"] = None
if shutil.which("nvidia-smi"):
    listed = subprocess.run(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True)
    found["smi"] = listed.stdout.split() if listed.returncode == 0 else listed.stdout.strip()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Handle]:
    """A node that the playbook has set up: Docker's default runtime is NVIDIA's."""
    with fresh_cluster(SPEC) as handle:
        done = handle.playbook("site.yml")
        assert done.returncode == 0, done.output
        yield handle


@pytest.fixture(scope="module")
def uuids(node: Handle) -> list[str]:
    return node.execute("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader").split()


def mode(node: Handle, name: str) -> None:
    node.execute("sed", "-i", f's/^mode = .*/mode = "{name}"/', CONFIG)
    assert f'mode = "{name}"' in node.execute("cat", CONFIG)


def container(node: Handle, *options: str) -> dict[str, object]:
    out = node.execute("docker", "run", "--rm", *options, images.BASE, "python3", "-c", SEEN)
    return dict(json.loads(out))


def asks(devices: str, **more: str) -> list[str]:
    variables = {"NVIDIA_VISIBLE_DEVICES": devices, **more}
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


NOTHING = {"nodes": [], "ml": None, "cuda": None, "smi": None}
UVM = ["nvidia-uvm", "nvidia-uvm-tools"]


def nodes(*gpus: int, control: tuple[str, ...] = ("nvidia-modeset", *UVM, "nvidiactl")) -> list[str]:
    return sorted([*control, *(f"nvidia{gpu}" for gpu in gpus)])


def test_the_toolkit_is_nvidias(node: Handle) -> None:
    assert node.execute("nvidia-ctk", "--version").splitlines()[0].endswith(" 1.20.2")
    assert "1.20.2" in node.execute("nvidia-container-runtime-hook", "--version")


@pytest.mark.parametrize(
    "options", [[], asks("void"), asks(""), ["--runtime=runc"]], ids=["unset", "void", "empty", "runc"]
)
def test_who_asks_for_nothing_gets_nothing(node: Handle, options: list[str]) -> None:
    assert container(node, *options) == NOTHING


@pytest.mark.parametrize("name", ["auto", "jit-cdi", "legacy"])
def test_all_and_one(node: Handle, uuids: list[str], name: str) -> None:
    mode(node, name)
    control = ("nvidia-modeset", *UVM, "nvidiactl") if name != "legacy" else (*UVM, "nvidiactl")
    everything = {"nodes": nodes(0, 1, control=control), "ml": 0, "cuda": 0, "smi": uuids}
    second = {"nodes": nodes(1, control=control), "ml": 0, "cuda": 0, "smi": uuids[1:]}
    assert container(node, *asks("all")) == everything
    assert container(node, *asks("1")) == second
    assert container(node, *asks(uuids[1])) == second
    assert container(node, *asks("none"))["nodes"] == nodes(control=control)
    mode(node, "auto")


def test_dockers_own_option(node: Handle, uuids: list[str]) -> None:
    assert container(node, "--gpus", "device=0")["smi"] == uuids[:1]
    legacy = container(node, "--runtime=runc", "--gpus", "all")  # Docker calls the hook itself
    assert legacy == {"nodes": nodes(0, 1, control=(*UVM, "nvidiactl")), "ml": 0, "cuda": 0, "smi": uuids}


def test_cdi_by_what_nvidias_unit_has_written(node: Handle, uuids: list[str]) -> None:
    assert "nvidia.com/gpu" in node.execute("cat", "/run/cdi/nvidia.yaml")
    assert container(node, *asks(f"nvidia.com/gpu={uuids[1]}"))["smi"] == uuids[1:]
    mode(node, "cdi")
    assert container(node, *asks("0"))["nodes"] == nodes(0)
    with pytest.raises(DockerError, match=r"unresolvable CDI devices nvidia\.com/gpu=7"):
        container(node, *asks("7"))
    mode(node, "auto")


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        pytest.param("utility", {"nodes": nodes(0, control=("nvidiactl",)), "ml": 0, "cuda": None}, id="utility"),
        pytest.param("compute", {"nodes": nodes(0, control=(*UVM, "nvidiactl")), "ml": None, "cuda": 0, "smi": None},
                     id="compute"),
        pytest.param("display", {"nodes": nodes(0, control=("nvidia-modeset", "nvidiactl")), "ml": None, "cuda": None},
                     id="display"),
    ],
)  # fmt: skip
def test_legacy_honours_capabilities(node: Handle, capabilities: str, wanted: dict[str, object]) -> None:
    mode(node, "legacy")
    found = container(node, *asks("0", NVIDIA_DRIVER_CAPABILITIES=capabilities))
    assert {key: found[key] for key in wanted} == wanted
    mode(node, "auto")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(asks("9"), "nvidia-container-cli: device error: 9: unknown device", id="device"),
        pytest.param(asks("0", NVIDIA_DRIVER_CAPABILITIES="magic"), "unsupported capabilities found in 'magic'",
                     id="capability"),
        pytest.param(asks("0", NVIDIA_REQUIRE_CUDA="cuda>=99.0"),
                     "requirement error: unsatisfied condition: cuda>=99.0", id="requirement"),
        pytest.param(asks("0", NVIDIA_MIG_MONITOR_DEVICES="all"),
                     "cannot set MIG_MONITOR_DEVICES in non privileged container", id="monitor"),
    ],
)  # fmt: skip
def test_legacy_refuses(node: Handle, options: list[str], said: str) -> None:
    mode(node, "legacy")
    with pytest.raises(DockerError) as refused:
        container(node, *options)
    assert said in str(refused.value)
    mode(node, "auto")


def test_mig_monitor_is_for_who_has_the_right(node: Handle, uuids: list[str]) -> None:
    mode(node, "legacy")
    found = container(node, "--cap-add=SYS_ADMIN", *asks("0", NVIDIA_MIG_MONITOR_DEVICES="all"))
    assert found["smi"] == uuids[:1]
    mode(node, "auto")


@pytest.mark.parametrize("name", ["auto", "legacy"])
def test_the_variable_can_be_left_to_the_privileged(node: Handle, uuids: list[str], name: str) -> None:
    setting = "accept-nvidia-visible-devices-envvar-when-unprivileged"
    mode(node, name)
    node.execute("sed", "-i", f"s/^#*{setting} = .*/{setting} = false/", CONFIG)
    assert container(node, *asks("all")) == NOTHING
    assert container(node, "--cap-add=SYS_ADMIN", *asks("1"))["smi"] == uuids[1:]
    node.execute("sed", "-i", f"s/^{setting} = .*/{setting} = true/", CONFIG)
    mode(node, "auto")
