"""From GPUs to advertised devices: selection, MIG strategy, names, sharing. Pure.

The rules are those of NVIDIA's plugin. Where theirs ends the process (MIG instances that the strategy single cannot
name, for example), ours advertises nothing for what is wrong and says so: MIG can be reconfigured while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..config.resource_rules import DOMAIN, NamePattern, Rules, Shared, matches, qualified
from ..model import AdvertisedDevice, Gpu, MigDevice, Resource

GPU_RESOURCE = DOMAIN + "gpu"
DEFAULT_RULES = Rules()


@dataclass(frozen=True)
class Layout:
    """What to advertise, and what is wrong with the machine or the settings: sentences for the operator."""

    resources: tuple[Resource, ...]
    problems: tuple[str, ...] = ()


def resources(gpus: Sequence[Gpu], rules: Rules = DEFAULT_RULES) -> tuple[Resource, ...]:
    """The resources of layout(), without what is wrong."""
    return layout(gpus, rules).resources


def layout(gpus: Sequence[Gpu], rules: Rules = DEFAULT_RULES) -> Layout:
    """Every GPU or MIG device as one device, named by its UUID: stable over reboots, and what NVIDIA's plugin uses.

    A shared one is as many devices as it has replicas, `<uuid>::<n>`.
    """
    problems: list[str] = []
    chosen = [gpu for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid)) if selected(gpu, rules)]
    if gpus and not chosen:
        problems.append("kubegpu.gpus selects none of the GPUs")
    plain: dict[str, list[AdvertisedDevice]] = {}
    for name, device in _named(chosen, rules, problems):
        plain.setdefault(name, []).append(device)
    if not plain:
        plain[GPU_RESOURCE] = []  # so that the kubelet learns of zero
    return Layout(tuple(_share(plain, rules, problems)), tuple(problems))


def remembered(known: Sequence[Gpu], seen: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """`seen`, and those of `known` that are not among them: a GPU that vanished stays advertised, as unhealthy."""
    uuids = {gpu.uuid for gpu in seen}
    return (*seen, *(gpu for gpu in known if gpu.uuid not in uuids))


def selected(gpu: Gpu, rules: Rules) -> bool:
    """Whether the settings want this GPU advertised."""
    of = (gpu.index, gpu.uuid, gpu.name)
    wanted = not rules.include or any(entry.selects(*of) for entry in rules.include)
    return wanted and not any(entry.selects(*of) for entry in rules.exclude)


def _named(gpus: Sequence[Gpu], rules: Rules, problems: list[str]) -> Iterator[tuple[str, AdvertisedDevice]]:
    """Devices as they are before sharing, each with its resource's name."""
    if rules.mig_strategy != "none":
        problems += [
            f"GPU {gpu.index} is not offered: its MIG mode cannot be read" for gpu in gpus if gpu.mig_enabled is None
        ]
        gpus = [gpu for gpu in gpus if gpu.mig_enabled is not None]
    split = [gpu for gpu in gpus if gpu.mig_enabled] if rules.mig_strategy != "none" else []
    if rules.mig_strategy == "single" and split:
        wrong = not_uniform(gpus, split)
        if wrong:
            problems.append(f"MIG strategy single: {wrong}; nothing is advertised until that is changed")
            return
    for gpu in gpus:
        if gpu not in split:
            yield gpu_resource(gpu, rules), AdvertisedDevice(gpu.uuid, gpu)
            continue
        if not gpu.mig:
            problems.append(f"GPU {gpu.index} has MIG enabled and no MIG devices: make some with nvidia-smi mig -cgi")
        for mig in sorted(gpu.mig, key=lambda mig: mig.index):
            yield mig_resource_of(mig, rules), AdvertisedDevice(mig.uuid, gpu, mig)


def gpu_resource(gpu: Gpu, rules: Rules) -> str:
    """What a GPU as a whole is advertised as before it is shared."""
    return _rename(rules.gpu_names, gpu.name, GPU_RESOURCE)


def mig_resource_of(mig: MigDevice, rules: Rules) -> str:
    """What a MIG device is advertised as before it is shared."""
    default = GPU_RESOURCE if rules.mig_strategy == "single" else mig_resource(mig.profile)
    return _rename(rules.mig_names, mig.profile, default)


def mig_resource(profile: str) -> str:
    """nvidia.com/mig-1g.10gb; a + (1g.10gb+me) is not allowed in a resource's name and becomes a dot."""
    return f"{DOMAIN}mig-{profile.replace('+', '.')}"


def not_uniform(gpus: Sequence[Gpu], split: Sequence[Gpu]) -> str | None:
    """Why the strategy single cannot be followed; None if it can. split: those of the GPUs that have MIG enabled."""
    whole = [str(gpu.index) for gpu in gpus if not gpu.mig_enabled]
    if whole:
        return f"MIG is enabled on some GPUs but not on GPU {', '.join(whole)}"
    empty = [str(gpu.index) for gpu in split if not gpu.mig]
    if empty:
        return f"GPU {', '.join(empty)} has MIG enabled and no MIG devices"
    profiles = sorted({mig.profile for gpu in split for mig in gpu.mig})
    return f"there are MIG devices of several profiles ({', '.join(profiles)})" if len(profiles) > 1 else None


def _rename(patterns: Iterable[NamePattern], value: str, default: str) -> str:
    """The name of the first pattern that matches; the default where none does."""
    return next((qualified(entry.name) for entry in patterns if matches(entry.pattern, value)), default)


def _share(plain: dict[str, list[AdvertisedDevice]], rules: Rules, problems: list[str]) -> Iterator[Resource]:
    advertised: dict[str, list[AdvertisedDevice]] = {}
    sharing: set[str] = set()
    for name, devices in plain.items():
        entries = [entry for entry in rules.shared if entry.name == name]
        if not entries:
            advertised.setdefault(name, [])
        claimed = _claims(devices, entries, problems)
        for device in devices:
            entry = claimed.get(device.uuid)
            if entry is None:
                advertised.setdefault(name, []).append(device)
                continue
            sharing.add(entry.rename)
            advertised.setdefault(entry.rename, []).extend(
                AdvertisedDevice(f"{device.uuid}::{number}", device.gpu, device.mig, number)
                for number in range(entry.replicas)
            )
        for entry in entries:  # a shared resource whose devices are gone stays, with none
            advertised.setdefault(entry.rename, [])
    for name in sorted(advertised):
        yield Resource(name, tuple(advertised[name]), rules.single_requests and name in sharing)


def _claims(devices: Sequence[AdvertisedDevice], entries: Sequence[Shared], problems: list[str]) -> dict[str, Shared]:
    """Which entry shares which device, by uuid. The first that names a device has it."""
    claimed: dict[str, Shared] = {}
    for entry in entries:
        free = [device for device in devices if device.uuid not in claimed]
        if isinstance(entry.devices, tuple):
            known = {name: device for device in devices for name in (device.index, device.uuid)}
            missing = [name for name in entry.devices if name not in known]
            if missing:
                problems.append(f"sharing of {entry.name}: no device {', '.join(missing)}")
            free = [device for device in free if device.index in entry.devices or device.uuid in entry.devices]
        elif entry.devices is not None:
            if entry.devices > len(free):
                problems.append(f"sharing of {entry.name}: {entry.devices} devices wanted, {len(free)} there")
            free = free[: entry.devices]
        claimed.update((device.uuid, entry) for device in free)
    return claimed
