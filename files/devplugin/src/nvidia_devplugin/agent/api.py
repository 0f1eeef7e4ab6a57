"""A client of the Kubernetes API, as small as what is asked of it: get, patch and watch one object, create Events."""

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
    """There is no answer, or none that is HTTP."""


@dataclass
class ApiError(Exception):
    """The API server refused. resource: as in a rule of RBAC, with the object's name or namespace.

    retry_after: seconds that it asks to wait; None if it does not say.
    """

    status: int
    verb: str
    resource: str
    message: str
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}: {self.status} {self.message}"


@dataclass(frozen=True)
class Place:
    """Where the API server is, and what proves who is who. All files are read anew when they are needed, since the
    kubelet replaces them."""

    host: str
    port: int
    token_file: Path
    ca_file: Path


class Api:
    """Not for several threads at once."""

    def __init__(self, place: Place, timeout: float = _TIMEOUT) -> None:
        self._place = place
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None

    def node(self, name: str) -> dict[str, Any]:
        """The node's metadata."""
        return self._metadata("GET", _node(name), f"nodes/{name}")

    def merge(self, name: str, metadata: dict[str, Any]) -> dict[str, Any]:
        """Merge this into the node's metadata; what it is then."""
        body = {"metadata": metadata}
        return self._metadata("PATCH", _node(name), f"nodes/{name}", body, "application/merge-patch+json")

    def patch(self, name: str, operations: list[dict[str, str]]) -> dict[str, Any]:
        """Apply a JSON patch to the node; its metadata then."""
        return self._metadata("PATCH", _node(name), f"nodes/{name}", operations, "application/json-patch+json")

    def create_event(self, event: dict[str, Any]) -> None:
        """Raises ApiError 409 if it exists."""
        namespace = event["metadata"]["namespace"]
        self._request("POST", f"/api/v1/namespaces/{namespace}/events", f"events in {namespace}", event)

    def watch_node(self, name: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Type (ADDED, MODIFIED, DELETED, BOOKMARK) and metadata, until the server ends it.

        Raises ApiError with 410 if it does not know the version any more.
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
                # the server may have closed a connection that was idle; all our requests may be repeated
                return self._request(method, path, resource, body, kind, accept)
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        except ApiError:
            self.close()  # a token that is refused may be another at the next attempt, and another server may answer
            raise

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        try:
            context = ssl.create_default_context(cafile=str(self._place.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise UnreachableError(f"{self._place.ca_file}: {error}") from error
        return http.client.HTTPSConnection(self._place.host, self._place.port, timeout=timeout, context=context)

    def _send(
        self, connection: http.client.HTTPSConnection, method: str, path: str, accept: str, body: Any, kind: str
    ) -> http.client.HTTPResponse:
        try:
            token = self._place.token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise UnreachableError(f"{self._place.token_file}: {error}") from error
        headers = {"Accept": accept, "Authorization": f"Bearer {token}", "User-Agent": "nvidia-devplugin-agent"}
        if body is not None:
            headers["Content-Type"] = kind
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        return connection.getresponse()

    def close(self) -> None:
        """End the connection; the next request makes another."""
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
    """Of an answer that is no success: a Status object, or what a proxy before the API server says."""
    text = response.read(65536)
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, TypeError, KeyError):
        message = response.reason
    after = response.getheader("Retry-After", "")
    return ApiError(response.status, verb, resource, message, float(after) if after.isdigit() else None)
