# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Pod object asks for."""

from __future__ import annotations

from typing import Any

ENDED = ("Succeeded", "Failed")
"""Phases in which a pod holds nothing any more."""


def quantity(value: Any) -> int:
    """A whole-numbered quantity; GPUs are never given in parts. What is none counts as 0."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def limits(spec: dict[str, Any], prefix: str) -> dict[str, int]:
    """What a pod holds of extended resources, as the scheduler counts.

    Init containers run one after the other and before the others; those that restart (sidecars) stay beside all that
    come after them. https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers

    Args:
        spec (dict): the pod's ``spec``.
        prefix (str): of the resources that matter.

    Returns:
        dict[str, int]: by resource, in no order that matters; without those that come to nothing.
    """
    staying: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or []:
        stays = container.get("restartPolicy") == "Always"
        for name, number in _of_container(container, prefix).items():
            beside = staying.get(name, 0) + number
            peak[name] = max(peak.get(name, 0), beside)
            if stays:
                staying[name] = beside
    for container in spec.get("containers") or []:
        for name, number in _of_container(container, prefix).items():
            staying[name] = staying.get(name, 0) + number
    needed = {name: max(staying.get(name, 0), peak.get(name, 0)) for name in [*staying, *peak]}
    return {name: number for name, number in needed.items() if number > 0}


def _of_container(container: dict[str, Any], prefix: str) -> dict[str, int]:
    wanted = (container.get("resources") or {}).get("limits") or {}
    return {name: quantity(value) for name, value in wanted.items() if name.startswith(prefix)}
