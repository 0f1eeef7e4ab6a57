"""The daemon from the driver to the kubelet's list of devices, in one process, while NVML functions fail."""

from __future__ import annotations

import contextlib
import functools
import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nvidia_devplugin.config.resource_rules import Rules
from nvidia_devplugin.config.settings import Config
from nvidia_devplugin.gpu_tracker import FatalError, GpuTracker, NewContainerNeededError
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.labels.feature_labels import Node, labels
from nvidia_devplugin.model import DriverUpdate, Fault, Resource, Topology, fault_of
from nvidia_devplugin.nvml import watch
from nvidia_devplugin.nvml.gpu_reader import GpuReader
from nvidia_devplugin.nvml.session import NvmlSession
from nvidia_devplugin.nvml.telemetry import TelemetryError, read
from tests.unit import nvml_sweep_machine as machine
from tests.unit.nvml_sweep import absence, takes_gpu

POLL = 0.002
PATIENCE = 10.0
CONFIG = Config(rules=Rules(mig_strategy="mixed"))
watch._RETRY_SECONDS = (0.005,)


@dataclass(frozen=True)
class Seen:
    """What is offered: resource and device to the code of its fault, or None; and the labels of the node."""

    devices: Mapping[tuple[str, str], str | None]
    owners: Mapping[tuple[str, str], str]  # the GPU's UUID
    labels: Mapping[str, str]

    def others(self, victim: str) -> dict[tuple[str, str], str | None]:
        """Devices that have nothing to do with a GPU or MIG device."""
        return {key: fault for key, fault in self.devices.items() if victim not in (self.owners[key], key[1])}


class Daemon:
    """The thread that follows the driver, and what keeps its updates. Time runs fast: no fault is held for long."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.polls = 0
        self.errors: list[str] = []
        self._offered: tuple[Sequence[Resource], Mapping[str, Fault]] = ((), {})
        self._updates: queue.SimpleQueue[DriverUpdate] = queue.SimpleQueue()
        self._now = 0.0
        self._devices = GpuTracker(config, self, Policy.from_text(), clock=self._clock)
        self._reader = GpuReader()
        self._watch = watch.DriverWatch(self._updates.put, self._open, POLL)
        self._watch.start()

    def _clock(self) -> float:
        self._now += 1e6
        return self._now

    def _open(self) -> NvmlSession:
        daemon = self

        class Session(NvmlSession):
            def inventory(self):
                try:
                    return super().inventory()
                finally:
                    daemon.polls += 1

            def __enter__(self):
                try:
                    return super().__enter__()
                except BaseException:
                    daemon.polls += 1  # so much is learned from a session that cannot be opened
                    raise

        return Session(self._reader)

    def publish(self, resources: Sequence[Resource], faults: Mapping[str, Fault], topology: Topology | None) -> None:
        self._offered = (resources, faults)

    def look(self, settled: bool = True) -> Seen:
        """What is offered after some more looks at the driver, and when all are over that heals by itself."""
        # the first may have begun before; what the last one finds may not have arrived yet
        enough, deadline = self.polls + 3, time.monotonic() + PATIENCE
        while self.polls < enough or (settled and self._healing and self.polls < enough + 20):
            self._take()
            if time.monotonic() > deadline:
                self.errors.append("the driver was not looked at any more")
                break
            time.sleep(POLL / 4)
        self._take()
        resources, faults = self._offered
        devices, owners = {}, {}
        for resource in resources:
            for device in resource.devices:
                fault = fault_of(device, faults)
                devices[resource.name, device.id] = fault.code if fault else None
                owners[resource.name, device.id] = device.gpu.uuid
        shown = self._devices.inventory
        node = labels(Node(*shown), CONFIG.rules) if shown else {}
        return Seen(devices, owners, node)

    def _take(self) -> None:
        while not self._updates.empty():
            update = self._updates.get()
            try:
                self._devices.apply(update)
            except NewContainerNeededError:
                pass  # the kubelet makes another, which starts as this one goes on
            except FatalError as error:
                self.errors.append(f"ends: {error}")
            except Exception as error:
                self.errors.append(f"crashes: {error!r}")
            fault = self._devices.health.driver
            if fault is not None and fault.code == "internal_error":
                self.errors.append(f"crashes: {fault.message}")

    @property
    def _healing(self) -> bool:
        """Whether something heals at a later reading."""
        health = self._devices.health
        return health.driver is not None or any(record.severity == "transient" for record in health.records.values())

    def close(self) -> None:
        self._watch.stop()
        self._watch._thread.join(PATIENCE)


@contextlib.contextmanager
def running(config: Config = CONFIG) -> Iterator[Daemon]:
    daemon = Daemon(config)
    try:
        yield daemon
    finally:
        daemon.close()


@functools.lru_cache(maxsize=1)
def as_it_is() -> Seen:
    with running() as daemon:
        return daemon.look()


def lost_with(target: str, wanted: Seen, seen: Seen) -> set[str]:
    """Devices that are not on the target, and yet not as wanted."""
    if target == "every":
        return set()
    others = wanted.others(machine.uuid_of(target))
    return {key for key, fault in others.items() if seen.devices.get(key, "gone") != fault}


def at_start(daemon: Daemon, function: str, target: str, code: int) -> Iterator[str]:
    """The function fails when the daemon starts and answers later."""
    healthy = as_it_is()
    first = daemon.look(settled=False)
    machine.heal()
    later = daemon.look()
    yield from (f"at start: {error}" for error in dict.fromkeys(daemon.errors))
    if lost := lost_with(target, healthy, first):
        yield f"at start: other devices are not offered: {names(lost, first)}"
    if not absence(function, code):
        false = set(first.devices) - set(healthy.devices)
        if false:
            yield f"at start: offered as what it is not: {names(false, first)}"
    if later.devices != healthy.devices:
        yield f"at start, once it answers: not as it is: {names(unlike(later, healthy), later)}"
    if not absence(function, code) and later.labels != healthy.labels:
        yield f"at start, once it answers: labels are not as they are: {labels_unlike(later, healthy)}"


def while_it_runs(daemon: Daemon, function: str, target: str, code: int) -> Iterator[str]:
    """The function fails for a while and then answers again."""
    before = daemon.look()
    machine.fail(function, target, code)
    during = daemon.look(settled=False)
    machine.heal()
    after = daemon.look()
    yield from (f"while it runs: {error}" for error in dict.fromkeys(daemon.errors))
    if lost := lost_with(target, before, during):
        yield f"while it runs: other devices are lost: {names(lost, during)}"
    if not (absence(function, code) and takes_gpu(function)):
        withdrawn = set(before.devices) - set(during.devices)
        if withdrawn:
            yield f"while it runs: withdrawn: {names(withdrawn, during)}"
        false = set(during.devices) - set(before.devices)
        if false:
            yield f"while it runs: offered as what it is not: {names(false, during)}"
        if during.labels != before.labels:
            yield f"while it runs: labels change: {labels_unlike(during, before)}"
    if after != before:
        yield f"once it answers again: not as before: {names(unlike(after, before), after) or 'labels'}"


def telemetry(function: str, target: str, code: int) -> Iterator[str]:
    """What /metrics asks for when it is scraped."""
    machine.fail(function, target, code)
    try:
        found = {reading.uuid for reading in read()}
    except TelemetryError:
        found = None  # /metrics shows it
    except Exception as error:
        yield f"telemetry: crashes: {error!r}"
        return
    machine.heal()
    if target == "every":
        return
    victim = machine.uuid_of(target)
    others = {reading.uuid for reading in read()} - {victim}
    if found is None or others - found:
        yield "telemetry: other GPUs are lost"


def names(keys: set[tuple[str, str]], seen: Seen) -> list[str]:
    return sorted(
        f"{resource} {device[:12]} {seen.devices.get((resource, device), 'gone')}" for resource, device in keys
    )


def labels_unlike(now: Seen, before: Seen) -> str:
    keys = sorted({key for key, _ in set(now.labels.items()) ^ set(before.labels.items())})
    return f"{len(keys)}, {keys[0]} for one"


def unlike(now: Seen, before: Seen) -> set[tuple[str, str]]:
    keys = {*now.devices, *before.devices}
    return {key for key in keys if now.devices.get(key, "gone") != before.devices.get(key, "gone")}


def look(function: str, target: str, code: int) -> list[str]:
    as_it_is()
    # with what concerns no single GPU it may end at start, as it says that it does
    config = CONFIG if takes_gpu(function) and target != "every" else replace(CONFIG, fail_on_init_error=False)
    machine.fail(function, target, code)
    with running(config) as daemon:
        problems = list(at_start(daemon, function, target, code))
        if not problems:
            return [*while_it_runs(daemon, function, target, code), *telemetry(function, target, code)]
    with running(config) as daemon:
        return [*problems, *while_it_runs(daemon, function, target, code), *telemetry(function, target, code)]


if __name__ == "__main__":
    machine.init()
    machine.serve(look)
