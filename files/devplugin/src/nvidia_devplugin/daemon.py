"""Wires the rooms together, supervises them, shuts down.

Every task has a name and is meant to run for ever: the first that ends, for whatever reason, ends all. Only a signal
is a good reason.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from .gpu_tracker import HANGS, Devices, FatalError
from .health.fault_store import FaultStore
from .health.policy import Policy, Recovery
from .http.metrics import Metrics
from .http.server import HttpServer
from .kubelet.plugin_manager import PluginManager
from .kubelet.pod_resources import held
from .labels.label_writer import NodeLabels
from .log import Logger
from .model import DriverGone, DriverUpdate
from .nvml.session import DriverWatch
from .nvml.telemetry import Telemetry

log = Logger("app")

_DRAIN_SECONDS = 0.5
_HANG_SECONDS = 60.0  # a driver without persistence mode may take that long for its first answer
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run(config: Config, resolve: Callable[[Mapping[str, Any]], Config]) -> int:
    """Run the daemon until a signal or a fatal error; the process' exit status.

    resolve: the same settings with the content of another file; raises ConfigError.
    """
    loop = asyncio.get_running_loop()
    updates: asyncio.Queue[DriverUpdate] = asyncio.Queue()

    def emit(update: DriverUpdate) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are on our way out
            loop.call_soon_threadsafe(updates.put_nowait, update)

    driver = DriverWatch(emit)
    driver.start()  # first of all: a real driver takes its time, and needs none of ours

    stopping = _stop_on_signals(loop)
    log.info("starting", version=__version__, fail_on_init_error=config.fail_on_init_error)
    if config.inert:
        log.warning("settings_without_effect", settings=", ".join(config.inert))
    policy = _policy(config)
    malformed = policy.disabled.malformed + policy.enabled.malformed
    if malformed:
        log.warning("malformed_xids_ignored", values=",".join(malformed))

    fleet = PluginManager(config)
    memory = FaultStore(directory(config.kubelet_socket))
    source = Source.of(config)
    choosing = config.config_directory is not None
    devices = Devices(config, fleet, policy, state=memory.recall(), held=choosing)
    labels = NodeLabels(config)

    reload: Reload | None = None

    def faults() -> list[dict[str, str]] | None:
        if devices.shown is None and devices.health.driver is None:
            return None
        return entries(devices.health, devices.shown[0] if devices.shown else ())

    status = Status(
        faults,
        lambda: None if devices.shown is None else labels.current,
        lambda: {"name": None, "refused": None} if reload is None else reload.state,
    )

    def take_over(settings: Config) -> None:
        fleet.reconfigure(settings)
        devices.reconfigure(settings, _policy(settings))
        labels.reconfigure(settings)
        show()

    def show() -> None:
        if devices.shown is not None:
            labels.update(*devices.shown)
        status.touch()

    if source is not None:
        choice_file = ChoiceFile(directory(config.kubelet_socket)) if choosing else None
        reload = Reload(source, resolve, take_over, None if choosing else config, choice_file, status.touch)
        reload.start()
    metrics = Metrics(
        __version__,
        lambda: fleet.members,
        partial(held, config.pod_resources_socket) if config.pod_resources_socket else None,
        Telemetry().readings if config.gpu_telemetry else None,
        reload,
    )

    def not_ready() -> str | None:
        unsettled = reload.problem if reload is not None else None
        return unsettled or devices.problem or (None if fleet.ready else "not registered with the kubelet")

    async def follow_driver() -> None:
        while True:
            update = await updates.get()
            began = time.perf_counter()
            take(update)
            metrics.saw(update, time.perf_counter() - began)
            if not updates.empty():
                await asyncio.sleep(0)  # a storm must not keep the kubelet waiting

    def take(update: DriverUpdate) -> None:
        devices.apply(update)
        driver.probing = devices.recovering
        memory.keep(devices.health)
        show()

    def acknowledge(name: str) -> str:
        uuid = devices.acknowledge(name)
        memory.keep(devices.health)
        status.touch()
        return uuid

    def choose(label: str) -> str:
        if reload is None:
            raise ValueError("named configs are off")
        try:
            return reload.choose(label)
        finally:
            status.touch()

    async def watch_driver() -> None:
        while True:
            await asyncio.sleep(_HANG_SECONDS / 4)
            if time.monotonic() - driver.alive > _HANG_SECONDS:
                take(DriverGone(HANGS, "reset the GPUs or reboot the node; the daemon goes on when the driver answers"))

    verbs: dict[str, Verb] = {
        "ack": acknowledge,
        "config": choose,
        "state": status.state,
        "watch": status.watch,
    }
    work: dict[str, Coroutine[Any, Any, None]] = {
        "driver": follow_driver(),
        "watchdog": watch_driver(),
        "control": Control(directory(config.kubelet_socket), verbs).run(),
        "kubelet": fleet.run(),
        "labels": labels.run(),
    }
    if config.control_directory is not None:
        work["agent"] = Control(config.control_directory, verbs, shared=True).run()
    if config.http_address is not None:
        work["probes"] = HttpServer(config.http_address, not_ready, metrics.scrape).run()
    if reload is not None:
        work["config"] = reload.run()
    try:
        return await supervise(work, stopping)
    finally:
        driver.stop()
        labels.expire()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(fleet.stop(), _DRAIN_SECONDS)
        log.info("stopped")


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
    for task in failed:
        error = task.exception()
        if isinstance(error, (FatalError, OSError)):
            log.error("fatal", task=tasks[task], error=error)
        else:
            log.error("fatal", task=tasks[task], error=repr(error) if error else "ended", exc_info=error)
    if not failed:
        log.info("stopping", signal=stopping.result())
    return 1 if failed else 0


def _stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Future[str]:
    """Done, with its name, at the first SIGTERM or SIGINT; the second ends the process at once.

    The second has a handler too: process 1 of a container, which we are, does not die of a signal without one.
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
