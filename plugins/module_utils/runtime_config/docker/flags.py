# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that dockerd was given both as a flag and in daemon.json: it then refuses to start or to reload. Pure.

The daemon names the conflict as "the following directives are specified both as a flag and in the configuration
file"; a flag counts even if both say the same (dockerd reference, "Daemon configuration file"). The rule is the one of
findConfigurationConflicts in moby, the same from 17.05 to 29: a key conflicts with the flag of its name, a list or map
with the flag in SINGULAR, and the members of an object that is not one option count as keys of the file.
"""

from __future__ import annotations

from typing import Any

SINGULAR = {
    "authorization-plugins": "authorization-plugin",
    "cdi-spec-dirs": "cdi-spec-dir",
    "cluster-store-opts": "cluster-store-opt",
    "default-address-pools": "default-address-pool",
    "default-network-opts": "default-network-opt",
    "default-ulimits": "default-ulimit",
    "dns-opts": "dns-opt",
    "exec-opts": "exec-opt",
    "features": "feature",
    "host-gateway-ips": "host-gateway-ip",
    "hosts": "host",
    "insecure-registries": "insecure-registry",
    "labels": "label",
    "log-opts": "log-opt",
    "node-generic-resources": "node-generic-resource",
    "registry-mirrors": "registry-mirror",
    "runtimes": "add-runtime",
    "storage-opts": "storage-opt",
}
"""Key in daemon.json -> name of the flag for the same option, where they differ."""

MERGED = ("runtimes",)
"""Keys that dockerd merges with their flags."""

ONE_OPTION = (
    "builder",
    "cluster-store-opts",
    "default-network-opts",
    "default-ulimits",
    "features",
    "log-opts",
    "nri-opts",
    "runtimes",
)
"""Keys whose object is the value of one option."""

_SHORT = {
    "D": "debug",
    "G": "group",
    "H": "host",
    "b": "bridge",
    "g": "graph",
    "l": "log-level",
    "p": "pidfile",
    "r": "restart",
    "s": "storage-driver",
    "v": "version",
}
_SHORT_SWITCHES = "Drv"


def flags(arguments: list[str]) -> dict[str, str]:
    """Return {long flag name: last value} of a dockerd command line (list of str without argv[0])."""
    found: dict[str, str] = {}
    previous = None
    for argument in arguments:
        if argument.startswith("--") and argument.strip("-"):
            previous, equals, value = argument[2:].partition("=")
            found[previous] = value
            if equals:
                previous = None
        elif argument.startswith("-") and argument.strip("-"):
            previous = _short(argument[1:], found)
        elif previous is not None:
            found[previous] = argument
            previous = None
    return found


def _short(letters: str, found: dict[str, str]) -> str | None:
    """Note the flags in a word such as -Dl; return the name of the one whose value is the next word, or None."""
    for at, letter in enumerate(letters):
        name, rest = _SHORT.get(letter, letter), letters[at + 1 :]
        found[name] = ""
        if letter not in _SHORT_SWITCHES or rest.startswith("="):
            found[name] = rest[1:] if rest.startswith("=") else rest
            return None if rest else name
    return None


def conflicts(arguments: list[str], config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a sorted list of (key, flag) that both the command line and the config (dict) give."""
    given = flags(arguments)
    keys: set[str] = set()
    for key, value in config.items():
        keys.update(value if isinstance(value, dict) and key not in ONE_OPTION else [key])
    pairs = [(key, SINGULAR.get(key, key)) for key in keys if key not in MERGED]
    # dockerd ignores a key in the singular, such as host, but for this one, which was renamed.
    ignored = {flag for flag in SINGULAR.values() if flag != "host-gateway-ip"}
    return sorted((key, flag) for key, flag in pairs if flag in given and key not in ignored)


def config_file(arguments: list[str]) -> str | None:
    """Return the path after --config-file or None; dockerd's own default is /etc/docker/daemon.json."""
    return flags(arguments).get("config-file") or None
