# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a link of the chain looks like, and what is read from Kubernetes' objects to judge one."""

from __future__ import annotations

import re
from typing import Any, Iterable

from ..kubernetes.pods import ENDED, limits

PLUGIN_LABELS = {
    "app.kubernetes.io/name": "nvidia-device-plugin",
    "app.kubernetes.io/managed-by": "kubegpu.nvidia",
}

# as nvidia-smi -L prints them; MIG-GPU-<uuid>/<gpu instance>/<compute instance> before driver 470
_GPU = re.compile(r"(?<![\w-])GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w-])")
_MIG = re.compile(r"(?<![\w-])MIG-(?:GPU-[0-9a-f-]+/\d+/\d+|[0-9a-f-]{36})(?![\w-])")


def passed(name: str, detail: str) -> dict[str, str]:
    """A link that holds."""
    return {"name": name, "status": "passed", "detail": detail, "remedy": ""}


def failed(name: str, detail: str, remedy: str) -> dict[str, str]:
    """A link that is broken."""
    return {"name": name, "status": "failed", "detail": detail, "remedy": remedy}


def skipped(name: str, reason: str) -> dict[str, str]:
    """A link that could not be tried."""
    return {"name": name, "status": "skipped", "detail": reason, "remedy": ""}


def count(number: int, noun: str) -> str:
    """``1 GPU``, ``2 GPUs``."""
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def uuids(text: str) -> tuple[list[str], list[str]]:
    """The GPUs and the MIG devices that ``nvidia-smi -L`` listed.

    Args:
        text (str): its output, or the identifiers alone.

    Returns:
        tuple[list[str], list[str]]: identifiers of GPUs and of MIG devices, each once, in their order.
    """
    return list(dict.fromkeys(_GPU.findall(text))), list(dict.fromkeys(_MIG.findall(text)))


def plugin_pod(pods: Iterable[dict[str, Any]] | None) -> dict[str, Any] | None:
    """Our device plugin's newest pod of a node's pods, or None."""
    ours = [
        pod
        for pod in pods or []
        if all((pod["metadata"].get("labels") or {}).get(key) == value for key, value in PLUGIN_LABELS.items())
    ]
    return max(ours, key=lambda pod: pod["metadata"].get("creationTimestamp") or "") if ours else None


def takers(pods: Iterable[dict[str, Any]] | None, resource: str) -> dict[str, int]:
    """How much the pods that have not ended have of a resource.

    Returns:
        dict[str, int]: by ``namespace/name``.
    """
    found = {}
    for pod in pods or []:
        amount = limits(pod.get("spec") or {}, resource).get(resource, 0)
        if amount and (pod.get("status") or {}).get("phase") not in ENDED:
            found["%s/%s" % (pod["metadata"].get("namespace"), pod["metadata"].get("name"))] = amount
    return found


def quantity(node: dict[str, Any], kind: str, resource: str) -> int:
    """A whole-numbered resource of a node's ``capacity`` or ``allocatable``; 0 if it has none."""
    return int(((node.get("status") or {}).get(kind) or {}).get(resource, 0))


def condition(thing: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of a Kubernetes object as a dict, empty if it has none of that type."""
    conditions: list[dict[str, Any]] = (thing.get("status") or {}).get("conditions") or []
    for item in conditions:
        if item.get("type") == kind:
            return item
    return {}
