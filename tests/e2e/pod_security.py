"""Pod Security admission for the test cluster's Kubernetes, which is older than it (1.23).

A webhook that the real API server asks, as upstream's own for clusters without the built-in one. It knows of hostPath
alone, and says it in the words of Kubernetes' k8s.io/pod-security-admission. Runs on the node with its Python.

    python3 pod_security.py PORT CERTIFICATE KEY
"""

from __future__ import annotations

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "pod-security-webhook.kubernetes.io"
LABEL = "pod-security.kubernetes.io/enforce"
PORT = 8443


def verdict(pod: dict[str, Any]) -> str:
    """Why a pod is refused; empty if it is taken."""
    volumes = [f'"{volume["name"]}"' for volume in pod["spec"].get("volumes") or [] if "hostPath" in volume]
    if not volumes:
        return ""
    name = pod["metadata"].get("name") or pod["metadata"].get("generateName", "")
    named = f"volume{'s' if len(volumes) > 1 else ''} {', '.join(volumes)}"
    return f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes ({named})'


def configuration(ca_bundle: str) -> dict[str, Any]:
    """The webhook's object: for pods that are made in a namespace whose label enforces the level restricted."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": NAME,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "namespaceSelector": {"matchExpressions": [{"key": LABEL, "operator": "In", "values": ["restricted"]}]},
                "clientConfig": {"url": f"https://127.0.0.1:{PORT}/", "caBundle": ca_bundle},
            }
        ],
    }


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        refusal = verdict(request["object"])
        answer: dict[str, Any] = {"uid": request["uid"], "allowed": not refusal}
        if refusal:
            answer["status"] = {"message": refusal, "reason": "Forbidden", "code": 403}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(port: str, certificate: str, key: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
