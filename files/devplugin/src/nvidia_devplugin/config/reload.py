"""Keeps the settings current while the daemon runs: a config file that changes, or another one that is chosen.

A config is taken over as a whole or not at all: what is wrong leaves the one before in force, and is said once. Until
a first one was right there is nothing in force, since devices under a wrong name would be handed out under it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ..inotify import DirectoryWatch
from ..log import Logger
from .named_configs import Choice, ChoiceFile, Source
from .settings import Config, ConfigError, parse

log = Logger("reload")

WORD_SECONDS = 5.0
"""How long a daemon that never knew the node's label waits for it, before it takes that there is none."""

RECHECK_SECONDS = 30.0
"""How often it is looked without a sign: a link may lead to another directory, and inotify needs one to watch."""

_SETTLE_SECONDS = 0.1  # who writes a file in place makes it empty first

_AT_START = {
    "fail_on_init_error": "flags.failOnInitError",
    "container_driver_root": "flags.plugin.containerDriverRoot",
}
"""Settings of the file that concern the start alone; whatever else cannot change has no place in the file."""


class Reload:
    """Follows `source`.

    resolve: from a parsed file to all settings; raises ConfigError. take: puts settings into force.
    config: what is in force at the beginning; None if that is to be chosen first. memory: None to remember nothing.
    changed: called when something was refused, or is in order again.
    """

    def __init__(
        self,
        source: Source,
        resolve: Callable[[Mapping[str, Any]], Config],
        take: Callable[[Config], None],
        config: Config | None = None,
        memory: ChoiceFile | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._resolve = resolve
        self._take = take
        self._config = config
        self._memory = memory
        self._changed = changed
        self._label: str | None = None
        self._applied: tuple[str, bytes] | None = None
        self._told = asyncio.Event()
        self.refused: str | None = None
        """What is wrong with what should be in force; None if that is in force."""
        self.outcomes = {"applied": 0, "refused": 0}

    @property
    def name(self) -> str | None:
        """The config in force: its name, or its path; empty for the empty one, None before there is any."""
        return self._applied[0] if self._applied else None

    @property
    def problem(self) -> str | None:
        """Why nothing is in force; None if something is."""
        if self._config is not None:
            return None
        return self.refused or "waiting to learn which config the node's label chooses"

    @property
    def state(self) -> dict[str, str | None]:
        """For who asks the daemon."""
        return {"name": self.name, "refused": self.refused}

    def start(self) -> None:
        """Take what is known without waiting: the file, or what the node's label chose when it was last heard of."""
        if self._source.directory is None:
            self._look()
            return
        last = self._memory.recall() if self._memory else None
        if last is None:
            return
        self._label = last.label
        log.info("config_recalled", label=last.label, name=last.name)
        self._look()
        if self._config is None:
            # the last one that was right stays in force over a restart as well
            with contextlib.suppress(ConfigError):
                self._apply(last.name, last.data)

    def choose(self, label: str) -> str:
        """The value of the node's label, empty for none: the name that is in force from now on.

        Raises ValueError with what is wrong; the config before then stays in force, and this one is tried again
        whenever a file changes.
        """
        if self._source.directory is None:
            raise ValueError("this daemon follows one file: --config-file-srcdir makes it choose")
        self._label = label
        self._told.set()
        self._look()
        if self.refused is not None:
            raise ValueError(self.refused)
        return self.name or ""

    async def run(self) -> None:
        """Until cancelled."""
        if self._source.directory is not None and self._label is None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._told.wait(), WORD_SECONDS)
            if self._label is None:
                self._label = ""
                log.info("config_label_unknown", seconds=WORD_SECONDS)
        said = ""
        while True:
            try:
                watch = DirectoryWatch(self._source.watched, written=True)
            except OSError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("config_not_watched", directory=self._source.watched, error=error)
                self._look()
                await asyncio.sleep(RECHECK_SECONDS)
                continue
            said = ""
            with watch:
                while not watch.gone:
                    self._look()
                    await watch.wait(RECHECK_SECONDS)
                    await asyncio.sleep(_SETTLE_SECONDS)

    def _look(self) -> None:
        """Find out what should be in force, and put it into force if it is right."""
        try:
            name, data = self._source.read(self._label or "")
            if (name, data) != self._applied:
                self._apply(name, data)
        except ConfigError as error:
            reason = str(error)
            if reason != self.refused:
                self.refused = reason
                self.outcomes["refused"] += 1
                log.error("config_refused", reason=reason, in_force=self.name if self._applied else "none")
                self._changed()
        else:
            if self.refused is not None:
                self.refused = None
                log.info("config_in_order", name=name or "empty")
                self._changed()
        if self._memory is not None and self._applied is not None:
            self._memory.keep(Choice(self._label or "", *self._applied))

    def _apply(self, name: str, data: bytes) -> None:
        """Raises ConfigError, and then nothing has changed."""
        try:
            config = self._resolve(parse(data))
        except ConfigError as error:
            raise ConfigError(f"config {name or 'empty'}: {error}") from error
        before, self._config = self._config, config
        first, self._applied = self._applied is None, (name, data)
        if before == config:
            if not first:  # otherwise it is what the daemon was started with
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
        self._take(config)
