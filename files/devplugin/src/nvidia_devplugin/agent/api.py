"""A small client of the Kubernetes API: get, patch and watch one node, create Events."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

_TIMEOUT = 15.0
WATCH_SECONDS = 240
_WATCH_TIMEOUT = 150.0  # there is a bookmark every minute
_LONGEST = 16 * 2**20
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch"}


class UnreachableError(Exception):
    """The API server does not answer, or not with HTTP and JSON."""


@dataclass
class ApiError(Exception):
    """The API server refused the request.

    verb, resource: as in a rule of RBAC, with the object's name or namespace. retry_after: the seconds that the server
    asks to wait; None if it does not.
    """

    status: int
    verb: str
    resource: str
    message: str
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}: {self.status} {self.message}"


@dataclass(frozen=True)
class ApiServer:
    """Address and credentials of the API server. The files are read for each use, because the kubelet replaces them."""

    host: str
    port: int
    token_file: Path
    ca_file: Path


class Api:
    """Not thread-safe. All methods raise ApiError and UnreachableError. timeout: seconds for one answer."""

    def __init__(self, server: ApiServer, timeout: float = _TIMEOUT) -> None:
        self._server = server
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None

    def node(self, name: str) -> dict[str, Any]:
        """The node's metadata."""
        return self._metadata("GET", _node(name), f"nodes/{name}")

    def merge(self, name: str, metadata: dict[str, Any]) -> dict[str, Any]:
        """Merge this into the node's metadata; returns the new metadata."""
        body = {"metadata": metadata}
        return self._metadata("PATCH", _node(name), f"nodes/{name}", body, "application/merge-patch+json")

    def patch(self, name: str, operations: list[dict[str, str]]) -> dict[str, Any]:
        """Apply a JSON patch to the node; returns its new metadata."""
        return self._metadata("PATCH", _node(name), f"nodes/{name}", operations, "application/json-patch+json")

    def create_event(self, event: dict[str, Any]) -> None:
        """Create an Event. Raises ApiError 409 if it exists."""
        namespace = event["metadata"]["namespace"]
        self._request("POST", f"/api/v1/namespaces/{namespace}/events", f"events in {namespace}", event)

    def watch_node(self, name: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields type (ADDED, MODIFIED, DELETED, BOOKMARK) and metadata until the server ends the watch.

        Raises ApiError with status 410 if the version is too old.
        """
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        resource = f"nodes/{name}"
        connection = self._connect(_WATCH_TIMEOUT)
        try:
            response = self._send(connection, "GET", f"/api/v1/nodes?{urlencode(query)}", _METADATA, None, "")
            if response.status != 200:
                raise _error(response, "watch", resource)
            while line := response.readline(_LONGEST):
                event = _json(line)
                content = event.get("object") or {}
                if event.get("type") == "ERROR":
                    raise ApiError(int(content.get("code") or 500), "watch", resource, str(content.get("message")))
                yield str(event.get("type")), content.get("metadata") or {}
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def _metadata(self, method: str, path: str, resource: str, body: Any = None, kind: str = "") -> dict[str, Any]:
        answer = self._request(method, path, resource, body, kind, _METADATA)
        return dict(answer.get("metadata") or {})

    def _request(
        self,
        method: str,
        path: str,
        resource: str,
        body: Any = None,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        fresh = self._connection is None
        try:
            if self._connection is None:
                self._connection = self._connect(self._timeout)
            response = self._send(self._connection, method, path, accept, body, kind)
            if response.status >= 300:
                raise _error(response, _VERBS[method], resource)
            return _json(response.read(_LONGEST))
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not fresh:
                # the server may have closed an idle connection; all requests can be repeated
                return self._request(method, path, resource, body, kind, accept)
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        except ApiError:
            self.close()  # behind a load balancer the next connection may reach a server that accepts
            raise

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        try:
            context = ssl.create_default_context(cafile=str(self._server.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise UnreachableError(f"{self._server.ca_file}: {error}") from error
        return http.client.HTTPSConnection(self._server.host, self._server.port, timeout=timeout, context=context)

    def _send(
        self, connection: http.client.HTTPSConnection, method: str, path: str, accept: str, body: Any, kind: str
    ) -> http.client.HTTPResponse:
        try:
            token = self._server.token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise UnreachableError(f"{self._server.token_file}: {error}") from error
        headers = {"Accept": accept, "Authorization": f"Bearer {token}", "User-Agent": "nvidia-devplugin-agent"}
        if body is not None:
            headers["Content-Type"] = kind
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        return connection.getresponse()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _node(name: str) -> str:
    return f"/api/v1/nodes/{quote(name, safe='')}"


def _json(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UnreachableError(f"not JSON: {data[:80]!r}") from error
    if not isinstance(content, dict):
        raise UnreachableError(f"not an object: {data[:80]!r}")
    return content


def _error(response: http.client.HTTPResponse, verb: str, resource: str) -> ApiError:
    """The error in a response: a Status object, or the text of a proxy in front of the API server."""
    text = response.read(65536)
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, TypeError, KeyError):
        message = response.reason
    after = response.getheader("Retry-After", "")
    return ApiError(response.status, verb, resource, message, float(after) if after.isdigit() else None)
