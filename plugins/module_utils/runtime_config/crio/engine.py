# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CRI-O of a node: its program, how it is started, and what it makes of its files.

The running process knows best: its executable, its flags, and its environment (CRI-O has a variable CONTAINER_* for
each flag, and looks for conmon and runtimes in its own PATH).

Members of AnsibleModule in use: get_bin_path, run_command, tmpdir.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from .. import process
from ..process import PROC, Daemon
from ..text.lines import ConfigError

MAIN = "/etc/crio/crio.conf"
SYSTEMD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of a systemd unit that sets none."""

_CONFIG = {"config": "CONTAINER_CONFIG", "c": "CONTAINER_CONFIG"}
_FOLDER = {"config-dir": "CONTAINER_CONFIG_DIR", "d": "CONTAINER_CONFIG_DIR"}
# What they print must reach us, and the running CRI-O's log is its own.
_NOT_PASSED = {"log": "CONTAINER_LOG"}


@dataclass(frozen=True)
class Engine:
    """binary: path of crio, None if there is none. arguments: its flags without those that name files. environment:
    its PATH and CONTAINER_*. main: path of its main file (which need not be there). folder: of its drop-ins, None if
    it is not known to differ from the usual one."""

    binary: Optional[str]
    arguments: List[str]
    environment: Dict[str, str]
    main: str
    folder: Optional[str]

    def which(self, program: str) -> str | None:
        """Return the path of a program in the PATH of CRI-O, or None."""
        return shutil.which(program, path=self.environment["PATH"])


def find(module: Any, daemon: Daemon | None, binary: str | None, main: str | None, proc: str = PROC) -> Engine:
    """Return the Engine. daemon: the running process or None; binary, main: what the user names instead, or None."""
    environment = _environment(daemon, proc)
    files, rest = _split(daemon.arguments if daemon else [])
    running = process.program(daemon.pid, proc) if daemon else None
    return Engine(
        binary=module.get_bin_path(binary) if binary else running or module.get_bin_path("crio"),
        arguments=rest,
        environment={key: value for key, value in environment.items() if key not in _NOT_PASSED.values()},
        main=main or files.get("CONTAINER_CONFIG") or environment.get("CONTAINER_CONFIG") or MAIN,
        folder=files.get("CONTAINER_CONFIG_DIR") or environment.get("CONTAINER_CONFIG_DIR"),
    )


def _environment(daemon: Daemon | None, proc: str) -> dict[str, str]:
    try:
        with open(os.path.join(proc, str(daemon.pid if daemon else ""), "environ"), "rb") as stream:
            raw = stream.read().decode("utf-8", "surrogateescape")
    except OSError:
        raw = ""
    pairs = [item.split("=", 1) for item in raw.split("\0") if "=" in item]
    found = {key: value for key, value in pairs if key == "PATH" or key.startswith("CONTAINER_")}
    return dict({"PATH": SYSTEMD_PATH}, **found)


def _split(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return (variable -> value of the flags that name files, the other arguments)."""
    files: dict[str, str] = {}
    rest = []
    left = list(arguments)
    known = dict(_CONFIG, **_FOLDER, **_NOT_PASSED)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or name not in known:
            rest.append(argument)
        elif equals or left:
            files[known[name]] = value if equals else left.pop(0)
    return files, rest


def defaults(module: Any, engine: Engine) -> str:
    """Return the text (TOML) of what CRI-O has without any file; empty if it cannot be asked."""
    if engine.binary is None:
        return ""
    command = [engine.binary, "--config", "", "--config-dir", "", "config", "--default"]
    code, output, _errors = module.run_command(command, environ_update={"PATH": engine.environment["PATH"]})
    return str(output) if code == 0 else ""


def merged(module: Any, engine: Engine, folder: str, path: str, text: str | None) -> str:
    """Return the configuration (TOML) that crio makes of its files if the one at path held text (None: no file).

    folder: that of the drop-ins. `crio config` prints the configuration and starts nothing. Raises ConfigError with
    crio's own last words.
    """
    trial = tempfile.mkdtemp(prefix="kubegpu-crio-", dir=module.tmpdir)
    try:
        if os.path.isdir(folder):
            shutil.copytree(folder, os.path.join(trial, "d"), symlinks=False)
        else:
            os.mkdir(os.path.join(trial, "d"))
        stand_in = os.path.join(trial, "d", os.path.relpath(path, folder))
        if text is None:
            if os.path.exists(stand_in):
                os.unlink(stand_in)
        else:
            os.makedirs(os.path.dirname(stand_in), exist_ok=True)
            with open(stand_in, "wb") as stream:
                stream.write(text.encode("utf-8"))
        # crio refuses a main file that is named and not there.
        main = engine.main if os.path.exists(engine.main) else ""
        files = ["--config", main, "--config-dir", os.path.join(trial, "d")]
        command = [str(engine.binary), *engine.arguments, *files, "config"]
        code, output, errors = module.run_command(command, environ_update=engine.environment)
        if code != 0:
            last = (errors.strip() or output.strip() or "exit status %d" % code).splitlines()[-1]
            raise ConfigError("CRI-O refuses it: %s" % last.replace(stand_in, path))
        return str(output)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def monitor_problem(module: Any, path: str) -> str | None:
    """Return what is wrong with the program at path as conmon, or None. CRI-O asks for its version at each start."""
    if not os.path.isabs(path):
        return "is not an absolute path"
    if not os.path.exists(path):
        return "does not exist"
    try:
        code, output, _errors = module.run_command([path, "--version"], handle_exceptions=False)
    except OSError as error:
        return "cannot be executed: %s" % error.strerror
    words = output.split()
    if code != 0 or len(words) < 3 or not words[2][:1].isdigit():
        return "is no conmon: it does not tell its version"
    return None
