"""Pods that ask for GPUs, as the demo and the end-to-end test create them."""

from __future__ import annotations

from typing import Any

from tests.sim.cluster import images

IMAGE = f"docker.io/{images.BASE}"


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
