"""nvidia-devplugin devices: print what the daemon on this machine advertises, or would advertise."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..control.server import ask
from ..devices.description import describe
from ..devices.resources import layout
from .common import current, daemon_directory, no_daemon, read_driver, report

_ANSWER_SECONDS = 30.0
_ABOUT_THE_DAEMON = {"kubelet_socket", "log_level", "log_format"}
"""Flags that change nothing of what is advertised."""

_NO_HISTORY = "health is what the driver says now, earlier XIDs are not known"


def run(arguments: Sequence[str], parser: argparse.ArgumentParser) -> int:
    parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print the devices")
    flags = vars(parser.parse_args(arguments))
    output = flags.pop("output")
    found: dict[str, Any] | None = None
    if set(flags) - _ABOUT_THE_DAEMON:
        report(f"this is what these flags would advertise: {_NO_HISTORY}")
        found = _read(flags)
    else:
        where = daemon_directory(flags)
        try:
            found = json.loads(ask(where, "devices", _ANSWER_SECONDS))
        except ValueError as error:
            report(error)
        except OSError as error:
            report(f"{no_daemon(where, error)}: {_NO_HISTORY}")
            found = _read(flags)
    if found is None:
        return 1
    print(json.dumps(found, indent=2) if output == "json" else "\n".join(_lines(found)))
    for problem in found["problems"]:
        report(problem)
    return 1 if found["problems"] or not any(each["devices"] for each in found["resources"].values()) else 0


def _read(flags: Mapping[str, str]) -> dict[str, Any] | None:
    """What would be advertised with these flags; None if the driver cannot be used. Raises ConfigError."""
    config = current(flags)
    inventory = read_driver(config)
    if inventory is None:
        return None
    made = layout(inventory.gpus, config.rules)
    problems = (*made.problems, *inventory.unreadable)
    return describe(made.resources, dict(inventory.faults), inventory.driver_version, problems)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, resource in found["resources"].items():
        devices = resource["devices"]
        lines.append(f"{name} ({len(devices)} device{'' if len(devices) == 1 else 's'})")
        for device in devices:
            model = device["model"] + (f" MIG {device['profile']}" if device["profile"] else "")
            size = f"{device['memoryBytes'] // 2**20} MiB"
            node = "" if device["numaNode"] is None else f", NUMA node {device['numaNode']}"
            reason = f": {device['reason']}" if device["reason"] else ""
            lines.append(f"  {device['id']}  {device['index']}  {model}, {size}{node}  {device['health']}{reason}")
    return lines
