"""Users of a cluster's API who are not its administrator, and their kubeconfigs."""

from __future__ import annotations

import base64
import json
from typing import Any

import yaml

from tests.sim.cluster.use import ROOT, Handle, wait_for


def kubeconfig(machine: Handle, name: str, **user: str) -> str:
    """A copy of the cluster's kubeconfig with another user or server; its path."""
    document = json.loads((machine.folder / "kubeconfig").read_text())
    document["clusters"][0]["cluster"]["server"] = user.pop("server", document["clusters"][0]["cluster"]["server"])
    if user:
        document["users"][0]["user"] = user
    path = machine.folder / f"kubeconfig-{name}"
    path.write_text(json.dumps(document))
    return str(path)


def token(machine: Handle, name: str) -> str:
    """Makes a ServiceAccount; a token that lasts as long as it does (Kubernetes 1.24 and later make none unasked)."""
    machine.kubectl("create", "serviceaccount", name, "-n", "default")
    metadata = {"name": name, "namespace": "default", "annotations": {"kubernetes.io/service-account.name": name}}
    machine.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/service-account-token"}
    )

    def encoded() -> str:
        return str(machine.get("secret", name, "-n", "default").get("data", {}).get("token", ""))

    wait_for(f"the token of {name}", encoded)
    return base64.b64decode(encoded()).decode()


def documented_rights() -> list[dict[str, Any]]:
    """The rules of docs/kubernetes-rights.yml."""
    return list(yaml.safe_load((ROOT / "docs" / "kubernetes-rights.yml").read_text())["rules"])


def with_rights(machine: Handle, name: str, rules: list[dict[str, Any]]) -> str:
    """Makes a ServiceAccount in the namespace default that may do just this; the path of its kubeconfig."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    machine.apply({**role, "rules": rules})
    machine.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount=default:{name}")
    return kubeconfig(machine, name, token=token(machine, name))
