"""The current GPUs and their health: kept from the driver's updates, published to the device plugins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .config.settings import Config
from .devices.description import describe
from .devices.resources import Layout, layout, remembered
from .health import state as health_state
from .health.policy import Policy
from .health.state import HealthState
from .log import Logger
from .model import (
    DriverGone,
    DriverUpdate,
    EccEvent,
    Fault,
    Gpu,
    Inventory,
    Resource,
    Topology,
    XidEvent,
    fault_of,
    indices_of,
)

log = Logger("devices")


HANGS = Fault("driver_hangs", "the driver does not answer; look for XIDs 119, 79 and hung tasks in the kernel's log")
"""A hang is not the end: at start a driver without persistence mode may take a minute to initialise its GPUs."""


class FatalError(Exception):
    """The daemon cannot go on; the message is for the operator. status: the process' exit status."""

    status = 1


class NewContainerNeededError(FatalError):
    """Only a new container helps: this one has the library of a driver that was replaced, or lacks files of MIG devices
    that were made after it."""

    status = 3


MISMATCH_SECONDS = 10.0
"""How long a version mismatch must last before the process ends: it may be over once a driver is installed."""


class Publisher(Protocol):
    """Who gets the state: the manager of the device plugins."""

    def publish(self, resources: Sequence[Resource], faults: Mapping[str, Fault], topology: Topology | None) -> None:
        """Offer this from now on."""


class GpuTracker:
    """Applies the driver's updates and publishes what results.

    held: publish nothing before reconfigure(), since the settings that devices are named by are not known yet.
    """

    def __init__(
        self,
        config: Config,
        publisher: Publisher,
        policy: Policy,
        clock: Callable[[], float] = time.monotonic,
        state: HealthState | None = None,
        held: bool = False,
    ) -> None:
        self._config = config
        self._held = held
        self._publisher = publisher
        self._policy = policy
        self._gpus: tuple[Gpu, ...] = ()
        self._clock = clock
        self._health = state or HealthState()
        self._topology: Topology | None = None
        self._versions: tuple[str, tuple[int, int] | None] | None = None
        self._layout = Layout(())
        self._unreadable: tuple[str, ...] = ()
        self._said_none = False
        self._mismatch_since: float | None = None
        self._hidden: frozenset[tuple[str, int, int]] | None = None  # at the first reading
        self._hidden_before: frozenset[tuple[str, int, int]] = frozenset()
        self._initialised = False  # NVML was usable once

    @property
    def problem(self) -> str | None:
        """Why no pod can get a device; None if one can."""
        if self._health.driver:
            return self._health.driver.message
        devices = [device for resource in self._layout.resources for device in resource.devices]
        if devices:
            faults = self._health.faults()
            reasons = [fault_of(device, faults) for device in devices]
            if all(reasons):
                said = sorted({fault.message for fault in reasons if fault})
                return f"all {len(devices)} devices are unhealthy: {'; '.join(said[:3])}"
            return None
        return "; ".join(self._layout.problems) or ("no device to advertise" if self._gpus else "no GPU found")

    @property
    def description(self) -> dict[str, Any]:
        """What is advertised, for JSON. Raises ValueError before the driver answered."""
        if self.inventory is None:
            raise ValueError(self.problem or "the driver has not answered yet")
        problems = (*self._layout.problems, *self._unreadable)
        return describe(self._layout.resources, self._health.faults(), self.inventory[1], problems)

    @property
    def inventory(self) -> tuple[tuple[Gpu, ...], str, tuple[int, int] | None] | None:
        """All GPUs, and the versions of driver and CUDA, as they were last seen; None before the driver answered, and
        while nothing may be published."""
        return None if self._versions is None or self._held else (self._gpus, *self._versions)

    @property
    def health(self) -> HealthState:
        """The health of this moment; a value that does not change any more."""
        return self._health

    def acknowledge(self, name: str) -> str:
        """An operator vouches for a GPU or MIG device, given by uuid or index (0, 0:1): from now on it is healthy.

        The uuid. Raises ValueError with a message for the operator.
        """
        uuid = {index: uuid for uuid, index in indices_of(self._gpus).items()}.get(name, name)
        before = self._health
        self._health = health_state.acknowledge(before, uuid, self._clock())
        log.info("acknowledged", gpu=uuid)
        self._publish(before)
        return uuid

    def reconfigure(self, config: Config, policy: Policy) -> None:
        """Other settings from now on. The faults that were found stay, whatever the new policy makes of such."""
        self._config, self._policy, self._held = config, policy, False
        self._arrange()
        self._publish(self._health)

    def _publish(self, before: HealthState) -> None:
        faults = self._health.faults()
        self._log_health(before.faults(), faults)
        if self._gpus and not self._held:
            self._publisher.publish(self._layout.resources, faults, self._topology)

    def apply(self, news: DriverUpdate) -> None:
        """Apply one update.

        Raises FatalError if NVML cannot be used at start and the settings say not to wait, and
        NewContainerNeededError.
        """
        before, before_gpus, before_topology = self._health, self._gpus, self._topology
        self._health = health_state.update(self._health, self._policy, news, self._clock())
        if isinstance(news, DriverGone):
            self._driver_gone(news, before)
        elif isinstance(news, Inventory):
            self._apply_inventory(news, before)
        elif isinstance(news, Topology):
            self._topology = news
        elif isinstance(news, EccEvent):
            log.counted("ecc_double_bit", gpu=news.uuid, gi=news.gi, ci=news.ci)
        else:
            self._log_xid(news)
        seen = before.known, before.faults(), before_gpus, before_topology
        if (self._health.known, self._health.faults(), self._gpus, self._topology) == seen:
            return  # a storm of events on a GPU that is unhealthy already tells the kubelet nothing
        if self._gpus != before_gpus and not self._held:
            self._arrange()
        self._publish(before)

    def _arrange(self) -> None:
        """Find out what to advertise, and say what is wrong with it once."""
        told = self._layout.problems
        self._layout = layout(self._gpus, self._config.rules)
        for problem in self._layout.problems:
            if problem not in told:
                log.error("device_problem", problem=problem)

    def _log_health(self, before: Mapping[str, Fault], now: Mapping[str, Fault]) -> None:
        for uuid, index in indices_of(self._gpus).items():
            fault = now.get(uuid)
            if fault == before.get(uuid):
                continue
            if fault is not None:
                log.warning("unhealthy", gpu=uuid, index=index, reason=fault.code, message=fault.message)
            else:
                log.info("healthy", gpu=uuid, index=index)

    def _driver_gone(self, news: DriverGone, before: HealthState) -> None:
        fail = self._config.fail_on_init_error and not self._held
        if fail and not self._initialised and news.fault.code != HANGS.code:
            raise FatalError(f"NVML cannot be used: {news.fault.message}. What to do: {news.hint}")
        if self._initialised and news.fault.code == "version_mismatch":
            now = self._clock()
            self._mismatch_since = now if self._mismatch_since is None else self._mismatch_since
            if now - self._mismatch_since >= MISMATCH_SECONDS:
                raise NewContainerNeededError(f"{news.fault.message}: a new container is needed")
        if before.driver != news.fault:
            log.error("driver_unavailable", reason=news.fault.code, message=news.fault.message, hint=news.hint)

    def _check_hidden(self, news: Inventory) -> None:
        """End the process once MIG devices were made that this container may not use; a new one has their files."""
        if self._config.rules.mig_strategy == "none":
            return
        if self._hidden is None:
            self._hidden = news.hidden
            for uuid, gi, ci in sorted(news.hidden):
                log.error(
                    "mig_device_hidden", gpu=uuid, gi=gi, ci=ci,
                    hint="the container lacks its files: NVIDIA_VISIBLE_DEVICES must be all, and MIG devices that "
                    "existed before the container must not be restricted",
                )  # fmt: skip
        made = news.hidden & self._hidden_before - self._hidden
        self._hidden_before = news.hidden
        if made:
            names = ", ".join(f"{gi}/{ci} of {uuid}" for uuid, gi, ci in sorted(made))
            raise NewContainerNeededError(f"MIG devices were made that this container may not use: {names}")

    def _apply_inventory(self, news: Inventory, before: HealthState) -> None:
        self._initialised = True
        self._mismatch_since = None
        self._check_hidden(news)
        self._versions = news.driver_version, news.cuda_version
        new = [gpu for gpu in news.gpus if gpu.uuid not in before.known]
        if before.driver is not None:
            log.info("driver_available", driver=news.driver_version, gpus=len(news.gpus))
        for gpu in new:
            log.info(
                "gpu_found", gpu=gpu.uuid, index=gpu.index, model=gpu.name, pci=gpu.pci_bus_id, numa=gpu.numa_node,
                memory_mib=gpu.memory_bytes // 2**20, driver=news.driver_version,
            )  # fmt: skip
        if news.unreadable != self._unreadable:
            self._unreadable = news.unreadable
            for text in news.unreadable:
                log.warning("gpu_unreadable", error=text)
        self._gpus = remembered(self._gpus, news.gpus)
        if not self._gpus and not self._said_none:
            self._said_none = True
            log.warning("no_gpu", driver=news.driver_version, hint="nothing is advertised until a GPU appears")

    def _log_xid(self, event: XidEvent) -> None:
        ignored = self._policy.ignores(event.xid)
        log.counted(
            "xid",
            xid=event.xid,
            gpu=event.uuid,
            gi=event.gi,
            ci=event.ci,
            ignored=ignored,
            message=self._policy.fault(event.xid).message,
        )
