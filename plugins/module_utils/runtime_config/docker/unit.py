# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line that systemd will give dockerd at its next start.

A daemon that is down has no command line to look at, and a running one has that of its last start, from before the
unit was changed.
"""

from __future__ import annotations

import re
import shlex
from typing import Callable

PROPERTIES = ("ExecStart", "Environment", "EnvironmentFiles")

_COMMAND = re.compile(r"argv\[\]=(.*?) ; ignore_errors=")
_FILE = re.compile(r"^-?(.*?)(?: \(ignore_errors=(?:yes|no)\))?$")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def read(run: Callable[..., tuple[int, str, str]], systemctl: list[str], unit: str) -> list[str] | None:
    """Return dockerd's command line (list of str, the program first), or None if systemd does not know or start it.

    run: function (list of str) -> (return code, stdout, stderr); systemctl: the command with its scope, list of str.
    """
    code, output = run([*systemctl, "show", *("--property=" + name for name in PROPERTIES), unit])[:2]
    return None if code != 0 else command(output, _read_text)


def command(shown: str, read_text: Callable[[str], str]) -> list[str] | None:
    """Return dockerd's command line from what `systemctl show` printed. Pure but for read_text (path -> str).

    Variables are filled in as systemd.service(5) says: ${NAME} within a word, a word $NAME is split at white space.
    """
    properties: dict[str, list[str]] = {}
    for line in shown.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            properties.setdefault(name, []).append(value)
    environment: dict[str, str] = {}
    for value in properties.get("Environment", []):
        environment.update(word.partition("=")[::2] for word in _words(value))
    for value in properties.get("EnvironmentFiles", []):
        environment.update(_variables(read_text(_FILE.sub(r"\1", value, count=1))))
    for value in properties.get("ExecStart", []):
        for line in _COMMAND.findall(value):
            words = line.split()
            if words and words[0].rpartition("/")[2].startswith("dockerd"):
                return [word for item in words for word in _filled_in(item, environment)]
    return None


def _filled_in(word: str, environment: dict[str, str]) -> list[str]:
    if re.match(r"^\$\w+$", word):
        return _words(environment.get(word[1:], ""))
    return [_VARIABLE.sub(lambda match: environment.get(match.group(1), ""), word)]


def _variables(text: str) -> dict[str, str]:
    """The assignments of an environment file, as systemd.exec(5) reads it."""
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            # One pair of quotes belongs to the file; those within are for the command line.
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[name.strip()] = value[1:-1] if quoted else value
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(1024 * 1024)
    except OSError:
        return ""
