"""What Prometheus is told. Counted while it happens, gathered only when somebody asks.

Nothing here runs between two scrapes, and no scrape holds up the kubelet's calls: what has to be asked for elsewhere
(the kubelet's PodResources, NVML's telemetry) is awaited, with a limit, and its failure is a metric of its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from ..kubelet.pod_resources import Held, PodResourcesError
from ..kubelet.stats import BOUNDS, CallStats, Histogram, RegistrationStats
from ..log import Logger
from ..model import (
    HEALTHY,
    UNHEALTHY,
    AdvertisedDevice,
    DriverGone,
    DriverUpdate,
    EccEvent,
    Fault,
    Inventory,
    XidEvent,
    fault_of,
)
from ..nvml.telemetry import Reading, TelemetryError
from .exposition import Family, Sample, render

log = Logger("metrics")

PREFIX = "nvidia_devplugin"
_ASK_SECONDS = 2.0


class ResourcePlugin(Protocol):
    """One resource as it is served now."""

    @property
    def name(self) -> str:
        """The resource's name, such as nvidia.com/gpu."""

    @property
    def advertised(self) -> Mapping[str, AdvertisedDevice]:
        """The devices by their ids."""

    @property
    def faults(self) -> Mapping[str, Fault]:
        """The faults by uuid of GPU or MIG device."""

    @property
    def registered(self) -> bool:
        """Whether the kubelet that runs now knows it."""

    @property
    def streams(self) -> int:
        """How many ListAndWatch streams are open."""

    @property
    def calls(self) -> CallStats:
        """The kubelet's calls so far."""

    @property
    def registration_stats(self) -> RegistrationStats:
        """The registrations so far."""


class Settings(Protocol):
    """The config file that is followed."""

    @property
    def name(self) -> str | None:
        """What is in force: its name or path, empty for the empty config; None if nothing is yet."""

    @property
    def refused(self) -> str | None:
        """What is wrong with what should be in force; None if that is in force."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How often something was applied and refused."""


class Metrics:
    """Counts what comes from the driver, and answers scrapes.

    members: the resources that are served. held: who holds which device; None if that is not asked.
    readings: the GPUs' telemetry; None if it is off. settings: the config that is followed; None if none is.
    """

    def __init__(
        self,
        version: str,
        members: Callable[[], Iterable[ResourcePlugin]],
        held: Callable[[float], Awaitable[list[Held]]] | None = None,
        readings: Callable[[float], Awaitable[list[Reading]]] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._version = version
        self._settings = settings
        self._members = members
        self._held = held
        self._readings = readings
        self._driver_version = ""
        self._driver_fault: Fault | None = None
        self._driver_known = False
        self._xids: Counter[tuple[str, int]] = Counter()
        self._ecc: Counter[str] = Counter()
        self._updates = Histogram()
        self._said: dict[str, str] = {}

    def saw(self, update: DriverUpdate, seconds: float) -> None:
        """Count an update from the driver that took `seconds` to be published."""
        self._updates.observe(seconds)
        if isinstance(update, XidEvent):
            self._xids[update.uuid or "", update.xid] += 1
        elif isinstance(update, EccEvent):
            self._ecc[update.uuid or ""] += 1
        elif isinstance(update, Inventory):
            self._driver_version, self._driver_fault, self._driver_known = update.driver_version, None, True
        elif isinstance(update, DriverGone):
            self._driver_fault, self._driver_known = update.fault, True

    async def scrape(self) -> str:
        """The whole page."""
        members = list(self._members())
        families = [*self._own(), *_of_members(members)]
        if self._held is not None:
            families += await self._pods(members, self._held)
        if self._readings is not None:
            families += await self._telemetry(self._readings)
        return render([*families, *_process()])

    def _own(self) -> Iterable[Family]:
        yield _info("build", "The device plugin itself.", version=self._version)
        if self._settings is not None:
            yield from _of_settings(self._settings)
        if self._driver_version:
            yield _info("driver", "The NVIDIA driver as NVML names it.", version=self._driver_version)
        if self._driver_known:
            fault = self._driver_fault
            labels = {"reason": fault.code if fault else ""}
            up = Sample(0 if fault else 1, labels)
            yield Family(f"{PREFIX}_driver_up", "gauge", "1 if NVML can be used; otherwise 0 and the reason.", [up])
        yield Family(
            f"{PREFIX}_xids_total", "counter", "XIDs that the driver reported, those that are ignored as well.",
            [Sample(count, {"gpu": gpu, "xid": xid}) for (gpu, xid), count in sorted(self._xids.items())],
        )  # fmt: skip
        yield Family(
            f"{PREFIX}_ecc_double_bit_total", "counter", "Double-bit ECC errors that the driver reported.",
            [Sample(count, {"gpu": gpu}) for gpu, count in sorted(self._ecc.items())],
        )  # fmt: skip
        yield Family(
            f"{PREFIX}_update_duration_seconds", "histogram", "From the driver's news to the plugins' new state.",
            histogram(self._updates),
        )  # fmt: skip

    async def _pods(
        self, members: Iterable[ResourcePlugin], ask: Callable[[float], Awaitable[list[Held]]]
    ) -> Iterable[Family]:
        found: list[Held] = []
        problem = ""
        try:
            found = await asyncio.wait_for(ask(_ASK_SECONDS), _ASK_SECONDS + 1)
        except (PodResourcesError, asyncio.TimeoutError) as error:
            problem = str(error) or "no answer"
        self._say_once("pod_resources_unavailable", problem)
        advertised = {member.name: member.advertised for member in members}
        samples = []
        for one in found:
            if one.resource not in advertised:
                continue  # another plugin's
            device = advertised[one.resource].get(one.device)
            labels = {
                "namespace": one.namespace,
                "pod": one.pod,
                "container": one.container,
                "resource": one.resource,
                "device": one.device,
                "gpu": device.gpu.uuid if device else "",
                "index": device.index if device else "",
            }
            samples.append(Sample(1, labels))
        up = [Sample(0 if problem else 1)]
        return (
            Family(f"{PREFIX}_pod_resources_up", "gauge", "1 if the kubelet told which pod holds what.", up),
            Family(f"{PREFIX}_pod_device", "gauge", "A device that a container of a pod holds.", samples),
        )

    async def _telemetry(self, ask: Callable[[float], Awaitable[list[Reading]]]) -> Iterable[Family]:
        found: list[Reading] = []
        problem = ""
        try:
            found = await ask(_ASK_SECONDS)
        except TelemetryError as error:
            problem = str(error)
        self._say_once("telemetry_unavailable", problem)

        def of(name: str, text: str, value: Callable[[Reading], float | None]) -> Family:
            samples = []
            for one in found:
                number = value(one)
                if number is not None:
                    samples.append(Sample(number, {"gpu": one.uuid, "index": one.index, "model": one.model}))
            return Family(f"nvidia_gpu_{name}", "gauge", text, samples)

        return (
            Family(f"{PREFIX}_telemetry_up", "gauge", "1 if NVML could be asked.", [Sample(0 if problem else 1)]),
            of("utilization_ratio", "Share of the last sample period in which a kernel ran.", lambda r: r.utilization),
            of("memory_used_bytes", "Memory in use.", lambda r: r.memory_used),
            of("memory_total_bytes", "Memory in all.", lambda r: r.memory_total),
            of("temperature_celsius", "Temperature of the GPU's core.", lambda r: r.temperature),
            of("power_watts", "Power that the board draws.", lambda r: r.power),
        )

    def _say_once(self, event: str, problem: str) -> None:
        """A line when something begins to fail, or fails otherwise than before; not for every scrape."""
        if self._said.get(event, "") != problem:
            self._said[event] = problem
            if problem:
                log.warning(event, error=problem)


def _of_settings(settings: Settings) -> Iterable[Family]:
    if settings.name is not None:
        yield _info("config", "The config that is in force, by name or path.", name=settings.name)
    yield Family(
        f"{PREFIX}_config_refused", "gauge", "1 if the config that should be in force is wrong; the former one is.",
        [Sample(int(settings.refused is not None))],
    )  # fmt: skip
    yield Family(
        f"{PREFIX}_config_changes_total", "counter", "Configs that were applied, and refused, since the start.",
        [Sample(count, {"outcome": outcome}) for outcome, count in sorted(settings.outcomes.items())],
    )  # fmt: skip


def _info(what: str, text: str, **labels: str) -> Family:
    return Family(f"{PREFIX}_{what}_info", "gauge", text, [Sample(1, labels)])


def histogram(measured: Histogram, **labels: str) -> list[Sample]:
    """The samples of a histogram: cumulated counts by upper bound, sum and count."""
    bounds = [*(repr(bound) for bound in BOUNDS), "+Inf"]
    counts = list(accumulate(measured.counts))
    samples = [Sample(count, {**labels, "le": bound}, "_bucket") for bound, count in zip(bounds, counts, strict=True)]
    return [*samples, Sample(measured.total, labels, "_sum"), Sample(counts[-1], labels, "_count")]


def _of_members(members: Iterable[ResourcePlugin]) -> Iterable[Family]:
    devices: list[Sample] = []
    unhealthy: dict[tuple[str, str, str], Sample] = {}
    calls: list[Sample] = []
    durations: list[Sample] = []
    registering: list[Sample] = []
    per_resource: dict[str, list[Sample]] = {}
    restarts = 0
    for member in members:
        resource = {"resource": member.name}
        states: Counter[tuple[str, str]] = Counter({(HEALTHY, ""): 0})
        for device in member.advertised.values():
            fault = fault_of(device, member.faults)
            states[(UNHEALTHY, fault.code) if fault else (HEALTHY, "")] += 1
            if fault:
                labels = {"gpu": device.gpu.uuid, "index": device.index, "uuid": device.uuid, "reason": fault.code}
                unhealthy[device.gpu.uuid, device.uuid, fault.code] = Sample(1, labels)
        for (health, reason), count in sorted(states.items()):
            devices.append(Sample(count, {**resource, "health": health, "reason": reason}))
        stats, registration = member.calls, member.registration_stats
        calls.append(Sample(stats.granted, {**resource, "outcome": "granted"}))
        calls.append(Sample(stats.refused, {**resource, "outcome": "refused"}))
        for method, measured in (("Allocate", stats.allocate), ("GetPreferredAllocation", stats.prefer)):
            durations += histogram(measured, **resource, method=method)
        registering += histogram(registration.seconds, **resource)
        restarts = max(restarts, registration.restarts)
        for name, value in (
            ("registered", member.registered),
            ("list_and_watch_streams", member.streams),
            ("registrations_total", registration.registrations),
            ("registration_failures_total", registration.failures),
        ):
            per_resource.setdefault(name, []).append(Sample(int(value), resource))

    def family(name: str, kind: str, text: str, samples: list[Sample] | None = None) -> Family:
        return Family(f"{PREFIX}_{name}", kind, text, per_resource.get(name, []) if samples is None else samples)

    yield family("devices", "gauge", "Devices that are advertised, by health and why it is lacking.", devices)
    yield family("unhealthy", "gauge", "A GPU or MIG device that must not be used, and why.", list(unhealthy.values()))
    yield family("allocations_total", "counter", "Containers for which the kubelet asked for devices.", calls)
    yield family(
        "request_duration_seconds", "histogram", "Time to answer the kubelet, without the transport.", durations
    )
    yield family("registered", "gauge", "1 if the kubelet that runs now knows the resource.")
    yield family("list_and_watch_streams", "gauge", "Streams over which the kubelet follows the devices.")
    yield family("registrations_total", "counter", "Registrations that the kubelet accepted.")
    yield family("registration_failures_total", "counter", "Attempts to register that failed.")
    yield family("registration_duration_seconds", "histogram", "Time that a registration took.", registering)
    yield family("kubelet_restarts_total", "counter", "How often another kubelet took the former's place.",
                 [Sample(restarts)])  # fmt: skip


def _process() -> Iterable[Family]:
    """The metrics that every Prometheus client has of its process, from Linux' proc(5)."""
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 a list of paths is of no use
    except (OSError, ValueError, IndexError):
        return
    for name, kind, text, value in (
        ("cpu_seconds_total", "counter", "CPU time, user and system.", (int(fields[11]) + int(fields[12])) / tick),
        ("resident_memory_bytes", "gauge", "Resident memory.", int(fields[21]) * page),
        ("virtual_memory_bytes", "gauge", "Virtual memory.", int(fields[20])),
        ("threads", "gauge", "Threads.", int(fields[17])),
        ("open_fds", "gauge", "Open file descriptors.", files),
        ("start_time_seconds", "gauge", "Start, in seconds since 1970.",
         time.time() - uptime + int(fields[19]) / tick),
    ):  # fmt: skip
        yield Family(f"process_{name}", kind, text, [Sample(value)])
