# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running daemon still needs to match its file: none, reload or restart. Pure.

For Docker the file is compared with what /info says. A reload (SIGHUP) makes dockerd take over the keys that the
file has; it does not go back to a default for a key that the file no longer has, so an option that left the file
needs a restart. Two reloads are worse than useless, tried on 20.10.24, where dockerd panics and takes its containers
with it (unless live-restore is on): a file with runtimes but without default-runtime while the daemon's default
runtime is not among them, and a file with "runtimes": null.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from .process import Daemon

LEVELS = ("none", "reload", "restart")


@dataclass
class Pending:
    """level: one of LEVELS; reasons: list of str, for people; restarts: how many of them need a restart."""

    level: str = "none"
    reasons: List[str] = field(default_factory=list)
    restarts: int = 0

    def add(self, level: str, reason: str) -> None:
        """Note a reason; the strongest level wins."""
        self.level = max(self.level, level, key=LEVELS.index)
        self.reasons.append(reason)
        self.restarts += level == "restart"


@dataclass(frozen=True)
class DockerWanted:
    """What was asked for: the runtime's name, whether it is to be there, and what was asked for its neighbours."""

    name: str
    present: bool
    default_asked: bool = False
    cdi: Optional[bool] = None


def docker(
    config: Dict[str, Any],
    live: Optional[Dict[str, Any]],
    wanted: DockerWanted,
    started: Optional[float] = None,
    hook_changed: Optional[float] = None,
) -> Pending:
    """Compare daemon.json's content with the live state (None: not running, so nothing is pending).

    started: when dockerd started; hook_changed: ctime of nvidia-container-runtime-hook, None if it is not there or
    not of interest; both in seconds since the epoch. dockerd looks for the hook in PATH once, at its start, and
    knows `docker run --gpus` only if it found it (20.10 to 27).
    """
    pending = Pending()
    if live is None:
        return pending
    _docker_runtime(pending, config, live, wanted)
    _docker_default(pending, config, live, wanted)
    if wanted.cdi is not None and live["cdi"] is not None and live["cdi"] is not wanted.cdi:
        shown = (str(wanted.cdi).lower(), str(live["cdi"]).lower())
        pending.add(
            "restart",
            "features.cdi is %s in the file and %s in the running daemon, which reads it only when it starts" % shown,
        )
    if not wanted.present and live["cdi"] and not _cdi_by_file(config, live["server_version"]):
        pending.add("restart", "the running daemon still has CDI on, which the file does not ask for")
    if wanted.present and started is not None and hook_changed is not None and hook_changed > started:
        pending.add(
            "restart",
            "nvidia-container-runtime-hook is newer than the running dockerd, which looks for it "
            "only when it starts: docker run --gpus does not work until then",
        )
    if pending.level == "reload":
        _reload_hazard(pending, config, live)
    return pending


def _cdi_by_file(config: dict[str, Any], version: str) -> bool:
    """Whether a dockerd of this version (str) has CDI on with this file; it is on by default since 28.2."""
    features = config.get("features")
    asked = features.get("cdi") if isinstance(features, dict) else None
    if isinstance(asked, bool):
        return asked
    number = re.match(r"(\d+)\.(\d+)", version)
    return number is not None and (int(number.group(1)), int(number.group(2))) >= (28, 2)


def _reload_hazard(pending: Pending, config: dict[str, Any], live: dict[str, Any]) -> None:
    if "runtimes" not in config:
        return
    runtimes = config["runtimes"]
    default = config.get("default-runtime") or live["default_runtime"]
    if runtimes is None:
        pending.add("restart", 'the file has "runtimes": null: do not reload, it makes dockerd panic (seen on 20.10)')
    elif default not in runtimes and default != "runc":
        pending.add(
            "restart",
            "the running daemon's default runtime %s is not among the file's runtimes: do not "
            "reload, it makes dockerd panic (seen on 20.10)" % default,
        )


def _docker_runtime(pending: Pending, config: dict[str, Any], live: dict[str, Any], wanted: DockerWanted) -> None:
    known = live["runtimes"].get(wanted.name)
    entry = (config.get("runtimes") or {}).get(wanted.name)
    if entry is None:
        if known is not None:
            pending.add(
                "reload" if isinstance(config.get("runtimes"), dict) else "restart",
                "the running daemon still has the runtime %s" % wanted.name,
            )
        return
    if known is None:
        pending.add("reload", "the running daemon does not have the runtime %s" % wanted.name)
        return
    for key, empty in (("path", ""), ("runtimeArgs", [])):
        if (known.get(key) or empty) != (entry.get(key) or empty):
            pending.add(
                "reload",
                "runtimes.%s.%s is %s in the running daemon and %s in the file"
                % (wanted.name, key, _shown(known.get(key)), _shown(entry.get(key))),
            )


def _docker_default(pending: Pending, config: dict[str, Any], live: dict[str, Any], wanted: DockerWanted) -> None:
    running = live["default_runtime"]
    in_file = config.get("default-runtime")
    expected = in_file or "runc"
    # Somebody else's pending change of the default is not ours to report unless it was asked for.
    if running == expected or not (wanted.default_asked or wanted.name in (running, expected)):
        return
    pending.add(
        "reload" if in_file else "restart",
        "the running daemon's default runtime is %s, the file's is %s" % (running, expected),
    )


def _shown(value: object) -> str:
    return "not set" if value in (None, "", []) else repr(value)


def at_start(
    engine: str, changed: bool, daemon: Daemon | None, newest: float | None, path: str = "the file"
) -> Pending:
    """Return the Pending of an engine (its name, for messages) that reads its configuration at its start only.

    changed: this run changed the file. daemon: the running process, or None. newest: modification time of the newest
    file that makes up the configuration, in seconds since the epoch, or None. A file that is newer than the process may
    be of a run that died before the restart.

    CRI-O takes over runtimes on SIGHUP since 1.26 (pull request 6056 of cri-o/cri-o), but there are releases whose
    inspection endpoint shows the new runtime while RunPodSandbox goes on with the old list (issue 10202 there), and
    nothing that could be read back tells the two apart. A restart leaves containers alone, so it is the means to be
    sure.
    """
    pending = Pending()
    if daemon is None:
        return pending
    if changed:
        pending.add("restart", "%s changed, and %s reads it only when it starts" % (path, engine))
    elif daemon.started is not None and newest is not None and newest > daemon.started:
        pending.add("restart", "%s is newer than the running %s, which reads it only when it starts" % (path, engine))
    return pending
