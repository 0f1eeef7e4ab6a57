# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets in what is shown of configurations: none is left, and nothing else is lost."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import files
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.masking import MASK, mask, mask_data

KEYS = (
    "password", "passwd", "identitytoken", "registryToken", "auth", "Authorization", "X-Registry-Auth", "splunk-token",
    "client_secret", "s3-access-key", "secretKey", "apikey", "HTTP_PASSWORD", "credentials",
)  # fmt: skip
PLAIN_KEYS = ("log-driver", "SystemdCgroup", "global_auth_file", "authorization-plugins", "tlskey", "secrets-dir", "a")
SECRET = st.text("abcXYZ019+/=.:@$%!#[]{}\",\\' é\t", min_size=1, max_size=12).map("s3-{}-cret".format)
# What a URL takes as it is in its user and password, with a sign of our own to find it again.
URL_SECRET = st.text("abcXYZ019%.~$!*+,=:@-", max_size=8).map("s3{}cret".format)
PLAIN = st.sampled_from(
    ["journald", "", "/etc/x.pem", "https://mirror:5000/v2/?a=b", "fd://", "user@host", "a: b", "#"]
)


def has(secret, text):
    return secret in text or json.dumps(secret)[1:-1] in text


@st.composite
def documents(draw):
    """(plain data of two levels, list of the secrets in it)."""
    secrets = []

    def leaf(key):
        if key in KEYS:
            secrets.append(draw(SECRET))
            return secrets[-1]
        if draw(st.booleans()):
            secrets.append(draw(URL_SECRET))
            return draw(st.sampled_from(["http://{}@h:1", "socks5://u:{}@h", "x=https://{}@[::1]/p"])).format(
                secrets[-1]
            )
        return draw(PLAIN)

    def value(key, depth):
        kinds = ["leaf", "list"] + (["table"] if depth else [])
        kind = draw(st.sampled_from(kinds))
        if kind == "leaf":
            return leaf(key)
        if kind == "list":
            return [leaf(key) for _each in range(draw(st.integers(0, 2)))]
        inner = draw(st.lists(st.sampled_from(KEYS + PLAIN_KEYS), unique=True, max_size=3))
        if key in KEYS:
            return {name: leaf("auth") for name in inner}
        return {name: value(name, depth - 1) for name in inner}

    names = draw(st.lists(st.sampled_from(KEYS + PLAIN_KEYS), unique=True, max_size=5))
    return {name: value(name, 2) for name in names}, secrets


def shape(value):
    """The same with strings left out."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


def plain(value, secret=False):
    """The strings that are neither secrets nor URLs with a user."""
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in plain(item, secret or key in KEYS)]
    if isinstance(value, list):
        return [text for item in value for text in plain(item, secret)]
    return [] if secret or "s3" in str(value) or MASK in str(value) else [value]


@given(documents(), st.sampled_from([None, 0, 2, "\t"]), st.booleans())
@settings(deadline=None, max_examples=400)
def test_json(document, indent, ascii_only):
    data, secrets = document
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    masked = mask(text)
    assert not [secret for secret in secrets if has(secret, masked)]
    assert shape(json.loads(masked)) == shape(data)
    assert plain(json.loads(masked)) == plain(data)
    assert mask(masked) == masked
    assert shape(mask_data(data)) == shape(data)
    assert plain(mask_data(data)) == plain(data)
    assert not [secret for secret in secrets if has(secret, json.dumps(mask_data(data)))]


def toml(data, draw, path=()):
    """TOML of plain data: headers with indentation or none, inline tables, literal strings, commented lines."""
    lines, tables = [], []
    for key, value in data.items():
        name = key if draw(st.booleans()) else json.dumps(key)
        comment = draw(st.sampled_from(["", "", "# ", "  #"]))
        if isinstance(value, dict) and not comment and draw(st.booleans()):
            tables.append((key, value))
            continue
        lines.append(comment + name + draw(st.sampled_from([" = ", "="])) + inline(value, draw))
    for key, value in tables:
        below = (*path, key)
        indent = "  " * draw(st.integers(0, 2))
        header = ".".join(part if draw(st.booleans()) else json.dumps(part) for part in below)
        lines.append(f"{indent}[{header}]{draw(st.sampled_from(['', ' # a comment', ' ']))}")
        lines += toml(value, draw, below)
    return lines


def inline(value, draw):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(item, draw)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(item, draw) for item in value) + "]"
    if "'" not in value and "\t" not in value and draw(st.booleans()):
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)


@given(documents(), st.data())
@settings(deadline=None, max_examples=400)
def test_toml(document, data):
    plain_data, secrets = document
    text = data.draw(st.sampled_from(["\n", "\r\n"])).join(
        ["version = 2", *toml(plain_data, data.draw), "[end]", 'a = "b"']
    )
    masked = mask(text)
    before = toml_text.to_python(toml_text.scan(text).root)
    after = toml_text.to_python(toml_text.scan(masked).root)
    assert not [secret for secret in secrets if has(secret, masked)]
    assert shape(after) == shape(before)
    assert plain(after) == plain(before)
    assert mask(masked) == masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        (
            '[plugins."io.containerd.grpc.v1.cri".registry.configs."r:5000".auth]\n  username = "me"\n'
            '  password = """a\nb"""\n'
            '[plugins."io.containerd.grpc.v1.cri".registry.configs."r:5000".tls]\n  key_file = "/k"\n',
            '[plugins."io.containerd.grpc.v1.cri".registry.configs."r:5000".auth]\n  username = "********"\n'
            '  password = """********"""\n'
            '[plugins."io.containerd.grpc.v1.cri".registry.configs."r:5000".tls]\n  key_file = "/k"\n',
        ),
        ('[a.headers]\nAuthorization = [\n  "Basic x", # "]"\n  "y",\n]\n', None),
        ('a.auth.username = "me"\n[[b.auth]]\nx = 1\n[[c]]\nx = 1',
         'a.auth.username = "********"\n[[b.auth]]\nx = ********\n[[c]]\nx = 1'),
        ('env = ["HTTP_PROXY=http://u:p@h:1", "A_TOKEN=abc", "B=1"]',
         'env = ["HTTP_PROXY=http://********@h:1", "A_TOKEN=********", "B=1"]'),
        ('{"http-proxy":"http:\\/\\/u:p@h"}', '{"http-proxy":"http:\\/\\/********@h"}'),
        ('{"http-proxy":"u:p@h:3128"}', '{"http-proxy":"********@h:3128"}'),
        ('{"e":"{\\"password\\": \\"x y\\"}"}', '{"e":"{\\"password\\": \\"********\\"}"}'),
        ('{"password": 12, "token": null, "secret": false}', '{"password": ********, "token": null, "secret": false}'),
        ("sandbox_image = 'pause:3.9@sha256:0f'", "sandbox_image = 'pause:3.9@sha256:0f'"),
        ("x.auth.password: 'old' -> 'new'; y: 1 -> 2", "x.auth.password: '********' -> '********'; y: 1 -> 2"),
        ("x.token: None -> 'new'", "x.token: None -> '********'"),
        ("Authorization: Bearer abc.def failed", "Authorization: ******** failed"),
        ("--password=x --token y", "--password=******** --token y"),
        ("password = [ unclosed\nnext", "password = ********\nnext"),
        ("line 3, column 1: unexpected token; see https://docs.example.com/@x",
         "line 3, column 1: unexpected token; see https://docs.example.com/@x"),
    ],
)  # fmt: skip
def test_cases(text, shown):
    if shown is None:
        assert "Basic" not in mask(text)
        assert '"y"' not in mask(text)
    else:
        assert mask(text) == shown


@given(st.text("[]{}\"'\\=:#\n ,a@/.", max_size=60) | st.text(max_size=60))
@settings(deadline=None, max_examples=500)
def test_any_text(text):
    assert mask(text).count("\n") <= text.count("\n")


@pytest.mark.parametrize("part", ["a", '["', "password=[", "\\", "://", "token.a", "[auth]\n", " ", 'password = "x"\n'])
def test_large_texts_take_no_longer_than_their_size(part):
    start = time.process_time()
    mask('x = "' + part * (100_000 // len(part)))
    assert time.process_time() - start < 5


def test_what_people_see_is_masked():
    text = '{"proxies": {"http-proxy": "http://u:p@h"}}'
    shown = files.diff("/etc/docker/daemon.json", text, None)
    assert (shown["before"], shown["after"]) == (text.replace("u:p", MASK), "")
    assert ConfigError('refused: token = "x"', 1, 2).describe("f") == 'f, line 1, column 2: refused: token = "********"'
    assert ConfigError("http://u:p@h").describe("f") == "f: http://********@h"
