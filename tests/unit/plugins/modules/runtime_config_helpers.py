# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module as Ansible does: a process of its own, its arguments as JSON on standard input."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.house import targets

ROOT = Path(__file__).resolve().parents[4]


def run_module(name, /, check=False, diff=True, **arguments):
    """Return the module's answer as a dict, its warnings as a list of str.

    A traceback or anything else on stderr fails the test.
    """
    arguments.update(_ansible_check_mode=check, _ansible_diff=diff)
    python, path = targets.chosen()
    done = subprocess.run(
        [python, str(ROOT / "plugins" / "modules" / f"{name}.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    # ansible-core 2.19 and later wrap a warning.
    texts = [item if isinstance(item, str) else item["event"]["msg"] for item in answer.get("warnings", [])]
    return dict(answer, warnings=texts)


def tree(folder):
    """Return {relative path: (content, mode)} of all files below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }
