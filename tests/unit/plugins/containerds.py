# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real containerd programs of several series, and what they would run: `config dump`, decoded as they decode it."""

from __future__ import annotations

import os
import subprocess
import tempfile

import pytest

from tests.engines import EngineError, build, catalogue
from tests.engines import debian as engines

SERIES = ("1.6", "1.7", "2.1", "2.4")
_DEBIAN = {"1.6": "1.6", "1.7": "1.7", "2.1": "2"}


def binary(series):
    """Return the path of a containerd of SERIES; skips the test where the cache does not have it."""
    if series in _DEBIAN:
        try:
            return str(engines.containerd(_DEBIAN[series], fetch=False) / "containerd")
        except EngineError as error:
            pytest.skip(str(error))
    program = build.place(catalogue.ENGINES[f"containerd-{series}"]) / "containerd"
    if not os.access(program, os.X_OK):
        pytest.skip(f"containerd {series} is not in the cache: make engines builds it")
    return str(program)


def dump_text(series, text):
    """Return what `config dump` prints for a text (str)."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml", newline="") as file:
        file.write(text)
        file.flush()
        return _run(series, "-c", file.name, "config", "dump")


def dump(series, text):
    """Return what containerd makes of a text (str), as a dict."""
    return pytest.importorskip("tomllib").loads(dump_text(series, text))


def default(series):
    """Return the text of containerd's own default file."""
    return _run(series, "config", "default")


def _run(series, *arguments):
    done = subprocess.run([binary(series), *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cri(dumped):
    """Return the table containerd of CRI in a dump: that of 2.x, else that of 1.x."""
    plugins = dumped["plugins"]
    return (plugins.get("io.containerd.cri.v1.runtime") or plugins["io.containerd.grpc.v1.cri"])["containerd"]


def runs(dumped, name=None):
    """Return what containerd gives its shim for a runtime (None: the default one) that is of runc's kind, as a dict.

    As criconfig.GenerateRuntimeOptions does it: 2.x sorts the keys and ignores case, so the last one wins; 1.x takes
    the exact name, else all lower case, all upper case or a lower first letter.
    """
    section = cri(dumped)
    runtime = section["runtimes"][name or section["default_runtime_name"]]
    assert runtime["runtime_type"] == "io.containerd.runc.v2"
    given = runtime.get("options") or {}
    found = {}
    for key in ("BinaryName", "SystemdCgroup", "Root"):
        if dumped["version"] >= 3:
            values = [given[spelled] for spelled in sorted(given) if spelled.lower() == key.lower()]
        else:
            tried = (key, key.lower(), key.upper(), key[0].lower() + key[1:])
            values = [given[spelled] for spelled in reversed(tried) if spelled in given]
        found[key] = values[-1] if values else None
    return found
