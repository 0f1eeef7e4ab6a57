"""Which config file applies: one that is given, or one of several in a directory, chosen by a label of the node.

The rules are those of the config manager of NVIDIA's plugin; what it ends with an error for is an error here.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import atomic_write
from ..log import Logger
from .checks import LONGEST_SHOWN, MOST_TOLD, ConfigError
from .table import NODE_LABEL, Config

log = Logger("configs")

LONGEST = 1 << 20
"""What a ConfigMap holds at most, in bytes."""


@dataclass(frozen=True)
class Source:
    """Where config files come from: one of `file` and `directory` is given.

    default, fallbacks: what applies where the node has no label.
    """

    file: Path | None = None
    directory: Path | None = None
    default: str = ""
    fallbacks: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config) -> Source | None:
        """Where the settings say; None if there is nothing to follow. A pipe can be read only once, at start."""
        if config.config_directory is None and (config.config_file is None or config.config_file.is_fifo()):
            return None
        return cls(config.config_file, config.config_directory, config.default_config, config.fallback_strategies)

    def read(self, label: str) -> tuple[str, bytes]:
        """The name of the config that applies (empty for the empty config), and its content. Raises ConfigError."""
        if self.directory is None:
            assert self.file is not None  # noqa: S101 for the type checker
            return str(self.file), read(self.file)
        name = pick(label, names(self.directory), self.default, self.fallbacks)
        return name, read(self.directory / name) if name else b""


def names(directory: Path) -> frozenset[str]:
    """The config files in the volume of a ConfigMap. Raises ConfigError."""
    try:
        # the volume's own entries begin with two dots
        found = [entry for entry in directory.iterdir() if not entry.name.startswith("..") and not entry.is_dir()]
    except OSError as error:
        raise ConfigError(f"config directory {directory}: {error.strerror or error}") from error
    return frozenset(entry.name for entry in found)


def pick(label: str, known: Collection[str], default: str = "", fallbacks: Sequence[str] = ()) -> str:
    """The name of the config that applies; empty for the empty config. Raises ConfigError.

    label: the value of the node's label; empty if it has none.
    """
    if not known:
        raise ConfigError("there are no configs to choose from")
    more = [f"and {len(known) - MOST_TOLD} more"] if len(known) > MOST_TOLD else []
    listed = ", ".join([name[:LONGEST_SHOWN] for name in sorted(known)[:MOST_TOLD]] + more)
    for wanted, origin in ((label, f"the node's label {NODE_LABEL}"), (default, "--default-config")):
        if wanted and wanted not in known:
            name = wanted[:LONGEST_SHOWN]
            raise ConfigError(f"{origin} names the config {name}, which does not exist; there are: {listed}")
        if wanted:
            return wanted
    for fallback in fallbacks:
        if fallback == "named" and "default" in known:
            return "default"
        if fallback == "single" and len(known) == 1:
            return next(iter(known))
        if fallback == "empty":
            return ""
    raise ConfigError(
        f"the node has no label {NODE_LABEL}, there is no --default-config, and of the fallback strategies "
        f"({', '.join(fallbacks) or 'none'}) none applies; there are: {listed}"
    )


def read(path: Path) -> bytes:
    """The content of a file, or of a device such as /dev/null. Never blocks. Raises ConfigError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            kind = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISCHR(kind):
                raise ConfigError(f"config file {path}: not a regular file")
            data = b""
            while len(data) <= LONGEST and (part := os.read(descriptor, LONGEST + 1 - len(data))):
                data += part
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror or error}") from error
    if len(data) > LONGEST:
        raise ConfigError(f"config file {path}: more than {LONGEST} bytes")
    return data


@dataclass(frozen=True)
class Choice:
    """What a restart of the daemon must not forget.

    label: the last known value of the node's label. name, data: the last config that was valid.
    """

    label: str
    name: str
    data: bytes


class ChoiceFile:
    """Stores a Choice beside the kubelet's socket. Nothing here raises: a daemon that cannot write continues."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "config.json"
        self._kept: Choice | None = None

    def recall(self) -> Choice | None:
        """The last choice; None if there is no file, or an unreadable one."""
        atomic_write.sweep(self._path)
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            label, name, text = content["label"], content["name"], content["data"]
            if not all(isinstance(value, str) for value in (label, name, text)):
                raise TypeError("a value is not a string")
            self._kept = Choice(label, name, text.encode("utf-8", "surrogateescape"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("config_not_recalled", path=self._path, error=repr(error))
            return None
        return self._kept

    def keep(self, choice: Choice) -> None:
        """Store `choice` if it differs from the last."""
        if choice == self._kept:
            return
        text = json.dumps(
            {"label": choice.label, "name": choice.name, "data": choice.data.decode("utf-8", "surrogateescape")}
        )
        try:
            atomic_write.put(self._path, text)
        except OSError as error:
            log.warning("config_not_kept", path=self._path, error=error)
            return
        self._kept = choice
