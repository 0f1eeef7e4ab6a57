"""The metrics of the daemon, for Prometheus.

Events are counted when they happen; everything else is read when Prometheus scrapes. Sources that may block (the
kubelet's PodResources API, NVML) are awaited first, with a time limit, so a scrape never delays the kubelet's calls.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

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

if TYPE_CHECKING:
    from ..kubelet.pod_resources import Held
    from ..nvml.telemetry import Reading

log = Logger("metrics")

PREFIX = "nvidia_devplugin"
_ASK_SECONDS = 2.0
_T = TypeVar("_T")


class ServedResource(Protocol):
    """The state of one resource that the daemon serves."""

    @property
    def name(self) -> str:
        """The resource's name, such as nvidia.com/gpu."""

    @property
    def advertised(self) -> Mapping[str, AdvertisedDevice]:
        """The devices by their ids."""

    @property
    def faults(self) -> Mapping[str, Fault]:
        """The faults by the UUID of the GPU or MIG device."""

    @property
    def registered(self) -> bool:
        """Whether the resource is registered with the running kubelet."""

    @property
    def streams(self) -> int:
        """The number of open ListAndWatch streams."""

    @property
    def calls(self) -> CallStats:
        """The kubelet's calls so far."""

    @property
    def registration_stats(self) -> RegistrationStats:
        """The registrations so far."""


class ConfigStatus(Protocol):
    """Which config is in force."""

    @property
    def name(self) -> str | None:
        """Name or path of the config in force, empty for the empty config; None before the first one."""

    @property
    def refused(self) -> str | None:
        """Why the config that should be in force is refused; None if it is in force."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many configs were applied and refused."""


class Metrics(Collector):
    """Counts the driver's events and renders the metrics.

    version: the daemon's. resources: returns the resources that are served. pod_devices: lists the devices that pods
    hold, within the given seconds; None to leave them out. readings: the same for the telemetry of the GPUs.
    config: the config in force; None if the daemon follows none.
    """

    def __init__(
        self,
        version: str,
        resources: Callable[[], Iterable[ServedResource]],
        pod_devices: Callable[[float], Awaitable[list[Held]]] | None = None,
        readings: Callable[[float], Awaitable[list[Reading]]] | None = None,
        config: ConfigStatus | None = None,
    ) -> None:
        self._version = version
        self._resources = resources
        self._ask_pods = pod_devices
        self._ask_readings = readings
        self._config = config
        self._pods: list[Held] | None = None
        self._readings: list[Reading] | None = None
        self._driver_version = ""
        self._driver_fault: Fault | None = None
        self._driver_known = False
        self._xids: Counter[tuple[str, int]] = Counter()
        self._ecc: Counter[str] = Counter()
        self._updates = Histogram()
        self._failures: dict[str, str] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def saw(self, update: DriverUpdate, seconds: float) -> None:
        """Count an update from the driver. seconds: the time until the daemon had published it."""
        self._updates.observe(seconds)
        if isinstance(update, XidEvent):
            self._xids[update.uuid or "", update.xid] += 1
        elif isinstance(update, EccEvent):
            self._ecc[update.uuid or ""] += 1
        elif isinstance(update, Inventory):
            self._driver_version, self._driver_fault, self._driver_known = update.driver_version, None, True
        elif isinstance(update, DriverGone):
            self._driver_fault, self._driver_known = update.fault, True

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type. accept: the Accept header, which may ask for OpenMetrics."""
        pods, readings = await asyncio.gather(
            self._ask("pod_resources_unavailable", self._ask_pods),
            self._ask("telemetry_unavailable", self._ask_readings),
        )
        self._pods, self._readings = pods, readings
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # the library's answer to a version that is no number
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    async def _ask(self, event: str, source: Callable[[float], Awaitable[list[_T]]] | None) -> list[_T] | None:
        """The source's answer, None if it fails. The failure is logged as `event` when it begins or changes."""
        if source is None:
            return None
        answer, problem = None, ""
        try:
            answer = await asyncio.wait_for(source(_ASK_SECONDS), _ASK_SECONDS + 1)
        except Exception as error:  # whatever fails there, the other metrics must be served
            problem = str(error) or "no answer"
            if self._failures.get(event) != problem:
                log.warning(event, error=problem)
        self._failures[event] = problem
        return answer

    def collect(self) -> Iterator[Metric]:
        """All metrics but those of the process. scrape() has asked the slow sources before."""
        yield InfoMetricFamily(f"{PREFIX}_build", "Version of the device plugin.", {"version": self._version})
        if self._config is not None:
            yield from _config_metrics(self._config)
        yield from self._driver_metrics()
        resources = list(self._resources())
        yield from _resource_metrics(resources)
        if self._ask_pods is not None:
            yield from _pod_metrics(resources, self._pods)
        if self._ask_readings is not None:
            yield from _telemetry_metrics(self._readings)

    def _driver_metrics(self) -> Iterator[Metric]:
        if self._driver_version:
            version = {"version": self._driver_version}
            yield InfoMetricFamily(f"{PREFIX}_driver", "Version of the NVIDIA driver.", version)
        if self._driver_known:
            fault = self._driver_fault
            up = _gauge("driver_up", "1 if NVML works, 0 with the reason if it does not.", "reason")
            up.add_metric([fault.code if fault else ""], 0 if fault else 1)
            yield up
        xids = _counter("xids_total", "XIDs that the driver reported, including ignored ones.", "gpu", "xid")
        for (gpu, xid), count in sorted(self._xids.items()):
            xids.add_metric([gpu, str(xid)], count)
        ecc = _counter("ecc_double_bit_total", "Double-bit ECC errors that the driver reported.", "gpu")
        for gpu, count in sorted(self._ecc.items()):
            ecc.add_metric([gpu], count)
        updates = _histogram("update_duration_seconds", "Time from an event of the driver to the published state.")
        _add(updates, [], self._updates)
        yield from (xids, ecc, updates)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _histogram(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _add(family: HistogramMetricFamily, labels: Sequence[str], measured: Histogram) -> None:
    bounds = [*map(str, BOUNDS), "+Inf"]
    family.add_metric(labels, list(zip(bounds, accumulate(measured.counts), strict=True)), measured.total)


def _config_metrics(config: ConfigStatus) -> Iterator[Metric]:
    if config.name is not None:
        name = config.name.encode(errors="replace").decode()  # a path may hold bytes that are no UTF-8
        yield InfoMetricFamily(f"{PREFIX}_config", "Name or path of the config in force.", {"name": name})
    refused = "1 if the config that should be in force is refused; the previous one stays in force."
    yield GaugeMetricFamily(f"{PREFIX}_config_refused", refused, int(config.refused is not None))
    changes = _counter("config_changes_total", "Configs that were applied or refused since the start.", "outcome")
    for outcome, count in sorted(config.outcomes.items()):
        changes.add_metric([outcome], count)
    yield changes


def _resource_metrics(resources: Iterable[ServedResource]) -> Iterable[Metric]:
    devices = _gauge("devices", "Advertised devices by health and reason of the fault.", "resource", "health", "reason")
    unhealthy = _gauge(
        "unhealthy", "1 for each unhealthy GPU or MIG device, with the reason.", "gpu", "index", "uuid", "reason"
    )
    allocations = _counter(
        "allocations_total", "Containers for which the kubelet requested devices.", "resource", "outcome"
    )
    durations = _histogram(
        "request_duration_seconds", "Time to answer a request of the kubelet, without the transport.",
        "resource", "method",
    )  # fmt: skip
    registered = _gauge("registered", "1 if the resource is registered with the running kubelet.", "resource")
    streams = _gauge("list_and_watch_streams", "Open ListAndWatch streams of the kubelet.", "resource")
    registrations = _counter("registrations_total", "Registrations that the kubelet accepted.", "resource")
    failures = _counter("registration_failures_total", "Registrations that failed.", "resource")
    registering = _histogram("registration_duration_seconds", "Time that a registration took.", "resource")
    restarts = 0
    faulty: set[tuple[str, str, str, str]] = set()
    for resource in resources:
        name = resource.name
        states: Counter[tuple[str, str]] = Counter({(HEALTHY, ""): 0})
        for device in resource.advertised.values():
            fault = fault_of(device, resource.faults)
            states[(UNHEALTHY, fault.code) if fault else (HEALTHY, "")] += 1
            if fault:
                faulty.add((device.gpu.uuid, device.index, device.uuid, fault.code))
        for (health, reason), count in sorted(states.items()):
            devices.add_metric([name, health, reason], count)
        allocations.add_metric([name, "granted"], resource.calls.granted)
        allocations.add_metric([name, "refused"], resource.calls.refused)
        _add(durations, [name, "Allocate"], resource.calls.allocate)
        _add(durations, [name, "GetPreferredAllocation"], resource.calls.prefer)
        registered.add_metric([name], int(resource.registered))
        streams.add_metric([name], resource.streams)
        registrations.add_metric([name], resource.registration_stats.registrations)
        failures.add_metric([name], resource.registration_stats.failures)
        _add(registering, [name], resource.registration_stats.seconds)
        restarts = max(restarts, resource.registration_stats.restarts)
    for labels in sorted(faulty):
        unhealthy.add_metric(labels, 1)
    restarted = CounterMetricFamily(f"{PREFIX}_kubelet_restarts_total", "Restarts of the kubelet.", restarts)
    return (
        devices, unhealthy, allocations, durations, registered, streams, registrations, failures, registering, restarted
    )  # fmt: skip


def _pod_metrics(resources: Iterable[ServedResource], pods: list[Held] | None) -> Iterable[Metric]:
    text = "1 if the kubelet's PodResources API answered."
    up = GaugeMetricFamily(f"{PREFIX}_pod_resources_up", text, int(pods is not None))
    labels = ("namespace", "pod", "container", "resource", "device", "gpu", "index")
    devices = _gauge("pod_device", "1 for each device that a container holds.", *labels)
    advertised = {resource.name: resource.advertised for resource in resources}
    for held in pods or ():
        if held.resource in advertised:  # else it belongs to another device plugin
            device = advertised[held.resource].get(held.device)
            where = (device.gpu.uuid, device.index) if device else ("", "")
            values = (held.namespace, held.pod, held.container, held.resource, held.device, *where)
            devices.add_metric(values, 1)
    return up, devices


def _telemetry_metrics(readings: list[Reading] | None) -> Iterator[Metric]:
    up = int(readings is not None)
    yield GaugeMetricFamily(f"{PREFIX}_telemetry_up", "1 if NVML answered the query for telemetry.", up)
    for name, text, field in (
        ("utilization_ratio", "Share of the last sample period in which a kernel ran.", "utilization"),
        ("memory_used_bytes", "Memory in use.", "memory_used"),
        ("memory_total_bytes", "Total memory.", "memory_total"),
        ("temperature_celsius", "Temperature of the GPU's core.", "temperature"),
        ("power_watts", "Power draw of the board.", "power"),
    ):
        family = GaugeMetricFamily(f"nvidia_gpu_{name}", text, labels=("gpu", "index", "model"))
        for reading in readings or ():
            value = getattr(reading, field)
            if value is not None:
                family.add_metric((reading.uuid, str(reading.index), reading.model), value)
        yield family
