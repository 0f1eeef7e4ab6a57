# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which resources a node should have, from its GPUs and the device plugin's configuration.

The daemon's own rules are in its package, which the control host need not have; the unit tests hold the two against
each other over generated machines and configurations.
"""

from __future__ import annotations

from typing import Any, Mapping

Gpu = Mapping[str, Any]
Device = Mapping[str, Any]

DOMAIN = "nvidia.com/"
GPU = DOMAIN + "gpu"


def resources(
    facts: Mapping[str, Any], config: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> dict[str, int]:
    """How many devices of each resource the node should have.

    Args:
        facts (dict): ``nvidia_gpu`` of the facts: of each GPU ``index``, ``uuid``, ``name`` and ``mig``.
        config (dict): in the format of NVIDIA's device plugin; its errors are the plugin's business.
        env (dict): the plugin's environment, which wins over the configuration.

    Returns:
        dict[str, int]: by resource's name. A resource that is shared in part is there twice if its shared devices have
        another name, and one that has no devices may be there with 0.
    """
    gpus = [gpu for gpu in facts.get("gpus") or [] if _selected(gpu, _at(config, "kubegpu", "gpus"))]
    strategy = (env or {}).get("MIG_STRATEGY") or _at(config, "flags").get("migStrategy") or "none"
    plain: dict[str, list[Device]] = {}
    for name, device in _devices(gpus, strategy, _at(config, "resources")):
        plain.setdefault(name, []).append(device)
    if not plain:
        plain[GPU] = []
    return _shared(plain, _at(config, "sharing", "timeSlicing"))


def chosen(
    configs: Mapping[str, dict[str, Any]], name: str = "", default: str = "", single: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """The configuration that applies of several named ones, by the rules of NVIDIA's config manager.

    Args:
        configs (dict[str, dict]): by name; empty if there is only ``single``.
        name (str): the value of the node's label; empty for none.
        default (str): what applies without a label.
        single (dict): the configuration where there are no named ones.

    Returns:
        dict: the configuration, or None if none applies.
    """
    if not configs:
        return single or {}
    for wanted in (name, default):
        if wanted:
            return configs.get(wanted)
    if "default" in configs:
        return configs["default"]
    return next(iter(configs.values())) if len(configs) == 1 else None


def _at(tree: Any, *keys: str) -> Any:
    """The mapping at a path, empty if it is not there."""
    for key in keys:
        tree = (tree or {}).get(key)
    return tree or {}


def _matches(pattern: str, name: str) -> bool:
    """Whether a pattern, in which * stands for anything, matches the whole name."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        at = name.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(name) - at >= len(rest[-1]) and name.endswith(rest[-1])


def _qualified(name: str) -> str:
    return name if "/" in name else DOMAIN + name


def _selected(gpu: Gpu, rules: Mapping[str, Any]) -> bool:
    def fits(entry: int | str) -> bool:
        if isinstance(entry, int):
            return gpu.get("index") == entry
        if entry.startswith("GPU-"):
            return gpu.get("uuid") == entry
        return _matches(entry, gpu.get("name") or "")

    include = rules.get("include") or []
    wanted = not include or any(fits(entry) for entry in include)
    return wanted and not any(fits(entry) for entry in rules.get("exclude") or [])


def _devices(gpus: list[Gpu], strategy: str, patterns: Mapping[str, Any]) -> list[tuple[str, Device]]:
    """(resource, device) of each device before it is shared; a device has an ``index`` as text and a ``uuid``."""

    def named(kind: str, value: str, default: str) -> str:
        for entry in patterns.get(kind) or []:
            if _matches(entry["pattern"], value):
                return _qualified(entry["name"])
        return default

    split = [gpu for gpu in gpus if _instances(gpu) is not None] if strategy != "none" else []
    if strategy == "single" and split:
        profiles = {instance.get("profile") for gpu in split for instance in _instances(gpu) or []}
        uniform = len(split) == len(gpus) and all(_instances(gpu) for gpu in split) and len(profiles) == 1
        if not uniform:
            return []
    found: list[tuple[str, Device]] = []
    for gpu in sorted(gpus, key=lambda gpu: (gpu["index"], gpu.get("uuid") or "")):
        if gpu not in split:
            device = {"index": str(gpu["index"]), "uuid": gpu.get("uuid")}
            found.append((named("gpus", gpu.get("name") or "", GPU), device))
            continue
        for instance in sorted(_instances(gpu) or [], key=lambda instance: instance["index"]):
            profile = instance.get("profile") or ""
            default = GPU if strategy == "single" else "%smig-%s" % (DOMAIN, profile.replace("+", "."))
            device = {"index": "%s:%s" % (gpu["index"], instance["index"]), "uuid": instance.get("uuid")}
            found.append((named("mig", profile, default), device))
    return found


def _instances(gpu: Gpu) -> list[dict[str, Any]] | None:
    """The MIG devices of a GPU in MIG mode; None for any other."""
    mig = gpu.get("mig") or {}
    return (mig.get("instances") or []) if mig.get("mode") == "enabled" else None


def _shared(plain: Mapping[str, list[Device]], slicing: Mapping[str, Any]) -> dict[str, int]:
    suffix = ".shared" if slicing.get("renameByDefault") else ""
    counts: dict[str, int] = {}

    def add(name: str, number: int) -> None:
        counts[name] = counts.get(name, 0) + number

    for name, devices in plain.items():
        entries = [entry for entry in slicing.get("resources") or [] if _qualified(entry["name"]) == name]
        free = list(devices)
        for entry in entries:
            taken = _claimed(entry.get("devices"), free)
            free = [device for device in free if device not in taken]
            add(_qualified(entry.get("rename") or name + suffix), len(taken) * entry["replicas"])
        if free or not entries:
            add(name, len(free))
    return counts


def _claimed(wanted: Any, free: list[Device]) -> list[Device]:
    """The devices that an entry of the sharing means: all, the first so many, or some by index or UUID."""
    if wanted is None or wanted == "all":
        return free
    if isinstance(wanted, int):
        return free[:wanted]
    names = [str(entry) for entry in wanted]
    return [device for device in free if device["index"] in names or device["uuid"] in names]
