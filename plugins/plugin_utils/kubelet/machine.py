# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine shows of its kubelet and its container runtimes, asked of its shell in as few questions as possible.

A script for any sh: nothing is packed and sent for it, and no Python starts on the machine. It decides nothing.
"""

from __future__ import annotations

import base64
import os
import shlex
from dataclasses import dataclass, field
from typing import Callable, Iterable

Ask = Callable[[str], "tuple[int, str, str]"]
"""Runs a shell script on the machine: exit status, output, errors."""

# Sockets in the order of preference. k3s and RKE2 bring a containerd of their own.
SOCKETS = {
    "docker": ("/run/docker.sock", "/var/run/docker.sock"),
    "containerd": (
        "/run/containerd/containerd.sock",
        "/run/k3s/containerd/containerd.sock",
        "/run/k0s/containerd.sock",
        "/var/snap/microk8s/common/run/containerd.sock",
    ),
    "crio": ("/run/crio/crio.sock",),
}
# Docker's side of the CRI: the kubelet's own shim (until 1.23), Mirantis's cri-dockerd, and that of k3s.
K3S_CRI_DOCKERD = "/run/k3s/cri-dockerd/cri-dockerd.sock"
DOCKERSHIMS = ("/run/dockershim.sock", "/var/run/dockershim.sock")
DOCKER_SHIMS = (*DOCKERSHIMS, "/run/cri-dockerd.sock", K3S_CRI_DOCKERD)

PROGRAMS = {"docker": "dockerd", "containerd": "containerd", "crio": "crio"}
_DIRECTORIES = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "bin", "sbin", "opt/bin", "snap/bin")

# Where a kubelet is usually told what to do. What its command line names beyond that is a further question.
KUBEADM_FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
KUBEADM_CONFIG = "/var/lib/kubelet/config.yaml"
MICROK8S_FLAGS = "/var/snap/microk8s/current/args/kubelet"
K3S_KUBELET = "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d"
RKE2_KUBELET = "/var/lib/rancher/rke2/agent/etc/kubelet.conf.d"
# k3s keeps the cluster's secrets in the same files: only lines with these keys leave the machine.
K3S_CONFIG = "/etc/rancher/k3s/config.yaml"
K3S_CONFIGS = "/etc/rancher/k3s/config.yaml.d"
K3S_ENDPOINT, K3S_DOCKER = "container-runtime-endpoint", "docker"

# Words of a command line, of which the program is one; which one is not for the shell to say.
_PROCESSES = r"(^|/)(kubelet|kubelite|k3s|k3s-server|k3s-agent)( |$)"
_K3S_LINES = rf"""^["']?({K3S_ENDPOINT}|{K3S_DOCKER})["']?[[:space:]]*:"""

_KINDS = ("process", "socket", "program", "version", "file")

_FUNCTIONS = r"""
export LC_ALL=C
encoded() { base64 | tr -d '\n'; }
text() { if [ -f "$R$1" ]; then echo "file =$(head -c 1000000 "$R$1" | encoded) $1"; fi; }
lines() { if [ -f "$R$1" ]; then echo "file =$(grep -E "$K3S" "$R$1" | encoded) $1"; fi; }
inside() { for path in "$R$2"/*; do "$1" "${path#"$R"}"; done; }
version() {
  if said=$("$R$1" --version </dev/null 2>/dev/null); then echo "version =$(printf '%s' "$said" | encoded) $1"; fi
}
"""

_LOOK = r"""
(cd "$R/proc" && grep -slzE "$PROCESSES" [0-9]*/cmdline 2>/dev/null) | while IFS=/ read -r pid rest; do
  cd "$R/proc/$pid" 2>/dev/null || continue
  echo "process =$(encoded < cmdline) $pid $(sed -n 's/^NSpid://p' status)"
done
for path in $SOCKETS; do
  if [ -S "$R$path" ]; then echo "socket = $path"; fi
done
for name in $PROGRAMS; do
  for directory in $DIRECTORIES; do
    path="/$directory/$name"
    if [ -f "$R$path" ] && [ -x "$R$path" ]; then
      echo "program = $path"
      if [ -n "$VERSIONS" ]; then version "$path"; fi
      break
    fi
  done
done
inside lines "$K3S_CONFIGS"
lines "$K3S_CONFIG"
"""


class LookError(Exception):
    """The machine's shell did not answer as it should. The message is for people."""


@dataclass(frozen=True)
class Process:
    """A process that may be, or hold, a kubelet.

    pid: its number. cmdline: content of /proc/PID/cmdline. nested: it lives in a PID namespace below the machine's own
    (proc(5), NSpid), so in a container.
    """

    pid: int
    cmdline: bytes
    nested: bool


@dataclass
class Machine:
    """A machine, below ``root`` (``/``: its own). ``versions``: runtimes are asked for their versions as well.

    Raises LookError, here and when a further question is asked, if the shell does not answer.
    """

    ask: Ask
    root: str = "/"
    versions: bool = False
    processes: list[Process] = field(default_factory=list, init=False)
    sockets: set[str] = field(default_factory=set, init=False)
    programs: list[str] = field(default_factory=list, init=False)
    _said: dict[str, str] = field(default_factory=dict, init=False)
    _files: dict[str, str] = field(default_factory=dict, init=False)
    _asked: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        sockets = [path for paths in (*SOCKETS.values(), DOCKER_SHIMS) for path in paths]
        given = {
            "PROCESSES": _PROCESSES,
            "SOCKETS": " ".join(sockets),
            "PROGRAMS": " ".join(PROGRAMS.values()),
            "DIRECTORIES": " ".join(_DIRECTORIES),
            "VERSIONS": "yes" if self.versions else "",
            "K3S": _K3S_LINES,
            "K3S_CONFIG": K3S_CONFIG,
            "K3S_CONFIGS": K3S_CONFIGS,
        }
        self._asked |= {K3S_CONFIG, K3S_CONFIGS}
        self._look(
            *(f"{name}={shlex.quote(value)}" for name, value in given.items()),
            _LOOK,
            *self._reading((KUBEADM_CONFIG, KUBEADM_FLAGS, MICROK8S_FLAGS), (K3S_KUBELET, RKE2_KUBELET)),
        )

    def text(self, path: str) -> str | None:
        """The first megabyte of a file; None if there is none."""
        path = _absolute(path)
        if path not in self._files and not {path, os.path.dirname(path)} & self._asked:
            self._look(*self._reading(files=(path,)))
        return self._files.get(path)

    def names(self, folder: str) -> list[str]:
        """The files of a folder, sorted by name; none if there is no such folder."""
        folder = _absolute(folder)
        if folder not in self._asked:
            self._look(*self._reading(folders=(folder,)))
        return sorted(os.path.basename(path) for path in self._files if os.path.dirname(path) == folder)

    def version(self, path: str) -> str | None:
        """What a program prints when it is asked for its version; None if it fails, or versions are not asked for."""
        return self._said.get(path)

    def version_now(self, path: str) -> str | None:
        """As ``version``, of any program, asked for now."""
        self._look(f"version {shlex.quote(path)}")
        return self._said.get(path)

    def _reading(self, files: Iterable[str] = (), folders: Iterable[str] = ()) -> list[str]:
        self._asked.update(files, folders)
        texts = [f"text {shlex.quote(path)}" for path in files]
        return texts + [f"inside text {shlex.quote(path)}" for path in folders]

    def _look(self, *commands: str) -> None:
        root = f"R={shlex.quote(self.root.rstrip('/'))}"
        status, output, errors = self.ask("\n".join((root, _FUNCTIONS, *commands, "echo end")))
        lines = output.splitlines()
        if status != 0 or "end" not in lines:
            said = (errors.strip() or output.strip() or "nothing").splitlines()[-1]
            raise LookError(
                f"The machine's shell could not look at its kubelet (exit status {status}); it said: {said}"
            )
        for line in lines:
            kind, equals, rest = line.partition(" =")
            if equals and kind in _KINDS:
                content, _space, name = rest.partition(" ")
                try:
                    self._take(kind, base64.b64decode(content), name)
                except ValueError as error:
                    raise LookError(f"The machine's shell said what makes no sense ({error}): {line[:80]}") from error

    def _take(self, kind: str, content: bytes, name: str) -> None:
        if kind == "process":
            pid, *inner = name.split()
            self.processes.append(Process(int(pid), content, nested=len(inner) > 1))
        elif kind == "socket":
            self.sockets.add(name)
        elif kind == "program":
            self.programs.append(name)
        elif kind == "version":
            self._said[name] = content.decode("utf-8", "replace")
        elif kind == "file":
            self._files[name] = content.decode("utf-8", "replace")


def _absolute(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))
