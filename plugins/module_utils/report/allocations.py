# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which pod has which device: read from the file in which the kubelet remembers it."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str) -> list[dict[str, Any]]:
    """Devices by the pod that has them.

    The file is ``/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint``. It has no documented format: this is
    what pkg/kubelet/cm/devicemanager/checkpoint of Kubernetes 1.10 to 1.34 writes. It also holds pods that have ended,
    until the next one starts; the caller knows which pods live.

    Args:
        text (str): the file's content. One that cannot be understood tells nothing.

    Returns:
        list[dict]: ``pod_uid``, ``container``, ``resource`` and ``devices`` (ids as the plugin gave them), sorted.
    """
    try:
        entries = json.loads(text)["Data"]["PodDeviceEntries"]
    except (ValueError, KeyError, TypeError):
        return []
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        found.append(
            {
                "pod_uid": "%s" % entry.get("PodUID", ""),
                "container": "%s" % entry.get("ContainerName", ""),
                "resource": "%s" % entry.get("ResourceName", ""),
                "devices": sorted(_devices(entry.get("DeviceIDs"))),
            }
        )
    return sorted(found, key=lambda entry: (entry["pod_uid"], entry["container"], entry["resource"]))


def _devices(ids: Any) -> list[str]:
    """A list until 1.19, from 1.20 on lists by NUMA node."""
    if isinstance(ids, dict):
        ids = [device for devices in ids.values() if isinstance(devices, list) for device in devices]
    return ["%s" % (device,) for device in ids] if isinstance(ids, list) else []


def gpu_of(device: str, gpus: list[dict[str, Any]]) -> int | None:
    """The GPU behind a device that a plugin advertised.

    Args:
        device (str): a UUID of a GPU or a MIG device, an index, or one of these with ``::<replica>``.
        gpus (list[dict]): GPUs with ``uuid``, ``index`` and ``mig`` (with the instances' ``uuid``).

    Returns:
        int | None: the GPU's index; None if no GPU has that device.
    """
    name = device.split("::")[0]
    for gpu in gpus:
        index: int = gpu["index"]
        if name and (name == gpu["uuid"] or name == "%s" % index):
            return index
        if name and name in [instance["uuid"] for instance in gpu["mig"]]:
            return index
    return None
