"""A server that speaks as an API server does: discovery, objects to read, and writes that answer the object."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# group/version -> plural -> (kind, whether it is in a namespace)
KINDS = {
    "v1": {
        "nodes": ("Node", False),
        "namespaces": ("Namespace", False),
        "pods": ("Pod", True),
        "events": ("Event", True),
        "secrets": ("Secret", True),
        "configmaps": ("ConfigMap", True),
        "serviceaccounts": ("ServiceAccount", True),
    },
    "apps/v1": {"daemonsets": ("DaemonSet", True)},
    "node.k8s.io/v1": {"runtimeclasses": ("RuntimeClass", False)},
    "rbac.authorization.k8s.io/v1": {
        "clusterroles": ("ClusterRole", False),
        "clusterrolebindings": ("ClusterRoleBinding", False),
        "roles": ("Role", True),
        "rolebindings": ("RoleBinding", True),
    },
}
VERBS = ["create", "delete", "get", "list", "patch"]


def prefix(version: str) -> str:
    return f"/api/{version}" if version == "v1" else f"/apis/{version}"


def discovery() -> dict[str, Any]:
    """Path -> page."""
    groups = []
    pages: dict[str, Any] = {
        "/version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": groups},
    }
    for version, kinds in KINDS.items():
        listed = [
            {"name": name, "singularName": "", "kind": kind, "namespaced": inside, "verbs": VERBS}
            for name, (kind, inside) in kinds.items()
        ]
        pages[prefix(version)] = {"kind": "APIResourceList", "groupVersion": version, "resources": listed}
        if "/" in version:
            group, _, number = version.partition("/")
            choice = {"groupVersion": version, "version": number}
            groups.append({"name": group, "versions": [choice], "preferredVersion": choice})
    return pages


def refusal(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def merged(old: Any, new: Any) -> Any:
    """A JSON merge patch (RFC 7396)."""
    if not isinstance(new, dict):
        return new
    old = old if isinstance(old, dict) else {}
    both = {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in both.items() if value is not None}


def has_labels(thing: dict[str, Any], selector: str) -> bool:
    """``a=b,c``: a value, or that the label is there; what is more than that fits nothing."""
    labels = thing["metadata"].get("labels", {})
    wanted = [pair.partition("=") for pair in selector.split(",") if pair]
    return all(name in labels and (not equal or labels[name] == value) for name, equal, value in wanted)


@dataclass
class Api:
    """``objects``: plural -> objects. ``forbidden``: plurals that cannot be read. ``seen``: (path, query) of reads."""

    objects: dict[str, list[dict[str, Any]]]
    forbidden: tuple[str, ...] = ()
    address: str = ""
    seen: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)

    def answer(self, method: str, path: str, query: dict[str, list[str]], change: Any) -> dict[str, Any]:
        if path in (pages := discovery()):
            return dict(pages[path])
        version = next(known for known in KINDS if path.startswith(prefix(known) + "/"))
        parts = path.removeprefix(prefix(version) + "/").split("/")
        if parts[0] == "namespaces" and len(parts) > 2:
            parts = parts[2:]
        plural, name = parts[0], parts[1] if len(parts) > 1 else ""
        if plural in self.forbidden or method in ("POST", "DELETE"):
            return refusal(403, f"{plural} is forbidden")
        kind = KINDS[version][plural][0]
        found = self.objects.get(plural, [])
        if not name:
            chosen = [thing for thing in found if has_labels(thing, query.get("labelSelector", [""])[0])]
            return {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": chosen}
        for place, thing in enumerate(found):
            if thing["metadata"]["name"] == name:
                if method == "PATCH":
                    found[place] = thing = merged(thing, change)
                return {"kind": kind, "apiVersion": version, **thing}
        return refusal(404, f'{plural} "{name}" not found')


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            change = json.loads(self.rfile.read(length)) if length else None
            query = parse_qs(asked.query)
            if self.command == "GET":
                api.seen.append((asked.path, query))
            page = api.answer(self.command, asked.path, query, change)
            content = json.dumps(page).encode()
            self.send_response(page.get("code", 200))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        api.address = f"http://127.0.0.1:{made.server_address[1]}"
        yield api
        made.shutdown()
