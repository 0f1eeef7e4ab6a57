"""Who may import whom in the daemon: data flows one way, and the rooms that decide touch nothing."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import nvidia_devplugin

PACKAGE = Path(nvidia_devplugin.__file__).parent
ALLOWED = {
    "values": set(),
    "lean": set(),
    "model": set(),
    "schema": set(),
    "logs": set(),
    "inotify": set(),
    "exposition": set(),
    "instruments": set(),
    "podresources": {"proto", "rpc"},
    "services": {"proto", "rpc"},
    "telemetry": set(),
    "sockets": set(),
    "statefile": set(),
    "yamlfile": set(),
    "rules": set(),
    "mig": set(),
    "options": {"checks", "policy", "schema", "logs", "rules"},
    "config": {"options", "rules", "schema", "yamlfile"},
    "configs": {"config", "logs", "schema", "statefile"},
    "reload": {"config", "configs", "inotify", "logs"},
    "policy": {"model"},
    "checks": {"model"},
    "recovery": {"model", "policy"},
    "health": {"model", "policy", "recovery"},
    "memory": {"health", "logs", "statefile"},
    "bulletin": {"health", "model"},
    "control": {"logs", "sockets"},
    "wiring": set(),
    "preference": {"model", "wiring"},
    "resources": {"model", "rules"},
    "allocation": {"model", "config"},
    "labels": {"model", "resources", "rules"},
    "machine": {"labels", "logs"},
    "labelling": {"config", "labels", "logs", "machine", "model"},
    "nvml": {"checks", "mig", "model", "logs"},
    "metrics": {"exposition", "instruments", "logs", "model", "podresources", "telemetry"},
    "probes": {"exposition", "logs"},
    "plugin": {
        *("allocation", "config", "instruments", "logs", "model", "preference", "proto", "rpc", "services", "sockets"),
    },
    "kubelet": {"inotify", "instruments", "logs", "proto", "rpc", "services", "sockets"},
    "fleet": {"config", "instruments", "kubelet", "logs", "model", "plugin"},
    "devices": {"config", "health", "logs", "model", "policy", "resources"},
    "app": {
        *("bulletin", "config", "configs", "control", "devices", "fleet", "labelling", "logs", "memory", "metrics"),
        *("model", "nvml", "podresources", "policy", "probes", "reload", "telemetry"),
    },
    "commands": {"config", "configs", "control", "labelling", "labels", "model", "nvml", "resources"},
    "__main__": {"agent", "app", "commands", "config", "lean", "logs", "options"},
}
DRIVER = {"nvml", "telemetry"}
PURE = {"model", "schema", "options", "health", "preference", "resources", "allocation", "rules", "mig"}
PURE |= {"exposition", "wiring", "policy", "checks", "recovery", "labels"}
EFFECTS = {"asyncio", "ngh2", "os", "socket", "subprocess", "threading", "time", "pynvml"}


def imports(room: str) -> tuple[set[str], set[str]]:
    """Rooms of ours, and modules of others, that a room imports anywhere."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse((PACKAGE / f"{room}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            ours |= {name.split(".")[0] for name in names} - {"__version__"}
        elif isinstance(node, ast.ImportFrom):
            others.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
    return ours, others


def test_every_room_is_listed():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room):
    ours, others = imports(room)
    assert ours - ALLOWED[room] - {"values"} == set(), "what makes classes is for all"
    assert ("pynvml" in others) == (room in DRIVER), "only these touch the driver"
    if room in PURE:
        assert others & EFFECTS == set()
    assert others - set(sys.stdlib_module_names) <= {"google", "pynvml", "yaml"}


AGENT = {
    "__init__": set(),
    "state": set(),
    "retry": set(),
    "decide": {"state"},
    "events": {"state"},
    "api": set(),
    "daemon": {"state", "sockets"},
    "trouble": {"api"},
    "run": {"api", "daemon", "decide", "events", "retry", "state", "trouble", "logs"},
    "command": {"api", "daemon", "decide", "run", "logs"},
}


def test_the_agent_knows_nothing_of_gpus_and_needs_no_library():
    assert {path.stem for path in (PACKAGE / "agent").glob("*.py")} == set(AGENT)
    for room, allowed in AGENT.items():
        ours, others = set(), set()
        for node in ast.walk(ast.parse((PACKAGE / "agent" / f"{room}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                ours |= {node.module} if node.module else {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                others.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Import):
                others |= {alias.name.split(".")[0] for alias in node.names}
        assert ours - allowed == set(), room
        assert others <= set(sys.stdlib_module_names), room
        assert "asyncio" not in others, room
        if room in ("state", "decide", "events", "trouble"):
            assert others & EFFECTS == set(), room


RPC = {"__init__": set(), "status": set(), "authority": set(), "framing": {"status"}, "client": {"framing", "status"}}
RPC["server"] = {"authority", "framing", "status", "logs", "sockets"}


def test_grpc_knows_nothing_of_messages_and_is_alone_with_http():
    assert {path.stem for path in (PACKAGE / "rpc").glob("*.py")} == set(RPC)
    for room, allowed in RPC.items():
        ours, others = imports(f"rpc/{room}")
        assert ours - allowed == set(), room
        assert others - set(sys.stdlib_module_names) <= {"ngh2"}, room
        if room in ("status", "framing", "authority"):
            assert others & EFFECTS == set(), room
