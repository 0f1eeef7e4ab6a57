"""An API server over TLS with one node and its Events, and errors on demand."""

from __future__ import annotations

import json
import queue
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from tests.sim.cluster import pki

NODE = "node-1"
TOKEN = "first-token"  # noqa: S105  (of a server that lives as long as a test)


class ApiStub:
    """Serves until close(). requests: (method, path, token) of all that came. refuse: by method and a part of the path,
    how the next ones are refused: (status, headers), or None to hang up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata: dict[str, Any] = {"name": NODE, "resourceVersion": "10", "labels": {}, "annotations": {}}
        self.events: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.refuse: dict[tuple[str, str], list[tuple[int, dict[str, str]] | None]] = {}
        self.token = TOKEN
        self.lock = threading.RLock()
        self._watches: list[queue.Queue[dict[str, Any] | None]] = []
        (folder / "token").write_text(TOKEN + "\n")
        pki.issue(pki.authority(folder), folder, "server", "kube-apiserver", hosts=("127.0.0.1",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        stub = self

        class Handler(_Handler):
            api = stub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def environment(self) -> dict[str, str]:
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port), "NODE_NAME": NODE}

    def change(self, **kinds: dict[str, str | None]) -> None:
        """Merge labels and annotations into the node, as somebody else does it."""
        with self.lock:
            for kind, values in kinds.items():
                merged = {**self.metadata[kind], **values}
                self.metadata[kind] = {key: value for key, value in merged.items() if value is not None}
            self.metadata["resourceVersion"] = str(int(self.metadata["resourceVersion"]) + 1)
            self.tell("MODIFIED", {"metadata": json.loads(json.dumps(self.metadata))})

    def tell(self, kind: str, content: dict[str, Any]) -> None:
        """Send this to all who watch."""
        for watch in self._watches:
            watch.put({"type": kind, "object": content})

    def end_watches(self) -> None:
        with self.lock:
            for watch in self._watches:
                watch.put(None)

    def watching(self) -> queue.Queue[dict[str, Any] | None]:
        with self.lock:
            self._watches.append(queue.Queue())
            return self._watches[-1]

    def close(self) -> None:
        self.end_watches()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ApiStub

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _status(self, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._answer(code, {"kind": "Status", "code": code, "message": message}, headers)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _serve(self) -> None:
        api = self.api
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with api.lock:
            api.requests.append((self.command, self.path, token))
            for (method, part), answers in api.refuse.items():
                if method == self.command and part in self.path and answers:
                    answer = answers.pop(0)
                    if answer is None:
                        self.close_connection = True
                        return
                    return self._status(answer[0], f"refused with {answer[0]}", answer[1])
        if token != api.token:
            return self._status(401, "Unauthorized")
        url = urlparse(self.path)
        if "watch" in parse_qs(url.query):
            return self._watch(parse_qs(url.query))
        if url.path.endswith("/events"):
            return self._create(json.loads(body))
        if url.path != f"/api/v1/nodes/{NODE}":
            return self._status(404, f"{url.path} not found")
        with api.lock:
            if self.command == "PATCH" and not self._patch(json.loads(body)):
                return self._status(422, "the server rejected our request due to an error in our request")
            return self._answer(200, {"kind": "PartialObjectMetadata", "metadata": api.metadata})

    do_GET = do_POST = do_PATCH = _serve  # noqa: N815  (named so by the library)

    def _create(self, event: dict[str, Any]) -> None:
        with self.api.lock:
            if event["metadata"]["name"] in self.api.events:
                return self._status(409, "already exists")
            self.api.events[event["metadata"]["name"]] = event
        return self._answer(201, event)

    def _patch(self, patch: Any) -> bool:
        if self.headers["Content-Type"] == "application/merge-patch+json":
            assert set(patch["metadata"]) <= {"labels", "annotations"}
            self.api.change(**patch["metadata"])
            return True
        assert self.headers["Content-Type"] == "application/json-patch+json"
        changes: dict[str, str | None] = {}
        for one in patch:
            key = one["path"].removeprefix("/metadata/annotations/").replace("~1", "/")
            if one["op"] != "add" and key not in self.api.metadata["annotations"]:
                return False
            if one["op"] == "test" and self.api.metadata["annotations"][key] != one["value"]:
                return False
            if one["op"] != "test":
                changes[key] = one.get("value")
        self.api.change(annotations=changes)
        return True

    def _watch(self, query: dict[str, list[str]]) -> None:
        assert query["fieldSelector"] == [f"metadata.name={NODE}"]
        waiting = self.api.watching()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with self.api.lock:
            if query["resourceVersion"] != [self.api.metadata["resourceVersion"]]:
                waiting.put({"type": "MODIFIED", "object": {"metadata": dict(self.api.metadata)}})
        while (event := waiting.get()) is not None:
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
