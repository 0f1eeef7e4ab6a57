"""GetPreferredAllocation: which of the free devices a container gets. Pure; a Placement answers many requests.

Whole GPUs: the set with the highest sum of scores over its pairs; among equals the one that leaves the best-connected
rest; among those the lowest numbers (see wiring).

Shared GPUs and MIG devices: `distributed` takes each device from where the fewest are taken, so that the loads are as
even as they can be; `packed` opens as few idle GPUs as possible, then spreads over as few as possible.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from ..model import AdvertisedDevice, Link, Topology
from .gpu_topology import TopologySolver
from .listing import listed

_CACHED = 512
_Question = tuple[frozenset[int], frozenset[int], int]
_LEVELS = {0: 60, 10: 50, 20: 40, 30: 30, 40: 20, 50: 10}


def link_score(link: Link | None, same_numa: bool) -> int:
    """How good it is to have two GPUs in one container, on the scale of NVIDIA's plugin.

    10 for each step nearer on PCIe, from across CPUs to one board, and 100 for each NVLink. Where the driver does not
    know the path, the NUMA nodes stand for it.
    """
    if link is None or link.level is None:
        level = 20 if same_numa else 10
    else:
        level = _LEVELS.get(link.level, 0)
    return level + 100 * (link.nvlinks if link else 0)


class Placement:
    """Chooses devices of one resource.

    policy: distributed or packed, for devices that share a GPU. distinct: as far as it can be met, no GPU twice.
    """

    def __init__(
        self,
        devices: Sequence[AdvertisedDevice],
        topology: Topology | None = None,
        policy: str = "distributed",
        distinct: bool = False,
    ) -> None:
        self._ids = [device.id for device in devices]
        self._number = {device.id: number for number, device in enumerate(devices)}
        self._gpus = [device.gpu for device in devices]
        self._policy = policy
        self._distinct = distinct
        # a place is what several devices can share: a GPU, or the MIG device that replicas share
        places: dict[str, list[int]] = {}
        for number, device in enumerate(devices):
            key = device.gpu.uuid if distinct or device.replica is None else device.uuid
            places.setdefault(key, []).append(number)
        self._whole = all(device.mig is None and device.replica is None for device in devices)
        self._places = tuple(places.values())
        self._place_of = {number: at for at, members in enumerate(self._places) for number in members}
        self._links = {(one, other): link for one, other, link in topology.links} if topology else {}
        self._wiring: TopologySolver | None = None  # made when first needed, not at start
        self._cache: OrderedDict[_Question, list[int]] = OrderedDict()

    def prepare(self) -> None:
        """Answer ahead what is asked most: whole GPUs while all of them are free."""
        if self._whole and self._ids:
            self.prefer(self._ids, (), len(self._ids) // 2)

    def prefer(self, available: Sequence[str], must_include: Sequence[str], size: int) -> list[str]:
        """`size` ids out of `available` that contain `must_include`; those first.

        Raises ValueError naming what cannot be satisfied.
        """
        number = self._number
        offered = {number[device] for device in available if device in number}
        chosen = list(dict.fromkeys(must_include))
        missing = [device for device in chosen if number.get(device) not in offered]
        if missing:
            raise ValueError(f"must include {listed(missing)}, which is not available")
        if size < len(chosen):
            raise ValueError(f"allocation of {size} cannot include {len(chosen)} devices")
        if size > len(offered):
            raise ValueError(f"allocation of {size} out of {len(offered)} available devices")
        must = frozenset(number[device] for device in chosen)
        found = self._whole_gpus(frozenset(offered), must, size) if self._whole else self._shared(offered, must, size)
        return chosen + [self._ids[each] for each in found if each not in must]

    def _kept(self, key: _Question, answer: Callable[[], list[int]]) -> list[int]:
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = answer()
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(key)
        return found

    # whole GPUs

    def _pair(self, one: int, other: int) -> int:
        first, second = self._gpus[one], self._gpus[other]
        link = self._links.get((first.uuid, second.uuid)) or self._links.get((second.uuid, first.uuid))
        return link_score(link, first.numa_node == second.numa_node)

    def _whole_gpus(self, offered: frozenset[int], must: frozenset[int], size: int) -> list[int]:
        # the answers for all sizes fall out of one calculation
        return self._wired().members(self._kept((offered, must, 0), lambda: self._wired().best(offered, must))[size])

    def _wired(self) -> TopologySolver:
        if self._wiring is None:
            everything = range(len(self._ids))
            self._wiring = TopologySolver([[0 if a == b else self._pair(a, b) for b in everything] for a in everything])
        return self._wiring

    # shared GPUs and MIG devices

    def _shared(self, offered: set[int], must: frozenset[int], size: int) -> list[int]:
        return self._kept((frozenset(offered), must, size), lambda: sorted(self._spread(offered, must, size)))

    def _spread(self, offered: set[int], must: frozenset[int], size: int) -> set[int]:
        free = [[each for each in members if each in offered and each not in must] for members in self._places]
        load = [len(members) - len(rest) for members, rest in zip(self._places, free, strict=True)]
        need = size - len(must)
        if self._distinct:
            taken = {self._place_of[each] for each in must}
            open_places = [at for at, rest in enumerate(free) if rest and at not in taken]
            if len(taken) == len(must) and len(open_places) >= need:  # otherwise Allocate says why it cannot be met
                packed = self._policy == "packed"
                open_places.sort(key=lambda at: ((-load[at] if packed else load[at]), at))
                return {*must, *(free[at][0] for at in open_places[:need])}
        picks = (_packed if self._policy == "packed" else _even)(
            [len(rest) for rest in free], load, {self._place_of[each] for each in must}, need
        )
        return {*must, *(each for at, n in picks.items() for each in free[at][:n])}


def _even(free: Sequence[int], load: Sequence[int], used: set[int], need: int) -> Mapping[int, int]:
    """How many to take of each place so that the sum of the squares of the loads is least: always the least loaded.

    Among equals, a place that this container does not use yet, then the lowest number.
    """
    picks: dict[int, int] = {}
    for _pick in range(need):
        at = min(
            (at for at in range(len(free)) if free[at] > picks.get(at, 0)),
            key=lambda at: (load[at] + picks.get(at, 0), at in used, at),
        )
        picks[at] = picks.get(at, 0) + 1
    return picks


def _packed(free: Sequence[int], load: Sequence[int], used: set[int], need: int) -> Mapping[int, int]:
    """How many to take of each place: the fewest idle places opened, then the fewest places in all.

    Places that the container uses already cost nothing. Among equals the one that fits most tightly, so that small
    gaps are filled first.
    """
    picks: dict[int, int] = {}

    def take(places: Sequence[int], wanted: int) -> int:
        left = sorted((at for at in places if free[at]), key=lambda at: (-free[at], at))
        while wanted > 0 and left:
            fits = [at for at in left if free[at] >= wanted]
            at = min(fits, key=lambda at: (free[at], at)) if fits else left[0]
            left.remove(at)
            picks[at] = min(free[at], wanted)
            wanted -= picks[at]
        return wanted

    everywhere = range(len(free))
    own = [at for at in everywhere if at in used]
    warm = [at for at in everywhere if load[at] and at not in used]
    idle = sorted((at for at in everywhere if not load[at] and free[at]), key=lambda at: (-free[at], at))
    own_room, warm_room = (sum(free[at] for at in places) for places in (own, warm))
    opened, room = 0, 0
    while own_room + warm_room + room < need:
        room += free[idle[opened]]
        opened += 1
    rest = take(own, need)
    if not opened:
        take(warm, rest)
        return picks
    for at in sorted(warm, key=lambda at: (-free[at], at)):
        if rest <= room:
            break
        if free[at]:
            picks[at] = min(free[at], rest)
            rest -= picks[at]
    take(idle, rest)
    return picks
