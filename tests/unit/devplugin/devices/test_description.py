from __future__ import annotations

from dataclasses import replace

from nvidia_devplugin.config.resource_rules import Rules
from nvidia_devplugin.devices.description import describe
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.model import Fault, MigDevice
from tests.unit.devplugin.strategies import gpu

MIG = MigDevice(0, "MIG-a", "1g.10gb", 7, 3, memory_bytes=10 * 2**30)
SPLIT = replace(gpu(1), mig_enabled=True, mig=(MIG, replace(MIG, index=1, uuid="MIG-b")))


def test_each_device_has_what_an_operator_asks_for():
    made = layout((gpu(0), SPLIT), Rules(mig_strategy="mixed"))
    found = describe(made.resources, {"MIG-b": Fault("xid_94", "XID 94: contained")}, "550.54", ("a problem",))
    assert (found["driverVersion"], found["problems"]) == ("550.54", ["a problem"])
    whole, first, second = (device for each in found["resources"].values() for device in each["devices"])
    assert (whole["id"], whole["profile"], whole["health"]) == (gpu(0).uuid, None, "Healthy")
    assert (first["index"], first["gpuInstance"], first["computeInstance"]) == ("1:0", 7, 3)
    assert first["memoryBytes"] == 10 * 2**30
    assert (first["health"], second["health"], second["reason"]) == ("Healthy", "Unhealthy", "XID 94: contained")
