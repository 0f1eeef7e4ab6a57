# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module repository_key_info, really run, against a real server that is a proxy too."""

from __future__ import annotations

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.unit.plugins.modules.runtime_config_helpers import run_module

NAME = "repository_key_info"
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nkey\n"


@pytest.fixture
def server():
    """Its address without the scheme, and the headers of what it was asked."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers))
            found = self.path.endswith("/gpgkey")
            asked = "mirror.invalid" in self.path and "Authorization" not in self.headers
            self.send_response(401 if asked else 200 if found else 404)
            if asked:
                self.send_header("WWW-Authenticate", 'Basic realm="mirror"')
            self.end_headers()
            self.wfile.write(KEY.encode() if found else b"")

        def log_message(self, *args):
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{made.server_address[1]}", seen
        made.shutdown()


@pytest.mark.parametrize("check", [False, True])
def test_from_a_server(server, check):
    address, _seen = server
    answer = run_module(NAME, check=check, url=f"http://{address}/gpgkey")
    assert (answer["changed"], answer["content"], answer["status"]) == (False, KEY, 200)


def test_through_a_proxy_with_passwords(server):
    address, seen = server
    answer = run_module(NAME, url="http://me:mine@mirror.invalid/gpgkey", proxy=f"http://someone:s3cr3t%2B1@{address}")
    assert answer["content"] == KEY
    path, headers = seen[-1]
    assert path == "http://mirror.invalid/gpgkey"
    assert base64.b64decode(headers["Proxy-Authorization"].split()[1]) == b"someone:s3cr3t+1"
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"me:mine"


def test_from_a_file(tmp_path):
    (tmp_path / "a key").write_text(KEY)
    assert run_module(NAME, url=f"file://{tmp_path}/a%20key")["content"] == KEY
    missing = run_module(NAME, url=f"file://{tmp_path}/none")
    assert missing["failed"]
    assert f"{tmp_path}/none" in missing["msg"]


def test_what_is_not_there(server):
    address, _seen = server
    missing = run_module(NAME, url=f"http://{address}/nothing")
    assert (missing["failed"], missing["status"]) == (True, 404)
    away = run_module(NAME, url="http://127.0.0.1:1/gpgkey")
    assert (away["failed"], away["status"]) == (True, -1)
