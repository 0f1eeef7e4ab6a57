"""The CDI specification that the role container_toolkit has nvidia-ctk write, kept fresh by a real systemd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle, PlaybookRun, wait_for

SPEC = cluster.Spec("cdi", gpus=2, kubernetes=False)
PLACE = "/etc/cdi/nvidia.yaml"
UNITS = ("kubegpu-cdi-refresh.path", "kubegpu-cdi-refresh.service")
THEIR_UNIT, THEIRS = "nvidia-cdi-refresh.service", "/run/cdi/nvidia.yaml"
THEIR_FILES = sorted([
    THEIRS,
    "/etc/systemd/system/multi-user.target.wants/nvidia-cdi-refresh.path",
    "/etc/systemd/system/multi-user.target.wants/nvidia-cdi-refresh.service",
])  # fmt: skip


@pytest.fixture(scope="module")
def node() -> Iterator[Handle]:
    with fresh_cluster(SPEC) as handle:
        yield handle


def role(node: Handle, *options: str, **variables: Any) -> PlaybookRun:
    everything = {f"container_toolkit_{key}": value for key, value in variables.items()}
    return node.playbook("site.yml", "--tags", "container_toolkit", "-e", json.dumps(everything), *options)


def works(node: Handle, *options: str, **variables: Any) -> PlaybookRun:
    run = role(node, *options, **variables)
    assert run.returncode == 0, run.output
    return run


def specification(node: Handle) -> dict[str, Any]:
    return dict(yaml.safe_load(node.execute("cat", PLACE)))


def written(node: Handle) -> str:
    return node.execute("stat", "-c", "%y %i", PLACE)


def there(node: Handle) -> list[str]:
    """What is left of CDI on the node, except for folders."""
    places = ("/etc/cdi", "/run/cdi", "/etc/systemd/system")
    names = ("(", "-name", "*nvidia*", "-o", "-name", "*cdi-refresh*", ")")
    return sorted(node.execute("find", *places, "!", "-type", "d", *names).split())


def test_a_specification_that_stays_fresh(node: Handle) -> None:
    node.execute("mkdir", "-p", "/etc/cdi", "/run/cdi")
    works(node, "--check", "--diff", cdi=True, cdi_spec=PLACE)
    assert there(node) == []
    works(node, cdi=True, cdi_spec=PLACE, cdi_device_names=["index", "uuid"])
    named = [device["name"] for device in specification(node)["devices"]]
    uuids = node.execute("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader").split()
    assert sorted(named) == sorted(["0", "1", "all", *uuids])
    assert specification(node)["kind"] == "nvidia.com/gpu"
    again = works(node, cdi=True, cdi_spec=PLACE, cdi_device_names=["index", "uuid"])
    assert again.changed == 0, again.output

    # A driver that is replaced: systemd sees it and has the file written anew, without anybody's doing.
    before = written(node)
    library = node.execute("readlink", "-f", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1").strip()
    node.execute("sh", "-c", f"cp {library} {library}.new && mv {library}.new {library}; touch -h "
                 "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1; touch /usr/bin/nvidia-smi")  # fmt: skip
    wait_for("a new specification", lambda: written(node) != before)

    # One that went while systemd did not look is mended by the next run.
    node.execute("rm", PLACE)
    assert works(node, cdi=True, cdi_spec=PLACE, cdi_device_names=["index", "uuid"]).changed > 0
    assert sorted(device["name"] for device in specification(node)["devices"]) == sorted(named)


def test_a_driver_that_does_not_answer_is_named(node: Handle) -> None:
    node.execute("rm", PLACE)
    node.execute("nvml-sim", "unload")
    try:
        run = role(node, cdi=True, cdi_spec=PLACE, cdi_device_names=["index", "uuid"])
        assert run.returncode != 0
        assert "The CDI specification /etc/cdi/nvidia.yaml" in " ".join(run.output.split()), run.output
        assert "nvidia-ctk asks the driver for its GPUs" in " ".join(run.output.split()), run.output
    finally:
        node.execute("nvml-sim", "load")


def test_the_toolkits_own_unit_stands_aside(node: Handle) -> None:
    """One writer: two specifications that name the same devices would hide each other."""
    works(node, cdi=False)
    wait_for("the specification of NVIDIA's unit", lambda: there(node) == THEIR_FILES)
    works(node, "--check", "--diff", cdi=True, cdi_spec=PLACE)
    assert there(node) == THEIR_FILES
    works(node, cdi=True, cdi_spec=PLACE)
    node.execute("sh", "-c", f"test -e {PLACE} && test ! -e {THEIRS}")
    node.execute("sh", "-c", f"systemctl restart {THEIR_UNIT}; test ! -e {THEIRS}")
    again = works(node, cdi=True, cdi_spec=PLACE)
    assert again.changed == 0, again.output
    works(node, cdi=False)
    wait_for("the specification of NVIDIA's unit", lambda: there(node) == THEIR_FILES)


def test_nothing_stays(node: Handle) -> None:
    works(node, cdi=True, cdi_spec=PLACE)
    works(node, state="absent")
    assert there(node) == []
    for unit in (*UNITS, THEIR_UNIT):
        assert "not-found" in node.execute("systemctl", "show", "-p", "LoadState", unit)
