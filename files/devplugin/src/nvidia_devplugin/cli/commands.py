"""The commands that end by themselves: validate a file, show what would be advertised, acknowledge a fault."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..config.named_configs import ChoiceFile, Source
from ..config.settings import Config, ConfigError, load, parse, resolve
from ..control.server import ask, directory
from ..devices.resources import Layout, layout
from ..labels.feature_labels import feature_file
from ..labels.label_writer import NodeLabels
from ..model import HEALTHY, UNHEALTHY, AdvertisedDevice, Inventory, fault_of


def run(command: str, arguments: Sequence[str], parser: argparse.ArgumentParser) -> int:
    """The process' exit status: 0 all right, 1 nothing or not all can be advertised, 2 wrong settings.

    parser: that of the daemon's flags.
    """
    if command == "devices":
        parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print the devices")
    elif command == "labels":
        parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print the labels")
    elif command == "ack":
        parser.add_argument("gpu", metavar="GPU", help="UUID or index of the GPU or MIG device")
    else:
        parser.add_argument("file", metavar="FILE", help="the config file to check")
    flags = vars(parser.parse_args(arguments))
    gpu = flags.pop("gpu", None)
    output, path = flags.pop("output", "text"), flags.pop("file", None)
    if path is not None:
        flags["config_file"] = path
    try:
        # validate is about the file: what happens to be set where it runs must not decide
        env = {} if path is not None else dict(os.environ)
        config = load(flags, env)
        config = resolve(_in_force(config), env, flags) if config.config_directory is not None else config
    except ConfigError as error:
        print(f"nvidia-devplugin: {error}", file=sys.stderr)
        return 2
    if path is not None:
        print(f"{path}: valid" + (f"; without effect here: {', '.join(config.inert)}" if config.inert else ""))
        return 0
    if command == "labels":
        return _labels(config, output)
    return _acknowledge(config, gpu) if gpu is not None else _devices(config, output)


def _in_force(config: Config) -> dict[str, Any]:
    """Of several named configs the one that the daemon on this machine has in force, else that for nodes without label.

    Raises ConfigError.
    """
    last = ChoiceFile(directory(config.kubelet_socket)).recall()
    if last is not None:
        return parse(last.data)
    source = Source.of(config)
    return parse(b"" if source is None else source.read("")[1])


def _acknowledge(config: Config, gpu: str) -> int:
    where = directory(config.kubelet_socket)
    try:
        uuid = ask(where, f"ack {gpu}")
    except ValueError as error:
        print(f"nvidia-devplugin: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"nvidia-devplugin: no daemon answers on {where}/ack.sock: {error}", file=sys.stderr)
        return 1
    print(f"{uuid}: acknowledged")
    return 0


def _inventory() -> Inventory | None:
    """What the driver shows; None, and said why, if it shows nothing."""
    from ..nvml.errors import NvmlUnavailableError
    from ..nvml.session import NvmlSession

    try:
        with NvmlSession() as session:
            return session.inventory()
    except NvmlUnavailableError as error:
        print(f"nvidia-devplugin: {error}. What to do: {error.gone.hint}", file=sys.stderr)
        return None


def _labels(config: Config, output: str) -> int:
    inventory = _inventory()
    if inventory is None:
        return 1
    node = NodeLabels(config)
    node.update(inventory.gpus, inventory.driver_version, inventory.cuda_version)
    print(json.dumps(node.current, indent=2) + "\n" if output == "json" else feature_file(node.current), end="")
    return 0


def _devices(config: Config, output: str) -> int:
    inventory = _inventory()
    if inventory is None:
        return 1
    made = layout(inventory.gpus, config.rules)
    shown = describe(made, inventory)
    print(json.dumps(shown, indent=2) if output == "json" else "\n".join(_lines(shown)))
    for problem in (*made.problems, *inventory.unreadable):
        print(f"nvidia-devplugin: {problem}", file=sys.stderr)
    return 1 if made.problems or inventory.unreadable or not any(r.devices for r in made.resources) else 0


def describe(made: Layout, inventory: Inventory) -> dict[str, Any]:
    """What is advertised, for JSON. Health is what the driver says now; XIDs of the past are not known here."""
    faults = dict(inventory.faults)

    def one(device: AdvertisedDevice) -> dict[str, Any]:
        fault = fault_of(device, faults)
        return {
            "id": device.id,
            "index": device.index,
            "model": device.gpu.name,
            "profile": device.mig.profile if device.mig else None,
            "gpuInstance": device.mig.gi if device.mig else None,
            "computeInstance": device.mig.ci if device.mig else None,
            "replica": device.replica,
            "memoryBytes": device.mig.memory_bytes if device.mig else device.gpu.memory_bytes,
            "pciBusId": device.gpu.pci_bus_id,
            "numaNode": device.gpu.numa_node,
            "health": UNHEALTHY if fault else HEALTHY,
            "reason": fault.message if fault else None,
        }

    return {
        "driverVersion": inventory.driver_version,
        "resources": {
            resource.name: {
                "failRequestsGreaterThanOne": resource.single_requests,
                "devices": [one(device) for device in resource.devices],
            }
            for resource in made.resources
        },
        "problems": list(made.problems),
    }


def _lines(shown: dict[str, Any]) -> list[str]:
    lines = []
    for name, resource in shown["resources"].items():
        devices = resource["devices"]
        lines.append(f"{name} ({len(devices)} device{'' if len(devices) == 1 else 's'})")
        for device in devices:
            what = device["model"] + (f" MIG {device['profile']}" if device["profile"] else "")
            node = "" if device["numaNode"] is None else f", NUMA node {device['numaNode']}"
            why = f": {device['reason']}" if device["reason"] else ""
            size = f"{device['memoryBytes'] // 2**20} MiB"
            lines.append(f"  {device['id']}  {device['index']}  {what}, {size}{node}  {device['health']}{why}")
    return lines
