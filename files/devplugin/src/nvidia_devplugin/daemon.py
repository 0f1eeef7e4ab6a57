"""The daemon: connects the packages, supervises their tasks, shuts down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from . import __version__
from .config.named_configs import ChoiceFile, Source
from .config.reload import Reload
from .config.settings import Config
from .control.server import Control, Verb, directory
from .control.status import Status, entries
from .gpu_tracker import HANGS, FatalError, GpuTracker
from .health.fault_store import FaultStore
from .health.policy import Policy, Recovery
from .http.metrics import Metrics
from .http.server import HttpServer
from .kubelet.plugin_manager import PluginManager
from .kubelet.pod_resources import held
from .labels.label_writer import NodeLabels
from .log import Logger
from .model import DriverGone, DriverUpdate
from .nvml.gpu_reader import GpuReader
from .nvml.session import NvmlSession
from .nvml.telemetry import Telemetry
from .nvml.watch import DriverWatch

log = Logger("daemon")

_DRAIN_SECONDS = 0.5
_HANG_SECONDS = 60.0  # a driver without persistence mode may take that long for its first answer
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Daemon:
    """All parts of the daemon, and the state that connects them. Made and run in an event loop.

    resolve: the same settings with the content of another file; raises ConfigError.
    """

    def __init__(self, config: Config, resolve: Callable[[Mapping[str, Any]], Config]) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._updates: asyncio.Queue[DriverUpdate] = asyncio.Queue()
        self._reader = GpuReader(config.failed_reads)
        self._driver = DriverWatch(self._emit, lambda: NvmlSession(self._reader, config.container_driver_root))
        self._driver.start()  # first of all: a real driver takes its time, and needs nothing of the rest
        self._stopping = _stop_on_signals(self._loop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload_config)
        self._say_what_was_set()

        own_directory = directory(config.kubelet_socket)
        choosing = config.config_directory is not None
        self._plugins = PluginManager(config)
        self._fault_store = FaultStore(own_directory)
        self._gpus = GpuTracker(config, self._plugins, _policy(config), state=self._fault_store.recall(), held=choosing)
        self._labels = NodeLabels(config)
        self._reload: Reload | None = None
        self._status = Status(self._faults, self._current_labels, self._config_state)
        source = Source.of(config)
        if source is not None:
            choice_file = ChoiceFile(own_directory) if choosing else None
            first = None if choosing else config
            self._reload = Reload(source, resolve, self._reconfigure, first, choice_file, self._status.touch)
            self._reload.start()
        self._metrics = Metrics(
            __version__,
            lambda: self._plugins.members,
            partial(held, config.pod_resources_socket) if config.pod_resources_socket else None,
            Telemetry().readings if config.gpu_telemetry else None,
            self._reload,
        )

    async def run(self) -> int:
        """Run until a signal or a fatal error; the process' exit status."""
        try:
            return await supervise(self._tasks(), self._stopping)
        finally:
            self._driver.stop()
            self._labels.expire()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._plugins.stop(), _DRAIN_SECONDS)
            log.info("stopped")

    def _tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Each runs for ever; the first that ends, for whatever reason, ends all."""
        config = self._config
        verbs: dict[str, Verb] = {
            "ack": self._acknowledge,
            "config": self._choose_config,
            "devices": self._devices,
            "state": self._status.state,
            "watch": self._status.watch,
        }
        tasks = {
            "driver": self._follow_driver(),
            "watchdog": self._watch_for_hangs(),
            "control": Control(directory(config.kubelet_socket), verbs).run(),
            "kubelet": self._plugins.run(),
            "labels": self._labels.run(),
        }
        if config.control_directory is not None:
            tasks["agent"] = Control(config.control_directory, verbs, shared=True).run()
        if config.http_address is not None:
            tasks["http"] = HttpServer(config.http_address, self._not_ready, self._metrics.scrape).run()
        if self._reload is not None:
            tasks["config"] = self._reload.run()
        return tasks

    # ---- the driver

    def _emit(self, update: DriverUpdate) -> None:
        """Called in the driver's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is about to end
            self._loop.call_soon_threadsafe(self._updates.put_nowait, update)

    async def _follow_driver(self) -> None:
        while True:
            update = await self._updates.get()
            began = time.perf_counter()
            self._apply(update)
            self._metrics.saw(update, time.perf_counter() - began)
            if not self._updates.empty():
                await asyncio.sleep(0)  # a storm must not keep the kubelet waiting

    async def _watch_for_hangs(self) -> None:
        while True:
            await asyncio.sleep(_HANG_SECONDS / 4)
            if time.monotonic() - self._driver.alive > _HANG_SECONDS:
                hint = "reset the GPUs or reboot the node; the daemon goes on when the driver answers"
                self._apply(DriverGone(HANGS, hint))

    def _apply(self, update: DriverUpdate) -> None:
        self._gpus.apply(update)
        self._fault_store.keep(self._gpus.health)
        self._publish_status()

    def _publish_status(self) -> None:
        if self._gpus.inventory is not None:
            self._labels.update(*self._gpus.inventory)
        self._status.touch()

    # ---- settings

    def _reconfigure(self, config: Config) -> None:
        self._reader.failed_reads = config.failed_reads
        self._plugins.reconfigure(config)
        self._gpus.reconfigure(config, _policy(config))
        self._labels.reconfigure(config)
        self._publish_status()

    def _reload_config(self) -> None:
        """On SIGHUP, as NVIDIA's plugin; a changed file is found without it as well."""
        if self._reload is None:
            log.warning("no_config_file", hint="SIGHUP reads the config file again, and there is none")
        else:
            self._reload.reload()

    def _say_what_was_set(self) -> None:
        config = self._config
        log.info("starting", version=__version__, fail_on_init_error=config.fail_on_init_error)
        if config.inert:
            log.warning("settings_without_effect", settings=", ".join(config.inert))
        if config.rules.ignored_by_nvidia:
            log.warning("settings_ignored_by_nvidia", settings=", ".join(config.rules.ignored_by_nvidia))
        policy = _policy(config)
        malformed = policy.disabled.malformed + policy.enabled.malformed
        if malformed:
            log.warning("malformed_xids_ignored", values=",".join(malformed))

    # ---- what others ask

    def _not_ready(self) -> str | None:
        """Why no pod can get a device; None if one can."""
        unsettled = self._reload.problem if self._reload is not None else None
        return unsettled or self._gpus.problem or (None if self._plugins.ready else "not registered with the kubelet")

    def _devices(self, rest: str) -> str:
        if rest:
            raise ValueError("devices takes no argument")
        description = self._gpus.description
        if self._plugins.problem is not None:
            description["problems"].append(self._plugins.problem)
        return json.dumps(description, separators=(",", ":"))

    def _faults(self) -> list[dict[str, str]] | None:
        inventory, health = self._gpus.inventory, self._gpus.health
        if inventory is None and health.driver is None:
            return None
        return entries(health, inventory[0] if inventory else ())

    def _current_labels(self) -> Mapping[str, str] | None:
        return None if self._gpus.inventory is None else self._labels.current

    def _config_state(self) -> Mapping[str, str | None]:
        return {"name": None, "refused": None} if self._reload is None else self._reload.state

    def _acknowledge(self, name: str) -> str:
        uuid = self._gpus.acknowledge(name)
        self._fault_store.keep(self._gpus.health)
        self._status.touch()
        return uuid

    def _choose_config(self, label: str) -> str:
        if self._reload is None:
            raise ValueError("named configs are off")
        try:
            return self._reload.choose(label)
        finally:
            self._status.touch()


async def run(config: Config, resolve: Callable[[Mapping[str, Any]], Config]) -> int:
    """Run the daemon until a signal or a fatal error; the process' exit status."""
    return await Daemon(config, resolve).run()


def _policy(config: Config) -> Policy:
    return Policy.from_text(
        config.xids_disabled,
        config.xids_enabled,
        dict(config.xid_severities),
        frozenset(config.faults_ignored),
        Recovery(config.quiet_seconds, config.longest_hold_seconds),
    )


async def supervise(work: dict[str, Coroutine[Any, Any, None]], stopping: asyncio.Future[str]) -> int:
    """Run named tasks until one ends or `stopping` is done; then cancel all. 0 only for the latter."""
    tasks = {asyncio.create_task(coroutine, name=name): name for name, coroutine in work.items()}
    try:
        everything: set[asyncio.Future[Any]] = {*tasks, stopping}
        done, _pending = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_DRAIN_SECONDS)
    failed = [task for task in tasks if task in done]
    status = 0
    for task in failed:
        error = task.exception()
        status = error.status if isinstance(error, FatalError) else 1
        if isinstance(error, (FatalError, OSError)):
            log.error("fatal", task=tasks[task], error=error)
        else:
            log.error("fatal", task=tasks[task], error=repr(error) if error else "ended", exc_info=error)
    if not failed:
        log.info("stopping", signal=stopping.result())
    return status


def _stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Future[str]:
    """Done, with its name, at the first SIGTERM or SIGINT; the second ends the process at once.

    The second has a handler too: as process 1 of a container the daemon does not die of a signal without one.
    """
    stopping: asyncio.Future[str] = loop.create_future()

    def first(number: signal.Signals) -> None:
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, lambda again, _: os._exit(128 + again))
        if not stopping.done():
            stopping.set_result(number.name)

    for number in _SIGNALS:
        loop.add_signal_handler(number, first, number)
    return stopping
