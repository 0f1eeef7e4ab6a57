"""All plugins of the node, one for each resource: made when a resource first appears, and kept from then on.

A resource that has no devices any more stays registered with an empty list: only that makes the kubelet take its
capacity to zero at once. One that merely disappeared would be kept by the kubelet, and by schedulers, for minutes.
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
        self.devices = 0

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
    """The plugins. publish() tells them the state; run() keeps them registered."""

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

    def reconfigure(self, config: Config) -> None:
        """Other settings from now on. What is where (sockets) stays: the file has no say in that."""
        self._config = config
        for member in self._members.values():
            member.plugin.reconfigure(config)

    def publish(
        self, resources: Sequence[Resource], faults: Mapping[str, Fault], topology: Topology | None = None
    ) -> None:
        """Make this the state of all resources; those that are not named have no devices any more."""
        named = {resource.name: resource for resource in resources}
        for name in [*named, *(name for name in self._members if name not in named)]:
            resource = named.get(name) or Resource(name, ())
            member = self._members.get(name)
            if member is None:
                member = self._members[name] = ResourcePlugin(name, self._config)
                self._grown.set()
            if member.devices != len(resource.devices):
                log.info("advertised", resource=name, devices=len(resource.devices), before=member.devices)
            member.devices = len(resource.devices)
            member.plugin.publish(resource, faults, topology)

    async def run(self) -> None:
        """Until cancelled, or until the work for one resource ends, which it is not meant to."""
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
