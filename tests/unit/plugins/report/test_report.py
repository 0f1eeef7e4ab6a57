# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report and its page, from facts of simulated machines."""

from __future__ import annotations

import copy
import json
import re
import shutil
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings

from ansible_collections.kubegpu.nvidia.plugins.filter.fleet_report import fleet_report
from ansible_collections.kubegpu.nvidia.plugins.filter.fleet_report_page import fleet_report_page
from ansible_collections.kubegpu.nvidia.plugins.module_utils.report import markup
from tests.unit.queries import cut

from .fleet_samples import GENERATED, SCRIPT, STYLE, fleet
from .test_markup import Seen, hostile

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the simulated NVML")


@pytest.fixture(scope="module")
def observed() -> tuple[dict, dict]:
    hosts, api = fleet()
    for kind in ("node", "pod", "event"):
        answer = api[f"{kind}s"]
        answer["resources"] = cut(f"__report_{kind}_query", answer["resources"])
    return hosts, api


@pytest.fixture(scope="module")
def report(observed: tuple[dict, dict]) -> dict:
    return fleet_report(*observed, GENERATED)


def _node(report: dict, host: str) -> dict:
    return next(node for node in report["nodes"] if node["host"] == host)


def _page(report: dict) -> str:
    return fleet_report_page(report, STYLE, SCRIPT)


def test_states(report: dict) -> None:
    states = {node["host"]: node["state"] for node in report["nodes"]}
    assert states["gpu-01"] == "ok"
    assert states["gpu-06"] == "broken", "its containerd waits for a restart"
    assert states["gpu-07"] == "broken", "it lost a GPU"
    assert states["gpu-11"] == "broken", "its driver is not loaded"
    assert states["gpu-12"] == "unreachable"
    assert report["summary"]["states"] == {"unreachable": 1, "broken": 3, "attention": 0, "ok": 8}
    assert report["summary"]["health"] == {"healthy": 66, "degraded": 1, "unhealthy": 1, "unknown": 0}


def test_reasons_come_from_facts_chain_and_cluster(report: dict) -> None:
    told = [(finding["level"], finding["what"]) for finding in _node(report, "gpu-07")["findings"]]
    assert ("attention", "GPU 5: 3 uncorrected ECC error(s) since the driver was loaded.") in told
    assert ("attention", "cordoned: no new pods come to it") in told
    assert [level for level, what in told if what.startswith("driver: 1 of 8 GPUs")] == ["broken"]
    assert [level for level, _what in told] == sorted(
        (level for level, _what in told), key=["broken", "attention"].index
    )
    (finding,) = _node(report, "gpu-12")["findings"]
    assert finding["what"].endswith("No route to host")
    (event,) = _node(report, "gpu-07")["kubernetes"]["events"]
    assert (event["reason"], event["count"]) == ("GPUUnhealthy", 4)


def test_who_uses_which_gpu(report: dict) -> None:
    users = [[user["pod"] for user in gpu["used_by"]] for gpu in _node(report, "gpu-02")["gpus"]]
    assert users == [["llm-pretrain-1"]] * 4 + [[]] * 4
    pods = {pod["name"]: (pod["host"], pod["gpus"]) for pod in report["pods"]}
    assert pods["llm-pretrain-1"] == ("gpu-02", [0, 1, 2, 3])
    assert pods["batch-0"] == ("", [])
    assert report["summary"]["requested"] == 20
    assert report["summary"]["waiting_pods"] == 1


def test_devices_of_pods_that_are_gone_are_nobodys(observed: tuple[dict, dict]) -> None:
    hosts, api = copy.deepcopy(observed)
    api["pods"]["resources"] = [pod for pod in api["pods"]["resources"] if pod["metadata"]["name"] != "llm-pretrain-1"]
    assert all(not gpu["used_by"] for gpu in _node(fleet_report(hosts, api, GENERATED), "gpu-02")["gpus"])


def test_differences_name_the_odd_nodes(report: dict) -> None:
    found = {item["setting"]: item["values"] for item in report["differences"] if "H100" in item["group"]}
    assert [value["hosts"] for value in found["Driver"]][1:] == [["gpu-06"]]
    assert found["VBIOS"][1]["hosts"] == ["gpu-07"]
    assert found["Runtime nvidia in containerd"][1] == {
        "value": "waits for a restart",
        "mixed": False,
        "hosts": ["gpu-06"],
    }
    assert "GPU model" not in found, "a lost GPU does not tell its model"
    assert not [item for item in report["differences"] if "A100" in item["group"]]


def test_nodes_with_one_topology_share_a_matrix(report: dict) -> None:
    first = report["topologies"][0]
    assert first["hosts"] == ["gpu-01", "gpu-02", "gpu-03", "gpu-04", "gpu-05", "gpu-06"]
    assert first["rows"][0][:3] == ["X", "NV18", "NV18"]


def test_without_a_cluster_the_nodes_are_not_to_blame(observed: tuple[dict, dict]) -> None:
    hosts, _api = observed
    failed = {"failed": True, "msg": "HTTPSConnectionPool: Max retries exceeded: Connection refused"}
    for api in ({"asked": True, "nodes": failed, "pods": failed, "events": failed}, {"asked": True}, {"asked": False}):
        report = fleet_report(hosts, api, GENERATED)
        assert _node(report, "gpu-01")["state"] == "ok"
        assert _node(report, "gpu-01")["kubernetes"] is None
        assert (report["cluster"]["problem"] is not None) is api["asked"]
        assert ("The cluster is left out: " in _page(report)) is api["asked"]
    assert fleet_report(hosts, {"asked": True, "nodes": failed}, GENERATED)["cluster"]["problem"]["cause"] == (
        "the API server cannot be reached"
    )


def test_a_configuration_that_is_not_in_place_is_broken_though_the_task_says_unchanged():
    containerd = {"changed": False, "in_place": False, "pending": "none"}
    hosts = {"a": {"gpu": {"count": 0, "gpus": []}, "containerd": containerd}}
    (node,) = fleet_report(hosts, {"asked": False}, GENERATED)["nodes"]
    (link,) = [link for link in node["links"] if link["name"] == "containerd"]
    assert link["status"] == "failed"
    assert "not configured" in str(node["settings"])


def test_what_verify_found_is_shown_instead(observed: tuple[dict, dict]) -> None:
    links = [{"name": "pod", "status": "failed", "detail": "it saw no GPU", "remedy": "look"}]
    report = fleet_report(*observed, GENERATED, verified={"gpu-01": links, "gpu-12": links, "gpu-02": []})
    assert _node(report, "gpu-01")["links"] == links
    assert _node(report, "gpu-01")["links_source"] == "verify"
    assert _node(report, "gpu-01")["state"] == "broken"
    assert _node(report, "gpu-02")["links_source"] == "checks"
    assert _node(report, "gpu-12")["links_source"] == "none"


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param({}, id="failed-before"),
        pytest.param({"gpu_error": "MODULE FAILURE"}, id="module-failed"),
        pytest.param({"gpu": {}, "checkpoint": "%%%"}, id="nothing"),
        pytest.param({"unreachable": "no route"}, id="unreachable"),
        pytest.param({"docker": {"failed": True, "msg": "bad"}, "containerd": {"skipped": True}}, id="failed-results"),
    ],
)
def test_hosts_of_which_little_is_known(seen: dict) -> None:
    report = fleet_report({"a": seen}, {"asked": False}, GENERATED)
    assert report["nodes"][0]["gpus"] == []
    assert ">a</a>" in _page(report)


def test_no_hosts() -> None:
    assert "Nothing." in _page(fleet_report({}, {"asked": False}, GENERATED))


def test_the_same_input_gives_the_same_bytes(observed: tuple[dict, dict]) -> None:
    hosts, api = observed
    turned = dict(reversed(list(hosts.items())))
    shuffled = {
        key: {"resources": list(reversed(value["resources"]))} if isinstance(value, dict) else value
        for key, value in api.items()
    }
    first, second = fleet_report(hosts, api, GENERATED), fleet_report(turned, shuffled, GENERATED)
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert _page(first) == _page(second)


def test_the_page_needs_nothing_else(report: dict) -> None:
    seen = Seen(_page(report))
    for tag, attributes in seen.tags:
        for name, value in attributes:
            assert not name.startswith("on"), f"{tag} {name}"
            assert name not in ("src", "srcset", "style", "action", "data")
            if name == "href":
                assert value.startswith("#"), value
    assert "@import" not in STYLE
    assert "url(" not in STYLE
    policy = next(
        dict(attributes)["content"]
        for tag, attributes in seen.tags
        if ("http-equiv", "Content-Security-Policy") in attributes
    )
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    ids = [dict(attributes)["id"] for _tag, attributes in seen.tags if "id" in dict(attributes)]
    assert len(ids) == len(set(ids))
    targets = {dict(attributes)["href"][1:] for _tag, attributes in seen.tags if "href" in dict(attributes)}
    assert targets <= set(ids)


def test_tables_can_be_read_out(report: dict) -> None:
    page = _page(report)
    assert re.findall(r"<th(?![^>]*scope=)[^>]*>", page.replace("<thead>", "")) == []
    assert page.count("<table") == page.count("<caption")
    assert page.count("<main") == page.count("<nav") == page.count("<header") == page.count("<footer") == 1
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def _replace(thing: object, words: str, number: list[int]) -> object:
    """The same observations with hostile words wherever people or programs choose them."""
    if isinstance(thing, dict):
        free = (
            "name",
            "message",
            "msg",
            "detail",
            "reason",
            "host",
            "unreachable",
            "kubeletVersion",
            "osImage",
            "phase",
        )
        return {
            key: f"{words}{_count(number)}{words}"
            if key in free and isinstance(value, str)
            else _replace(value, words, number)
            for key, value in thing.items()
        }
    if isinstance(thing, list):
        return [_replace(item, words, number) for item in thing]
    return thing


def _count(number: list[int]) -> int:
    number[0] += 1
    return number[0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=hostile)
def test_hostile_words_never_break_out(words: str) -> None:
    hosts, api = fleet(7)
    hosts = {f"{words}{name}": _replace(dict(seen, node_name=name), words, [0]) for name, seen in hosts.items()}
    api = {key: _replace(value, words, [0]) for key, value in api.items()}
    page = fleet_report_page(fleet_report(hosts, api, words), STYLE, SCRIPT, words)
    page.encode("utf-8")
    seen = Seen(page)
    assert seen.others == ["DOCTYPE html"]
    tags = [tag for tag, _attributes in seen.tags]
    assert tags.count("script") == tags.count("style") == tags.count("main") == tags.count("h1") == 1
    allowed = (
        "class id aria-labelledby aria-label aria-hidden aria-describedby scope data-sort title href open hidden role "
        "tabindex charset http-equiv content name lang viewbox preserveaspectratio x y width height for type "
        "placeholder autocomplete spellcheck"
    )
    assert {name for _tag, attributes in seen.tags for name, _value in attributes} <= set(allowed.split())
    for tag, attributes in seen.tags:
        assert len(attributes) == len(dict(attributes)), tag
        assert "href" not in dict(attributes) or re.match(r"^#[a-z0-9-]+$", dict(attributes)["href"])
    assert markup.clean(words) in "".join(seen.words)
