"""A registry of images for tests: what docker pushes is kept in memory, and handed out again.

Of the OCI distribution specification it has what docker and containerd use: no users, no deletion, one blob at a time.
Runs on a node, by the node's own Python:  python3 registry.py PORT
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOBS: dict[str, bytes] = {}
MANIFESTS: dict[tuple[str, str], tuple[str, bytes]] = {}
UPLOADS: dict[str, bytes] = {}
NUMBERS = itertools.count(1)
PATH = re.compile(r"^/v2/(?P<name>.+)/(?P<kind>blobs|manifests)/(?P<reference>.*)$")


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def wanted(self) -> tuple[str, str, str]:
        """(image's name, blobs or manifests, digest, tag or upload)"""
        match = PATH.match(self.path.partition("?")[0])
        return (match["name"], match["kind"], match["reference"]) if match else ("", "", "")

    def do_GET(self) -> None:
        name, kind, reference = self.wanted()
        if kind == "manifests" and (name, reference) in MANIFESTS:
            media_type, content = MANIFESTS[name, reference]
            self.answer(200, content, Content_Type=media_type, Docker_Content_Digest=digest(content))
        elif kind == "blobs" and reference in BLOBS:
            content = BLOBS[reference]
            self.answer(200, content, Content_Type="application/octet-stream", Docker_Content_Digest=reference)
        elif self.path.rstrip("/") == "/v2":
            self.answer(200, b"{}", Content_Type="application/json")
        else:
            code = "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN"
            text = f'{{"errors": [{{"code": "{code}", "message": "not here"}}]}}'
            self.answer(404, text.encode(), Content_Type="application/json")

    do_HEAD = do_GET  # noqa: N815 (http.server looks for it by that name)

    def do_POST(self) -> None:
        self.body()
        upload = f"{self.path.partition('?')[0]}{next(NUMBERS)}"
        UPLOADS[upload] = b""
        self.answer(202, Location=upload, Range="0-0")

    def do_PATCH(self) -> None:
        UPLOADS[self.path] += self.body()
        self.answer(202, Location=self.path, Range=f"0-{max(0, len(UPLOADS[self.path]) - 1)}")

    def do_PUT(self) -> None:
        name, kind, reference = self.wanted()
        content = self.body()
        if kind == "manifests":
            media_type = self.headers["Content-Type"]
            MANIFESTS[name, reference] = MANIFESTS[name, digest(content)] = (media_type, content)
        else:
            content = UPLOADS.pop(self.path.partition("?")[0]) + content
            BLOBS[digest(content)] = content
        self.answer(201, Location=self.path, Docker_Content_Digest=digest(content))


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Registry).serve_forever()
