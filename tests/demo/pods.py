"""Pods that ask for GPUs, as the demo and the end-to-end test create them."""

from __future__ import annotations

import re
from typing import Any

from tests.sim.cluster import images

IMAGE = f"docker.io/{images.BASE}"
SHOW_GPUS = "nvidia-smi -L; exec sleep 600"
"""A script that prints what the driver shows in the container: with CDI the environment does not say it."""


def gpus_shown(log: str) -> list[str]:
    """The devices in the log of SHOW_GPUS: UUIDs of MIG devices if there are any, else of GPUs; none before it ran."""
    return re.findall(r"UUID: (MIG-[\w-]+)\)", log) or re.findall(r"UUID: (GPU-[\w-]+)\)", log)


def gpu_pod(name: str, script: str, gpus: int = 1) -> dict[str, Any]:
    """A pod that runs a shell script once and is given ``gpus`` whole GPUs; with 0 it does not ask for the resource."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "kubegpu-test"}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", script],
                    "resources": {"limits": {"nvidia.com/gpu": gpus}} if gpus else {},
                }
            ],
        },
    }
