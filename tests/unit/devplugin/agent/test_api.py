"""The agent's client against an API server over TLS: its requests, and its errors for each refusal."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvidia_devplugin.agent import events
from nvidia_devplugin.agent.api import Api, ApiError, ApiServer, UnreachableError
from nvidia_devplugin.agent.api_errors import explain
from nvidia_devplugin.agent.node_changes import ACK, NodeMetadata, claim
from nvidia_devplugin.agent.state import ReportedFault
from tests.unit.devplugin.agent.api_stub import NODE, TOKEN, ApiStub


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiStub]:
    stub = ApiStub(tmp_path)
    yield stub
    stub.close()


def address(server: ApiStub, **changes) -> ApiServer:
    known = {"host": "127.0.0.1", "port": server.port, "token_file": server.folder / "token"}
    return ApiServer(**{**known, "ca_file": server.folder / "ca.crt", **changes})


@pytest.fixture
def api(server: ApiStub) -> Iterator[Api]:
    client = Api(address(server), timeout=5.0)
    yield client
    client.close()


def test_node_is_read_and_changed(server, api):
    assert api.node(NODE)["resourceVersion"] == "10"
    assert api.merge(NODE, {"labels": {"a": "1"}, "annotations": {ACK: "0"}})["labels"] == {"a": "1"}
    assert "labels" in api.merge(NODE, {"labels": {"a": None}})
    assert server.metadata["labels"] == {}
    node = NodeMetadata.of(api.node(NODE))
    assert ACK not in api.patch(NODE, claim(node, "done"))["annotations"]
    with pytest.raises(ApiError) as second:
        api.patch(NODE, claim(node, "done"))
    assert second.value.status == 422
    assert {token for _, _, token in server.requests} == {TOKEN}


def test_an_event_exists_once(server, api):
    event = events.unhealthy(NODE, ReportedFault("GPU-a", "0", "xid_79", "gone"), "2026-08-01T12:00:00Z")
    api.create_event(event)
    with pytest.raises(ApiError) as again:
        api.create_event(event)
    assert again.value.status == 409
    assert list(server.events.values()) == [event]


def test_a_replaced_token_is_read_again(server, api):
    api.node(NODE)
    server.token = "second"  # noqa: S105
    with pytest.raises(ApiError) as refused:
        api.node(NODE)
    assert explain(refused.value)[0] == "unauthorized"
    (server.folder / "token").write_text("second")
    api.node(NODE)


@pytest.mark.parametrize(
    ("status", "event"),
    [
        (403, "forbidden"),
        (404, "not_found"),
        (400, "api_refused"),
        (429, "api_busy"),
        (500, "api_busy"),
        (503, "api_busy"),
    ],
)
def test_a_refusal_names_verb_and_resource(server, api, status, event):
    server.refuse["PATCH", "/nodes/"] = [(status, {"Retry-After": "7"})]
    with pytest.raises(ApiError) as refused:
        api.merge(NODE, {"labels": {}})
    assert (refused.value.verb, refused.value.resource) == ("patch", f"nodes/{NODE}")
    assert refused.value.message == f"refused with {status}"
    assert refused.value.retry_after == 7
    assert explain(refused.value)[0] == event
    api.merge(NODE, {"labels": {}})


def test_a_connection_that_the_server_closed_is_opened_again(server, api):
    api.node(NODE)
    server.refuse["GET", "/nodes/"] = [None]
    api.node(NODE)
    server.refuse["GET", "/nodes/"] = [None, None]
    with pytest.raises(UnreachableError):
        api.node(NODE)


def test_a_watch_yields_changes_until_the_server_ends_it(server, api):
    watch = api.watch_node(NODE, "10")
    server.refuse["GET", "watch=1"] = [(403, {})]
    with pytest.raises(ApiError) as refused:
        next(watch)
    assert (refused.value.verb, refused.value.status) == ("watch", 403)
    watch = api.watch_node(NODE, "9")
    assert next(watch)[1]["resourceVersion"] == "10", "it is behind"
    server.change(labels={"a": "1"})
    kind, metadata = next(watch)
    assert (kind, metadata["labels"]) == ("MODIFIED", {"a": "1"})
    server.tell("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
    assert next(watch) == ("BOOKMARK", {"resourceVersion": "99"})
    server.end_watches()
    assert list(watch) == []
    watch = api.watch_node(NODE, "9")
    next(watch)
    server.tell("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
    with pytest.raises(ApiError) as gone:
        next(watch)
    assert gone.value.status == 410


def test_a_server_without_valid_answers_is_unreachable(server, api, tmp_path, monkeypatch):
    with pytest.raises(UnreachableError, match="nowhere"):
        Api(address(server, ca_file=tmp_path / "nowhere")).node(NODE)
    with pytest.raises(UnreachableError, match="absent"):
        Api(address(server, token_file=tmp_path / "absent")).node(NODE)
    other = tmp_path / "other"
    other.mkdir()
    stranger = ApiStub(other)
    try:
        with pytest.raises(UnreachableError, match="certificate"):
            Api(address(stranger, ca_file=server.folder / "ca.crt")).node(NODE)
        assert stranger.requests == [], "the token is for nobody whose certificate is not the cluster's"
    finally:
        stranger.close()
    with pytest.raises(UnreachableError, match="refused"):
        Api(address(server, port=1)).node(NODE)
    monkeypatch.setattr(http.client.HTTPResponse, "read", lambda *_: b"<html>")
    with pytest.raises(UnreachableError, match="html"):
        api.node(NODE)
