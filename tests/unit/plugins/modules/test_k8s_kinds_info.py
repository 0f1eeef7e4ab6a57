# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module k8s_kinds_info, run by Ansible as a task, against a server that speaks as an API server does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.house.repository import ROOT


def resources(version: str, **kinds: str) -> dict:
    """A page of the discovery: plural=kind."""
    verbs = {"namespaced": False, "verbs": ["get", "list"]}
    listed = [{"name": name, "singularName": "", "kind": kind, **verbs} for name, kind in kinds.items()]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": listed}


APPS = {"groupVersion": "apps/v1", "version": "v1"}
PAGES = {
    "/version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [{"name": "apps", "versions": [APPS], "preferredVersion": APPS}],
    },
    "/api/v1": resources("v1", nodes="Node", secrets="Secret"),
    "/apis/apps/v1": resources("apps/v1", daemonsets="DaemonSet"),
    "/api/v1/nodes": {
        "kind": "NodeList",
        "apiVersion": "v1",
        "metadata": {},
        "items": [{"metadata": {"name": "gpu-1", "managedFields": [{"manager": "kubelet"}]}}],
    },
    "/apis/apps/v1/daemonsets": {"kind": "DaemonSetList", "apiVersion": "apps/v1", "metadata": {}, "items": []},
}
FORBIDDEN = {"kind": "Status", "status": "Failure", "message": "secrets is forbidden", "code": 403}


@pytest.fixture
def api(tmp_path, monkeypatch):
    """Its address, and the (path, query) of what it was asked."""
    seen = []
    # the client remembers what an address offers, and another test may have had this one
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = urlsplit(self.path)
            seen.append((asked.path, parse_qs(asked.query)))
            page = PAGES.get(asked.path, FORBIDDEN)
            content = json.dumps(page).encode()
            self.send_response(page.get("code", 200))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}", seen
        made.shutdown()


def ask(folder: Path, defaults: dict, **arguments: object) -> dict:
    """What a task of this module returns; the defaults are those of the action group."""
    answer = folder / "answer.json"
    tasks = [
        {"kubegpu.nvidia.k8s_kinds_info": arguments, "register": "found", "ignore_errors": True},
        {"ansible.builtin.copy": {"content": "{{ found | to_json }}", "dest": str(answer), "mode": "0644"}},
    ]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    play["module_defaults"] = {"group/kubegpu.nvidia.k8s": defaults}
    (folder / "play.json").write_text(json.dumps([play]))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", folder / "play.json"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "false"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(answer.read_text())


def test_every_kind_is_read_and_what_may_not_be_read_is_named(api, tmp_path):
    address, seen = api
    queries = [
        {"kind": "Secret"},
        {"kind": "Node", "label_selectors": ["a=b", "c"]},
        {"kind": "DaemonSet", "api_version": "apps/v1", "field_selectors": ["metadata.name=x"]},
        {"kind": "Nonsense", "api_version": "apps/v1"},
    ]
    found = ask(
        tmp_path, {"host": address, "api_key": "one"}, queries=queries, hidden_fields=["metadata.managedFields"]
    )
    assert found["failed"]
    assert found["msg"].startswith("Secret: ")
    secrets, nodes, daemonsets, nonsense = found["answers"]
    assert [answer["item"]["kind"] for answer in found["answers"]] == ["Secret", "Node", "DaemonSet", "Nonsense"]
    assert "secrets is forbidden" in secrets["msg"]
    assert "resources" not in secrets
    assert [node["metadata"] for node in nodes["resources"]] == [{"name": "gpu-1"}]
    assert (daemonsets["resources"], daemonsets["api_found"]) == ([], True)
    assert (nonsense["resources"], nonsense["api_found"]) == ([], False)
    questions = dict(seen)
    assert questions["/api/v1/nodes"]["labelSelector"] == ["a=b,c"]
    assert questions["/apis/apps/v1/daemonsets"]["fieldSelector"] == ["metadata.name=x"]


def test_all_is_well(api, tmp_path):
    found = ask(tmp_path, {"host": api[0], "api_key": "one"}, queries=[{"kind": "Node"}])
    assert (found["failed"], found["changed"], len(found["answers"])) == (False, False, 1)


def test_nobody_answers(tmp_path):
    found = ask(tmp_path, {"host": "http://127.0.0.1:1", "api_key": "one"}, queries=[{"kind": "Node"}])
    assert found["failed"]
    assert "answers" not in found
    assert "127.0.0.1" in found["msg"]


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path):
    found = ask(tmp_path, {"kubeconfig": "/nonexistent/config"}, queries=[{"kind": "Node"}])
    assert found["failed"]
    assert "/nonexistent/config" in found["msg"]
