"""How the GPUs are connected: PCI and NVLink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pynvml

from ..model import Gpu, Link, Topology
from .errors import ReadError, read, text

_SWITCH = "switch"


def read_topology(gpus: Mapping[str, Gpu], handles: Mapping[str, Any]) -> Topology:
    """How all pairs of GPUs are connected; what cannot be read is left unknown, and the topology incomplete.

    gpus, handles: by UUID. Links to NVSwitches count for every pair that has such: any two ports of them are joined.
    """
    buses = {gpu.pci_bus_id.lower(): uuid for uuid, gpu in gpus.items()}
    failed = len(handles) < len(gpus)
    ends: dict[str, dict[str, int]] = {}
    for uuid, handle in handles.items():
        ends[uuid], complete = _nvlinks(handle, buses)
        failed |= not complete
    links = []
    uuids = sorted(handles)
    for at, one in enumerate(uuids):
        for other in uuids[at + 1 :]:
            level: int | None = None
            try:
                level = read(pynvml.nvmlDeviceGetTopologyCommonAncestor, handles[one], handles[other])
            except ReadError:
                failed = True
            direct = min(ends[one].get(other, 0), ends[other].get(one, 0))
            switched = min(ends[one].get(_SWITCH, 0), ends[other].get(_SWITCH, 0))
            links.append((one, other, Link(None if level is None else int(level), direct + switched)))
    return Topology(tuple(links), complete=not failed)


def _nvlinks(handle: Any, buses: Mapping[str, str]) -> tuple[dict[str, int], bool]:
    """How many active NVLinks lead from a GPU to each other GPU, by UUID, and to switches; whether all were read."""
    counts: dict[str, int] = {}
    complete = True
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            state = read(pynvml.nvmlDeviceGetNvLinkState, handle, link)
            if state is None:
                break
            if state != pynvml.NVML_FEATURE_ENABLED:
                continue
            kind = read(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link)
            if kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
                end: str | None = _SWITCH
            else:
                remote = read(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
                end = None if remote is None else buses.get(text(remote.busId).lower())
        except ReadError as error:
            if error.code == pynvml.NVML_ERROR_INVALID_ARGUMENT:
                break  # no link of this number
            complete = False
            continue
        if end is not None:
            counts[end] = counts.get(end, 0) + 1
    return counts, complete
