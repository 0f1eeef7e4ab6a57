"""All plugins of the node, one for each resource: created when a resource first appears, and kept from then on.

A resource that has no devices any more stays registered with an empty list: only then does the kubelet set its capacity
to zero at once. If the plugin merely disappeared, the kubelet and schedulers would keep the resource for minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from ..config.settings import Config
from ..log import Logger
from ..model import AdvertisedDevice, Fault, Resource, Topology
from .plugin import DevicePlugin, Endpoint
from .registration import Registration
from .stats import CallStats, RegistrationStats

log = Logger("fleet")


class ResourcePlugin:
    """One resource: its plugin, where that is served, and its registration."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.plugin = DevicePlugin(name, config)
        self.endpoint = Endpoint(self.plugin, config.kubelet_socket.parent)
        self.registration = Registration(
            config.kubelet_socket, name, self.plugin.options, self.endpoint, lambda: self.plugin.streams > 0
        )

    @property
    def devices(self) -> int:
        """The number of devices that are advertised."""
        return len(self.plugin.devices)

    @property
    def problem(self) -> str | None:
        """Why some of the resource's devices are not advertised; None if all are."""
        return self.plugin.problem

    @property
    def advertised(self) -> Mapping[str, AdvertisedDevice]:
        return self.plugin.devices

    @property
    def faults(self) -> Mapping[str, Fault]:
        return self.plugin.faults

    @property
    def registered(self) -> bool:
        return self.registration.ready

    @property
    def streams(self) -> int:
        return self.plugin.streams

    @property
    def calls(self) -> CallStats:
        return self.plugin.calls

    @property
    def registration_stats(self) -> RegistrationStats:
        return self.registration.stats


class PluginManager:
    """The plugins. publish() gives them the state; run() keeps them registered."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._members: dict[str, ResourcePlugin] = {}
        self._grown = asyncio.Event()

    @property
    def members(self) -> Collection[ResourcePlugin]:
        """All resources that were ever advertised."""
        return self._members.values()

    @property
    def ready(self) -> bool:
        """Whether there are resources, and the kubelet knows them all."""
        return bool(self._members) and all(member.registration.ready for member in self._members.values())

    @property
    def problem(self) -> str | None:
        """Why some devices are not advertised; None if all are."""
        return "; ".join(member.problem for member in self._members.values() if member.problem) or None

    def reconfigure(self, config: Config) -> None:
        """Use these settings from now on. The sockets stay where they are: a config file cannot change that."""
        self._config = config
        for member in self._members.values():
            member.plugin.reconfigure(config)

    def publish(
        self, resources: Sequence[Resource], faults: Mapping[str, Fault], topology: Topology | None = None
    ) -> None:
        """Make this the state of all resources; known ones that are not among them have no devices any more."""
        named = {resource.name: resource for resource in resources}
        for name in [*named, *(name for name in self._members if name not in named)]:
            resource = named.get(name) or Resource(name, ())
            member = self._members.get(name)
            if member is None:
                member = self._members[name] = ResourcePlugin(name, self._config)
                self._grown.set()
            before = member.devices
            member.plugin.publish(resource, faults, topology)
            if member.devices != before:
                log.info("advertised", resource=name, devices=member.devices, before=before)

    async def run(self) -> None:
        """Until cancelled, or until the task of one resource fails."""
        tasks: dict[str, asyncio.Task[object]] = {}
        try:
            while True:
                self._grown.clear()
                for name, member in self._members.items():
                    if name not in tasks:
                        tasks[name] = asyncio.create_task(member.registration.run(), name=f"kubelet {name}")
                grown = asyncio.create_task(self._grown.wait())
                try:
                    done, _pending = await asyncio.wait([grown, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    grown.cancel()
                for task in done - {grown}:
                    task.result()  # raises what ended it
                    return
        finally:
            for task in tasks.values():
                task.cancel()
            if tasks:
                await asyncio.wait(tasks.values())

    async def stop(self) -> None:
        """End all calls and remove the sockets."""
        await asyncio.gather(*(member.endpoint.stop() for member in self._members.values()))
