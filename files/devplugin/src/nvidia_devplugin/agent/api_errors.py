"""Errors of the API server for the log: an event's name and what to do. Pure."""

from __future__ import annotations

from .api import ApiError, UnreachableError


def explain(error: ApiError | UnreachableError) -> tuple[str, dict[str, object]]:
    """The name of the log's event and its fields."""
    if isinstance(error, UnreachableError):
        return "api_unreachable", {"error": error}
    fields: dict[str, object] = {"verb": error.verb, "resource": error.resource}
    if error.status == 401:
        return "unauthorized", {
            **fields,
            "hint": "the API server does not accept the token; it is read again for each request",
        }
    if error.status == 403:
        hint = "allow it to the agent's ServiceAccount, as the role device_plugin does, or switch the feature off"
        return "forbidden", {**fields, "error": error.message, "hint": hint}
    if error.status == 404:
        return "not_found", {**fields, "hint": "NODE_NAME must be the name of this node in the cluster"}
    if error.status == 429 or error.status >= 500:
        return "api_busy", {**fields, "status": error.status, "retry_after": error.retry_after}
    return "api_refused", {**fields, "status": error.status, "error": error.message}


CONFLICTS = (409, 422)
"""Status codes: the object was changed meanwhile, or a test in a JSON patch failed."""

HOPELESS = (400, 413, 422)
"""Status codes: the same request would be refused again."""
