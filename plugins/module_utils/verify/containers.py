# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containers say that were started by hand, without Kubernetes."""

from __future__ import annotations

import re
from typing import Any

from .links import count, failed, passed, skipped, uuids

# (words of a message, remedy); the first that is contained wins
_REMEDIES = (
    (
        "could not select device driver",
        "dockerd was started before the toolkit was installed: restart Docker (docker_runtime_allow_restart)",
    ),
    ("unknown runtime", "run the play with the tag docker_runtime"),
    ("unknown or invalid runtime", "run the play with the tag docker_runtime"),
    (
        "executable file not found",
        "no nvidia-smi was put into the container: try 'nvidia-container-cli info' on the node",
    ),
    ("nvidia-smi: not found", "no nvidia-smi was put into the container: try 'nvidia-container-cli info' on the node"),
    ("nvidia-smi did not answer", "the driver or a GPU hangs: see 'dmesg' on the node"),
    (
        "nvidia-container-runtime: no such file",
        "the runtime's program is missing: run the play with the tag container_toolkit",
    ),
    ("containerd.sock", "see 'systemctl status containerd' (k3s, RKE2: their own unit)"),
    ("driver/library version mismatch", "the driver was upgraded while it was in use: reboot the node"),
    ("cannot connect to the docker daemon", "see 'systemctl status docker'"),
)
# as the role's script says it; RKE2 has it in a folder of its own
NO_CTR = "there is no ctr in PATH"
_OTHERWISE = "try the same on the node, with debug set in /etc/nvidia-container-runtime/config.toml"


def remedy(text: str) -> str:
    """What to do about a container's message."""
    lowered = text.lower()
    return next((known for words, known in _REMEDIES if words in lowered), _OTHERWISE)


def judge(name: str, seen: dict[str, Any]) -> dict[str, str]:
    """The link of one container.

    Args:
        name (str): of the link, which begins with that of the engine.
        seen (dict): ``container_runs`` (link -> result of ansible.builtin.command), ``gpu`` (facts), and of each engine
            (``docker``, ``containerd``) in ``container_engines`` ``skip`` (why there is no run), ``image`` and
            ``option`` (the variable that would have an image pulled, empty if none does; ``named`` says whether it
            was used).

    Returns:
        dict: the link.
    """
    engine = seen["container_engines"][name.partition("_")[0]]
    run = (seen.get("container_runs") or {}).get(name)
    if run is None:
        return skipped(name, engine.get("skip") or "not tried")
    output = "%s\n%s" % (run.get("stdout") or "", run.get("stderr") or "")
    if run.get("rc") == 125 and re.search(r"no such image|unable to find image", output, re.IGNORECASE):
        if not engine.get("named"):
            reason = "the image %s is not on the node" % engine.get("image")
            return skipped(name, reason + ("; %s names one to pull" % engine["option"] if engine["option"] else ""))
        return failed(name, (run.get("stderr") or "").strip(), "load the image on the node, or let Docker pull it")
    if run.get("rc") == 127 and NO_CTR in output:
        return skipped(name, "%s, which comes with containerd and runs one container" % NO_CTR)
    if run.get("rc") != 0:
        detail = (run.get("stderr") or run.get("stdout") or run.get("msg") or "no message").strip()
        if run.get("rc") == 137:
            detail = "nvidia-smi did not answer in time"
        return failed(name, "exit code %s: %s" % (run.get("rc"), detail), remedy(detail))
    saw = uuids(run["stdout"])[0]
    if len(saw) != seen["gpu"]["count"]:
        return failed(
            name,
            "the container saw %s, the driver has %d" % (count(len(saw), "GPU"), seen["gpu"]["count"]),
            "see /etc/nvidia-container-runtime/config.toml",
        )
    return passed(name, "a container saw %s" % count(len(saw), "GPU"))
