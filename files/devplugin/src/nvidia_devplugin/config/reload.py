"""Keeps the settings current while the daemon runs: a config file that changes, or another one that is chosen.

A config is applied as a whole or not at all: an invalid one leaves the one before in force, and is logged once. Until
there is a first valid one nothing is in force, since devices would be allocated under a wrong name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ..log import Logger
from .named_configs import Choice, ChoiceFile, Source
from .settings import Config, ConfigError, parse

log = Logger("reload")

LABEL_SECONDS = 5.0
"""How long a daemon that never knew the node's label waits for it, before it assumes that there is none."""

POLL_SECONDS = 2.0
"""How often the files are read: a file changes in place, or by a link that a ConfigMap's volume swaps."""

_SETTLE_SECONDS = 0.1  # a program that writes a file in place truncates it first

_AT_START = {
    "fail_on_init_error": "flags.failOnInitError",
    "container_driver_root": "flags.plugin.containerDriverRoot",
}
"""Settings of the file that concern the start alone; whatever else cannot change has no place in the file."""


class Reload:
    """Follows `source`.

    resolve: from a parsed file to all settings; raises ConfigError. apply: puts settings into force.
    config: the settings in force at the beginning; None if a config is to be chosen first.
    choice_file: remembers the choice over restarts; None to remember nothing.
    changed: called when a config was refused, and when a valid one is back.
    """

    def __init__(
        self,
        source: Source,
        resolve: Callable[[Mapping[str, Any]], Config],
        apply: Callable[[Config], None],
        config: Config | None = None,
        choice_file: ChoiceFile | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._resolve = resolve
        self._put_into_force = apply
        self._config = config
        self._choice_file = choice_file
        self._changed = changed
        self._label: str | None = None
        self._applied: tuple[str, bytes] | None = None
        self._rejected: tuple[str, bytes] | None = None
        self._label_known = asyncio.Event()
        self.refused: str | None = None
        """What is wrong with the config that should be in force; None if it is in force."""
        self.outcomes = {"applied": 0, "refused": 0}

    @property
    def name(self) -> str | None:
        """The config in force: its name, or its path; empty for the empty config, None before there is one."""
        return self._applied[0] if self._applied else None

    @property
    def problem(self) -> str | None:
        """Why no config is in force; None if one is."""
        if self._config is not None:
            return None
        return self.refused or "waiting to learn which config the node's label chooses"

    @property
    def state(self) -> dict[str, str | None]:
        """The name of the config in force, and why another one is refused: for the daemon's status."""
        return {"name": self.name, "refused": self.refused}

    def start(self) -> None:
        """Apply what is known without waiting: the file, or the config that the node's label chose last."""
        if self._source.directory is None:
            self.reload()
            return
        last = self._choice_file.recall() if self._choice_file else None
        if last is None:
            return
        self._label = last.label
        log.info("config_recalled", label=last.label, name=last.name)
        self.reload()
        if self._config is None:
            # the last valid config stays in force over a restart as well
            with contextlib.suppress(ConfigError):
                self._apply(last.name, last.data)

    def choose(self, label: str) -> str:
        """Choose by the value of the node's label, empty for none; the name of the config that is in force from now on.

        Raises ValueError with what is wrong; the config before stays in force then, and this one is tried again
        whenever a file changes.
        """
        if self._source.directory is None:
            raise ValueError("this daemon follows one file: --config-file-srcdir makes it choose")
        self._label = label
        self._label_known.set()
        self.reload()
        if self.refused is not None:
            raise ValueError(self.refused)
        return self.name or ""

    async def run(self) -> None:
        """Until cancelled."""
        if self._source.directory is not None and self._label is None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._label_known.wait(), LABEL_SECONDS)
            if self._label is None:
                self._label = ""
                log.info("config_label_unknown", seconds=LABEL_SECONDS)
        while True:
            if self._differs():
                await asyncio.sleep(_SETTLE_SECONDS)
                self.reload()
            await asyncio.sleep(POLL_SECONDS)

    def _differs(self) -> bool:
        """Whether the source is not as it was when it was last applied or refused."""
        try:
            found = self._source.read(self._label or "")
        except ConfigError as error:
            return str(error) != self.refused
        return found != (self._applied if self.refused is None else self._rejected)

    def reload(self) -> None:
        """Read the source now, and put the config into force if it is valid and another one."""
        if self._source.directory is not None and self._label is None:
            return  # run() waits for the label
        found: tuple[str, bytes] | None = None
        try:
            found = self._source.read(self._label or "")
            if found != self._applied:
                self._apply(*found)
        except ConfigError as error:
            self._rejected = found
            reason = str(error)
            if reason != self.refused:
                self.refused = reason
                self.outcomes["refused"] += 1
                log.error("config_refused", reason=reason, in_force=self.name if self._applied else "none")
                self._changed()
        else:
            if self.refused is not None:
                self.refused = None
                log.info("config_in_order", name=found[0] or "empty")
                self._changed()
        if self._choice_file is not None and self._applied is not None:
            self._choice_file.keep(Choice(self._label or "", *self._applied))

    def _apply(self, name: str, data: bytes) -> None:
        """Put a config into force. Raises ConfigError, and then nothing has changed."""
        try:
            config = self._resolve(parse(data))
        except ConfigError as error:
            raise ConfigError(f"config {name or 'empty'}: {error}") from error
        before, self._config = self._config, config
        first, self._applied = self._applied is None, (name, data)
        if before == config:
            if not first:  # otherwise the daemon was started with it
                log.info("config_applied", name=name or "empty", changed=False)
            return
        if before is not None:
            late = [path for key, path in _AT_START.items() if getattr(before, key) != getattr(config, key)]
            if late:
                log.warning("settings_for_the_next_start", settings=", ".join(late))
        if config.inert and (before is None or before.inert != config.inert):
            log.warning("settings_without_effect", settings=", ".join(config.inert))
        self.outcomes["applied"] += 1
        log.info("config_applied", name=name or "empty", changed=True)
        self._put_into_force(config)
