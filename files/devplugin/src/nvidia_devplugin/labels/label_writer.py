"""Keeps the node's labels up to date, and writes them to a file for Node Feature Discovery if one is set."""

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
"""How often the file is checked, in seconds: it may have been removed or edited."""

EXPIRY_SECONDS = 600.0
"""How long the labels outlive the daemon, in seconds."""


class LabelFile:
    """A file in NFD's directory features.d. Errors are logged and not raised: the GPUs do not depend on labels."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def write(self, node_labels: Mapping[str, str]) -> None:
        """Write the labels; a file that has them already is not touched."""
        self._replace(feature_file(node_labels))

    def expire(self) -> None:
        """Set an expiry time, after which NFD removes the labels.

        A restarted daemon removes it in time, so the labels stay; a removed daemon leaves none.
        """
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock() + EXPIRY_SECONDS))
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, ValueError):
            return  # never written, or removed meanwhile
        self._replace("".join([f"# +expiry-time={at}\n", *(line for line in lines if not line.startswith("#"))]))

    def _replace(self, text: str) -> None:
        scratch = self._path.with_name(f".{self._path.name}.new")  # NFD ignores names that begin with a dot
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
    """The node's labels for the GPUs that the driver showed last; they stay while the driver is gone.

    machine: reads the facts that NVML does not have, as host_info.read().
    """

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
        self._labels: dict[str, str] | None = None
        self._changed = asyncio.Event()

    def update(self, gpus: tuple[Gpu, ...], driver_version: str, cuda_version: tuple[int, int] | None) -> None:
        """Set what the driver shows now. The labels are computed when they are read."""
        seen = gpus, driver_version, cuda_version
        if seen != self._seen:
            self._seen, self._labels = seen, None
            self._changed.set()

    def reconfigure(self, config: Config) -> None:
        """Use another config from now on."""
        if config.labels_file != self._config.labels_file:
            self.expire()
        self._config, self._labels = config, None
        self._changed.set()

    @property
    def current(self) -> dict[str, str]:
        """The labels; none before the driver has answered once."""
        if self._seen is None:
            return {}
        if self._labels is None:
            gpus, driver_version, cuda_version = self._seen
            buses = [gpu.pci_bus_id for gpu in sorted(gpus, key=lambda gpu: gpu.index)]
            node = Node(
                gpus,
                driver_version,
                cuda_version,
                self._read_machine(self._config.machine_type_file, buses),
                self._started if self._config.labels_timestamp else None,
            )
            self._labels = labels(node, self._config.rules)
        return self._labels

    async def run(self, delay: float = 1.0) -> None:
        """Keep the file up to date until cancelled. delay: seconds to wait first, so that registration comes first."""
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
        """Let the labels in the file expire, because the daemon ends."""
        if self._config.labels_file is not None:
            LabelFile(self._config.labels_file).expire()
