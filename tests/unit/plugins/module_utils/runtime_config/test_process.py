# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What /proc says about a daemon, asked about real processes."""

from __future__ import annotations

import os
import subprocess
import time

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import process


def test_a_process_is_never_older_than_the_file_written_before_it(tmp_path):
    """A whole second of /proc/stat's btime, or a tick, would make a restart look as if it had not happened.

    The starts are spread over a second, so that no fraction of the boot time hides the cut.
    """
    config, pid_file = tmp_path / "config.toml", tmp_path / "pid"
    for _repeat in range(8):
        config.write_text("version = 2")
        changed = config.stat().st_mtime
        with subprocess.Popen(["sleep", "60"]) as sleeper:
            try:
                pid_file.write_text(str(sleeper.pid))
                # exec comes a moment after fork, and with it the name
                daemon = None
                while daemon is None and sleeper.poll() is None:
                    daemon = process.find("sleep", str(tmp_path / "none.sock"), str(pid_file))
                found = time.time()
            finally:
                sleeper.kill()
        assert daemon.arguments == ["60"]
        assert changed <= daemon.started <= found + 0.02
        time.sleep(0.13)


def test_a_program_that_does_not_run(tmp_path):
    pid_file = tmp_path / "pid"
    assert process.find("sleep", str(tmp_path / "none.sock"), str(pid_file)) is None
    pid_file.write_text("not a number")
    assert process.find("sleep", str(tmp_path / "none.sock"), str(pid_file)) is None
    pid_file.write_text(str(os.getpid()))
    assert process.find("sleep", str(tmp_path / "none.sock"), str(pid_file)) is None


def test_a_process_without_a_command_line_runs_nothing(tmp_path):
    """A zombie, and a process in the middle of its exec: its name is there already, its arguments are not."""
    (tmp_path / "7").mkdir()
    for name, content in (("comm", "dockerd\n"), ("cmdline", ""), ("stat", "7 (dockerd) Z " + "1 " * 20)):
        (tmp_path / "7" / name).write_text(content)
    pid_file = tmp_path / "pid"
    pid_file.write_text("7")
    assert process.find("dockerd", str(tmp_path / "none.sock"), str(pid_file), proc=str(tmp_path)) is None
    (tmp_path / "7" / "cmdline").write_text("dockerd\0--debug\0")
    daemon = process.find("dockerd", str(tmp_path / "none.sock"), str(pid_file), proc=str(tmp_path))
    assert (daemon.pid, daemon.arguments) == (7, ["--debug"])
