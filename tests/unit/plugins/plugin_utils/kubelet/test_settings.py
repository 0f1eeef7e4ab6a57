"""Single keys out of the kubelet's configuration."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet import settings
from tests.unit.plugins.plugin_utils.kubelet.machines import Machine

KEY = "containerRuntimeEndpoint"
KUBEADM = """\
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  webhook:
    cacheTTL: 0s
    enabled: true
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
containerRuntimeEndpoint: ""
kind: KubeletConfiguration
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(KUBEADM, None, id="empty-as-kubeadm-writes-it"),
        pytest.param(KUBEADM.replace('""', "unix:///run/crio/crio.sock"), "unix:///run/crio/crio.sock", id="plain"),
        pytest.param(f"{KEY}: 'unix:///a''b'", "unix:///a'b", id="single-quotes"),
        pytest.param(f'{KEY}: "unix:///a\\"b" # c', 'unix:///a"b', id="double-quotes"),
        pytest.param(f'"{KEY}": unix:///a', "unix:///a", id="quoted-key"),
        pytest.param(f"{KEY}: unix:///a # why", "unix:///a", id="comment-behind"),
        pytest.param(f"{KEY}: unix:///a#b", "unix:///a#b", id="no-comment"),
        pytest.param(f"# {KEY}: unix:///a\nx: 1", None, id="commented-out"),
        pytest.param(f"{KEY}: # nothing", None, id="only-a-comment"),
        pytest.param(f"{KEY}: ~", None, id="null"),
        pytest.param(f"nested:\n  {KEY}: unix:///a", None, id="further-in"),
        pytest.param(f"text: |\n  {KEY}: unix:///a\n{KEY}: unix:///b", "unix:///b", id="inside-of-a-text"),
        pytest.param(f"  kind: x\n  {KEY}: unix:///a", "unix:///a", id="everything-indented"),
        pytest.param(f"---\n{KEY}: unix:///a\n---\n{KEY}: unix:///b", "unix:///a", id="first-document"),
        pytest.param(f"x: 1\n---\n{KEY}: unix:///b", None, id="second-document"),
        pytest.param(f"\ufeff{KEY}: unix:///a\r\n", "unix:///a", id="from-windows"),
        pytest.param(f"{KEY}: |\n  unix:///a", "unix:///a", id="block-of-text"),
        pytest.param(f"{KEY}:\n- a", None, id="list"),
        pytest.param(f"{KEY}: yes", "true", id="truth"),
        pytest.param(f"{KEY}: 1", None, id="number"),
        pytest.param("- a", None, id="no-mapping"),
        pytest.param(f"{KEY}: 2026-99-99", None, id="no-date"),
        pytest.param("[" * 5000, None, id="deep"),
        pytest.param(f"{KEY}s: unix:///a", None, id="another-key"),
        pytest.param(json.dumps({KEY: "unix:///a", "b": {"c": 1}}, indent=2), "unix:///a", id="json"),
        pytest.param(json.dumps({"b": {KEY: "unix:///a"}}), None, id="json-further-in"),
        pytest.param('{"broken', None, id="broken-json"),
        pytest.param("", None, id="empty"),
    ],
)
def test_key(text, expected):
    assert settings.key(text, KEY) == expected


@given(st.text())
def test_no_text_makes_it_fail(text):
    value = settings.key(text, KEY)
    assert value is None or isinstance(value, str)


def test_the_last_file_of_a_directory_wins(tmp_path):
    machine = Machine(tmp_path)
    machine.file("etc/k.d/10-a.conf", f"{KEY}: unix:///a").file("etc/k.d/20-b.conf", f"{KEY}: unix:///b")
    machine.file("etc/k.d/30-c.conf", "x: y").file("etc/k.d/40-d.yaml", f"{KEY}: unix:///d")
    assert settings.directory_key(machine.look(), "/etc/k.d", KEY, ".conf") == "unix:///b"


def test_missing_files_have_no_keys(tmp_path):
    looked = Machine(tmp_path).look()
    assert settings.file_key(looked, "/etc/none", KEY) is None
    assert settings.directory_key(looked, "/etc/none.d", KEY, ".conf") is None
    assert settings.words(looked, "/etc/none") == []
