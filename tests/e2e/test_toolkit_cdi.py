"""The CDI specification that the role container_toolkit has nvidia-ctk write, kept fresh by a real systemd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster
from tests.sim.cluster.use import Handle, PlaybookRun, wait_for

SPEC = cluster.Spec("cdi", gpus=2, kubernetes=False)
PLACE = "/etc/cdi/nvidia.yaml"
UNITS = ("kubegpu-cdi-refresh.path", "kubegpu-cdi-refresh.service")


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
    return dict(json.loads(node.execute("cat", PLACE)))  # nvidia-ctk may write YAML of either form


def written(node: Handle) -> str:
    return node.execute("stat", "-c", "%y %i", PLACE)


def there(node: Handle) -> str:
    """What is left of CDI on the node."""
    return node.execute("find", "/etc/cdi", "/run/cdi", "/etc/systemd/system", "-name", "*nvidia*", "-o", "-name",
                        "*cdi-refresh*")  # fmt: skip


def test_a_specification_that_stays_fresh(node: Handle) -> None:
    node.execute("mkdir", "-p", "/etc/cdi", "/run/cdi")
    works(node, "--check", "--diff", cdi=True, cdi_spec=PLACE)
    assert there(node) == ""
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


VENDOR = """[Unit]
Description=As toolkits from 1.18 on bring it
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml
"""


def test_the_toolkits_own_unit_stands_aside(node: Handle) -> None:
    """One writer: two specifications that name the same devices would hide each other."""
    unit, theirs = "nvidia-cdi-refresh.service", "/run/cdi/nvidia.yaml"
    node.execute("sh", "-c", f"printf '%s' '{VENDOR}' > /usr/lib/systemd/system/{unit}; systemctl daemon-reload;"
                 f" systemctl start {unit}; test -e {theirs}")  # fmt: skip
    works(node, "--check", "--diff", cdi=True, cdi_spec=PLACE)
    node.execute("test", "-e", theirs)
    works(node, cdi=True, cdi_spec=PLACE)
    node.execute("sh", "-c", f"test -e {PLACE} && test ! -e {theirs}")
    node.execute("sh", "-c", f"systemctl restart {unit}; test ! -e {theirs}")
    again = works(node, cdi=True, cdi_spec=PLACE)
    assert again.changed == 0, again.output
    works(node, cdi=False)
    node.execute("sh", "-c", f"test ! -e {PLACE} && test -e {theirs} && test ! -e /etc/systemd/system/{unit}.d")
    node.execute(
        "sh", "-c", f"systemctl stop {unit}; rm {theirs} /usr/lib/systemd/system/{unit}; systemctl daemon-reload"
    )


def test_nothing_stays(node: Handle) -> None:
    works(node, cdi=True, cdi_spec=PLACE)
    works(node, cdi=False)
    assert there(node) == ""
    works(node, cdi=True, cdi_spec=PLACE)
    works(node, state="absent")
    assert there(node) == ""
    for unit in UNITS:
        assert "not-found" in node.execute("systemctl", "show", "-p", "LoadState", unit)
