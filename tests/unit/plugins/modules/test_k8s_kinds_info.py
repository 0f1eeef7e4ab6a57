# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module k8s_kinds_info, run by Ansible as a task, against a server that speaks as an API server does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kubegpu.nvidia.plugins.filter.kubernetes_remedy import kubernetes_remedy
from tests.house.repository import ROOT
from tests.unit.kubernetes_stub import Api, serving

NODE = {
    "metadata": {
        "name": "gpu-1",
        "labels": {"a": "b", "c": ""},
        "annotations": {"nvidia.com/GPU-note": "a", "other": "secret"},
    },
    "spec": {"env": [{"name": "PASSWORD", "value": "secret"}], "args": ["--plugin=nvidia", "--token=secret"]},
}


@pytest.fixture
def api(tmp_path, monkeypatch):
    # the client remembers what an address offers, and another test may have had this one
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(Api({"nodes": [NODE]}, forbidden=("secrets",))) as made:
        yield made


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
    queries = [
        {"kind": "Secret", "query": "@"},
        {"kind": "Node", "label_selectors": ["a=b", "c"], "query": "metadata.{name: name}"},
        {"kind": "DaemonSet", "api_version": "apps/v1", "field_selectors": ["metadata.name=x"], "query": "@"},
        {"kind": "Nonsense", "api_version": "apps/v1", "query": "@"},
    ]
    found = ask(tmp_path, {"host": api.address, "api_key": "one"}, queries=queries)
    assert found["failed"]
    assert found["msg"].startswith("Secret: ")
    secrets, nodes, daemonsets, nonsense = found["answers"]
    assert [answer["item"]["kind"] for answer in found["answers"]] == ["Secret", "Node", "DaemonSet", "Nonsense"]
    assert "secrets is forbidden" in secrets["msg"]
    assert "resources" not in secrets
    assert nodes["resources"] == [{"name": "gpu-1"}]
    assert (daemonsets["resources"], daemonsets["api_found"]) == ([], True)
    assert (nonsense["resources"], nonsense["api_found"]) == ([], False)
    questions = dict(api.seen)
    assert questions["/api/v1/nodes"]["labelSelector"] == ["a=b,c"]
    assert questions["/apis/apps/v1/daemonsets"]["fieldSelector"] == ["metadata.name=x"]


def test_a_query_says_what_of_an_object_is_returned(api, tmp_path):
    queries = [
        {"kind": "Node", "query": "{a: matching(metadata.annotations, '^nvidia[.]com/gpu'), b: matching(a, 'a')}"},
        {"kind": "Node", "query": "matching(spec.args, 'nvidia|plugin')"},
        {"kind": "Node", "query": "status.phase"},
        {"kind": "Node", "query": "length(spec.env[0].value) == `6`"},
        # its message must not say what the value is
        {"kind": "Node", "query": "keys(spec.env[0].value)"},
        {"kind": "Node", "query": "nonsense(spec)"},
        {"kind": "Node", "query": "matching(spec.args, '(')"},
    ]
    found = ask(tmp_path, {"host": api.address, "api_key": "one"}, queries=queries)
    answers = [answer.get("resources", answer.get("msg")) for answer in found["answers"]]
    assert answers[:4] == [[{"a": {"nvidia.com/GPU-note": "a"}}], [["plugin", "nvidia"]], [], [True]]
    assert answers[4] == "keys() cannot take a value of type string"
    assert "nonsense()" in answers[5]
    assert "is not a regular expression" in answers[6]
    assert found["msg"] == f"Node: {answers[4]}"
    assert "secret" not in json.dumps(found)


@pytest.mark.parametrize("query", ["metadata.{", "", "a b"])
def test_an_invalid_query_is_refused_before_anything_is_read(api, tmp_path, query):
    found = ask(tmp_path, {"host": api.address}, queries=[{"kind": "Node", "query": query}])
    assert "the query for the kind Node is not a valid JMESPath expression" in found["msg"]
    assert api.seen == []


def test_a_missing_library_is_named_as_the_others_are(api, tmp_path, monkeypatch):
    # not in the playbook's own folder, which Ansible keeps out of a module's path
    (hidden := tmp_path / "hidden").mkdir()
    (hidden / "jmespath.py").write_text("raise ImportError('no jmespath')")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    found = ask(tmp_path, {"host": api.address}, queries=[{"kind": "Node", "query": "@"}])
    known = kubernetes_remedy(found["msg"])
    assert (known["code"], "jmespath" in known["cause"]) == ("library_missing", True)


def test_all_is_well(api, tmp_path):
    found = ask(tmp_path, {"host": api.address, "api_key": "one"}, queries=[{"kind": "Node", "query": "@"}])
    assert (found["failed"], found["changed"], len(found["answers"])) == (False, False, 1)


def test_nobody_answers(tmp_path):
    found = ask(tmp_path, {"host": "http://127.0.0.1:1", "api_key": "one"}, queries=[{"kind": "Node", "query": "@"}])
    assert found["failed"]
    assert "answers" not in found
    assert "127.0.0.1" in found["msg"]


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path):
    found = ask(tmp_path, {"kubeconfig": "/nonexistent/config"}, queries=[{"kind": "Node", "query": "@"}])
    assert found["failed"]
    assert "/nonexistent/config" in found["msg"]
