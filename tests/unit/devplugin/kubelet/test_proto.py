from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from nvidia_devplugin.kubelet import proto
from nvidia_devplugin.kubelet.proto import deviceplugin_pb2 as pb
from nvidia_devplugin.kubelet.proto import deviceplugin_pb2_grpc, podresources_pb2, podresources_pb2_grpc

PROJECT = Path(proto.__file__).parents[4]


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """The directory with what the script generates now."""
    out = tmp_path_factory.mktemp("proto")
    subprocess.run([PROJECT / "scripts/generate-proto", sys.executable, out], check=True)
    return out / "nvidia_devplugin/kubelet/proto"


@pytest.mark.parametrize("messages", [pb, podresources_pb2], ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_committed_messages_are_those_of_the_proto_file(generated, messages):
    fresh = (generated / Path(messages.__file__).name).read_text()
    committed = Path(messages.__file__).read_text()

    def descriptor(text):
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        (call,) = [call for call in calls if getattr(call.func, "attr", "") == "AddSerializedFile"]
        return ast.literal_eval(call.args[0])

    assert descriptor(fresh) == descriptor(committed)
    stubs = Path(messages.__file__).with_suffix(".pyi")
    assert (generated / stubs.name).read_text() == stubs.read_text()


@pytest.mark.parametrize("stubs", [deviceplugin_pb2_grpc, podresources_pb2_grpc], ids=lambda module: module.__name__)
def test_the_committed_stubs_are_those_of_the_proto_file(generated, stubs):
    fresh, committed = (
        [line for line in path.read_text().splitlines() if not line.startswith("GRPC_GENERATED_VERSION = ")]
        for path in (generated / Path(stubs.__file__).name, Path(stubs.__file__))
    )
    assert fresh == committed


def test_bytes_on_the_wire():
    """Tag = field number * 8 + wire type; the numbers are the kubelet's."""
    request = pb.RegisterRequest(version="v", endpoint="e", resource_name="r")
    request.options.get_preferred_allocation_available = True
    assert request.SerializeToString() == b"\x0a\x01v\x12\x01e\x1a\x01r\x22\x02\x10\x01"
    device = pb.Device(ID="i", health="h")
    device.topology.nodes.add(ID=1)
    assert pb.ListAndWatchResponse(devices=[device]).SerializeToString() == (
        b"\x0a\x0c\x0a\x01i\x12\x01h\x1a\x04\x0a\x02\x08\x01"
    )
    container = pb.ContainerAllocateResponse(envs={"k": "v"})
    container.devices.add(container_path="c", host_path="h", permissions="p")
    container.cdi_devices.add(name="n")
    assert container.SerializeToString() == (
        b"\x0a\x06\x0a\x01k\x12\x01v\x1a\x09\x0a\x01c\x12\x01h\x1a\x01p\x2a\x03\x0a\x01n"
    )
