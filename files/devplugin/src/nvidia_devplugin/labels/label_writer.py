"""Keeps the node's labels current, and written down for Node Feature Discovery if somebody wants that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..config.settings import Config
from ..log import Logger
from ..model import Gpu
from .feature_labels import Machine, Node, feature_file, labels
from .host_info import read

log = Logger("labelling")

RECHECK_SECONDS = 60.0
"""How often it is looked whether the file still says what it should: somebody may remove or edit it."""

EXPIRY_SECONDS = 600.0
"""How long the labels outlive the daemon."""


class LabelFile:
    """A file in NFD's features.d. Nothing here raises: GPUs do not depend on labels."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def write(self, made: Mapping[str, str]) -> None:
        """Have the file say this; a file that does is left alone."""
        self._put(feature_file(made))

    def expire(self) -> None:
        """Have NFD forget the labels after a while.

        A daemon that is restarted is back long before, and the labels never vanish; one that is removed leaves none.
        """
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock() + EXPIRY_SECONDS))
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, ValueError):
            return  # nothing was written, or somebody took it away
        self._put("".join([f"# +expiry-time={at}\n", *(line for line in lines if not line.startswith("#"))]))

    def _put(self, text: str) -> None:
        scratch = self._path.with_name(f".{self._path.name}.new")  # NFD does not read what begins with a dot
        try:
            if self._path.exists() and self._path.read_bytes() == text.encode():
                return
            scratch.write_text(text, encoding="utf-8")
            scratch.chmod(0o644)
            scratch.replace(self._path)
        except OSError as error:
            log.warning("labels_not_written", path=self._path, error=error)
            return
        log.info("labels_written", path=self._path, labels=text.count("nvidia.com/"))


class NodeLabels:
    """The labels of this moment: those of the GPUs that were seen last, also while the driver is gone."""

    def __init__(
        self,
        config: Config,
        machine: Callable[[Path | None, list[str]], Machine] = read,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._read_machine = machine
        self._started = int(clock())
        self._seen: tuple[tuple[Gpu, ...], str, tuple[int, int] | None] | None = None
        self._made: dict[str, str] | None = None
        self._changed = asyncio.Event()

    def update(self, gpus: tuple[Gpu, ...], driver_version: str, cuda_version: tuple[int, int] | None) -> None:
        """What the driver showed. It costs nothing until the labels are asked for."""
        seen = gpus, driver_version, cuda_version
        if seen != self._seen:
            self._seen, self._made = seen, None
            self._changed.set()

    def reconfigure(self, config: Config) -> None:
        """Other rules, file and options from now on."""
        if config.labels_file != self._config.labels_file:
            self.expire()
        self._config, self._made = config, None
        self._changed.set()

    @property
    def current(self) -> dict[str, str]:
        """The labels; none before the driver has answered for the first time."""
        if self._seen is None:
            return {}
        if self._made is None:
            gpus, driver_version, cuda_version = self._seen
            buses = [gpu.pci_bus_id for gpu in sorted(gpus, key=lambda gpu: gpu.index)]
            node = Node(
                gpus,
                driver_version,
                cuda_version,
                self._read_machine(self._config.machine_type_file, buses),
                self._started if self._config.labels_timestamp else None,
            )
            self._made = labels(node, self._config.rules)
        return self._made

    async def run(self, delay: float = 1.0) -> None:
        """Until cancelled: keep the file. delay: seconds to wait first, since registration must not."""
        await asyncio.sleep(delay)
        while True:
            self._changed.clear()
            if self._seen is not None and self._config.labels_file is not None:
                LabelFile(self._config.labels_file).write(self.current)
            try:
                await asyncio.wait_for(self._changed.wait(), RECHECK_SECONDS)
            except asyncio.TimeoutError:
                continue

    def expire(self) -> None:
        """The daemon ends: let what was written expire."""
        if self._config.labels_file is not None:
            LabelFile(self._config.labels_file).expire()
