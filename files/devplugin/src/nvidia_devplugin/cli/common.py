"""What several commands need."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.named_configs import ChoiceFile, Source
from ..config.settings import Config, load, parse, resolve
from ..control.server import directory

if TYPE_CHECKING:
    from ..model import Inventory


def report(problem: object) -> None:
    """Tell the user on standard error."""
    print(f"nvidia-devplugin: {problem}", file=sys.stderr)


def daemon_directory(flags: Mapping[str, str]) -> Path:
    """Where the daemon's control socket is, whatever is in the config file. Raises ConfigError."""
    return directory(resolve({}, os.environ, flags).kubelet_socket)


def no_daemon(where: Path, error: OSError) -> str:
    """Why the daemon could not be asked."""
    return f"no daemon answers on {where}/ack.sock ({error.strerror or error})"


def current(flags: Mapping[str, str]) -> Config:
    """The settings that a daemon with these flags has on this machine. Raises ConfigError.

    With several named configs it is the one that the daemon has applied, else the one for nodes without the label.
    """
    config = load(flags, os.environ)
    if config.config_directory is None:
        return config
    return resolve(_applied(config), os.environ, flags)


def _applied(config: Config) -> dict[str, Any]:
    last = ChoiceFile(directory(config.kubelet_socket)).recall()
    if last is not None:
        return parse(last.data)
    source = Source.of(config)
    return parse(b"" if source is None else source.read("")[1])


def read_driver(config: Config) -> Inventory | None:
    """What the driver shows now; None if it cannot be used, after telling the user why."""
    from ..nvml.errors import NvmlUnavailableError
    from ..nvml.gpu_reader import GpuReader
    from ..nvml.session import NvmlSession

    try:
        with NvmlSession(GpuReader(), config.container_driver_root) as session:
            return session.inventory()
    except NvmlUnavailableError as error:
        report(f"{error}. What to do: {error.gone.hint}")
        return None
