# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that dockerd was given both as a flag and in daemon.json: it then refuses to start or to reload. Pure.

The daemon names the conflict as "the following directives are specified both as a flag and in the configuration
file"; a flag counts even if both say the same (dockerd reference, "Daemon configuration file").
"""

from __future__ import annotations

from typing import Any

FLAG_OF_KEY = {"default-runtime": "default-runtime", "runtimes": "add-runtime", "features": "feature"}
"""Key in daemon.json -> name of the flag for the same option (only keys that we write)."""


def flags(arguments: list[str]) -> dict[str, str]:
    """Return {flag name: last value} of a dockerd command line (list of str without argv[0])."""
    found = {}
    previous = None
    for argument in arguments:
        if argument.startswith("-") and argument.strip("-"):
            previous, equals, value = argument.lstrip("-").partition("=")
            found[previous] = value
            if equals:
                previous = None
        elif previous is not None:
            found[previous] = argument
            previous = None
    return found


def conflicts(arguments: list[str], config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a sorted list of (key, flag) that both the command line and the config (dict) give."""
    given = flags(arguments)
    return sorted((key, flag) for key, flag in FLAG_OF_KEY.items() if flag in given and key in config)


def config_file(arguments: list[str]) -> str | None:
    """Return the path after --config-file or None; dockerd's own default is /etc/docker/daemon.json."""
    return flags(arguments).get("config-file") or None


def unit_conflict_message(found: list[tuple[str, str]], path: str, unit: str) -> str:
    """Return the message for flags of the next start."""
    parts = ["--%s and the key %s" % (flag, key) for key, flag in found]
    return (
        "the systemd unit %s starts dockerd with the same option as a flag that it would have in %s: %s. dockerd "
        "refuses to start like this. Take the flag out of the unit (systemctl cat %s) or of its environment file, and "
        "run this again" % (unit, path, "; ".join(parts), unit)
    )


def conflict_message(found: list[tuple[str, str]], path: str) -> str:
    """Return the message for a non-empty list from conflicts()."""
    parts = ["--%s and the key %s" % (flag, key) for key, flag in found]
    return (
        "the running dockerd has the same option as a flag and would have it in %s: %s. dockerd refuses to reload or "
        "start like this. Take the flag out of the daemon's unit (systemctl cat docker) or of its environment file, "
        "restart Docker, and run this again" % (path, "; ".join(parts))
    )
