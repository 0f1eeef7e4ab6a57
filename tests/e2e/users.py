"""Users of a cluster's API who are not its administrator, and their kubeconfigs."""

from __future__ import annotations

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
    """Makes a ServiceAccount; its token."""
    machine.kubectl("create", "serviceaccount", name, "-n", "default")
    template = "jsonpath={.data.token}"

    def secret() -> str:
        names = machine.get("serviceaccount", name, "-n", "default").get("secrets", [])
        return str(names[0]["name"]) if names else ""

    wait_for(f"the token of {name}", secret)
    encoded = machine.kubectl("get", "secret", secret(), "-n", "default", "-o", template)
    return machine.execute("bash", "-c", f"echo {encoded} | base64 -d").strip()


def documented_rights() -> list[dict[str, Any]]:
    """The rules of docs/kubernetes-rights.yml."""
    return list(yaml.safe_load((ROOT / "docs" / "kubernetes-rights.yml").read_text())["rules"])


def with_rights(machine: Handle, name: str, rules: list[dict[str, Any]]) -> str:
    """Makes a ServiceAccount in the namespace default that may do just this; the path of its kubeconfig."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    machine.apply({**role, "rules": rules})
    machine.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount=default:{name}")
    return kubeconfig(machine, name, token=token(machine, name))
