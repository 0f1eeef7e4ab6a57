"""Placement against brute force: whole GPUs by the score of their pairs, shared ones by the loads that they make."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.devices import placement as preference
from nvidia_devplugin.devices.placement import Placement, link_score
from nvidia_devplugin.model import AdvertisedDevice, Link, MigDevice, Topology
from tests.unit.devplugin.strategies import gpu, numa_nodes

LEVELS = st.sampled_from([None, 0, 10, 20, 30, 40, 50])


def whole(nodes, links=None):
    """One device for each NUMA node of `nodes`; links by pairs of numbers."""
    devices = [AdvertisedDevice(gpu(number).uuid, gpu(number, node)) for number, node in enumerate(nodes)]
    found = [(devices[a].id, devices[b].id, link) for (a, b), link in (links or {}).items()]
    return devices, Topology(tuple(found)) if links is not None else None


@st.composite
def machines(draw, most=8):
    """GPUs with NUMA nodes and any links, or links by position as real boards have them."""
    nodes = draw(st.lists(numa_nodes, max_size=most))
    pairs = list(itertools.combinations(range(len(nodes)), 2))
    kind = draw(st.sampled_from(["none", "any", "boards"]))
    if kind == "none":
        return whole(nodes)
    if kind == "any":
        return whole(nodes, {pair: Link(draw(LEVELS), draw(st.integers(0, 2))) for pair in pairs})
    size = draw(st.sampled_from([2, 4]))
    return whole(nodes, {(a, b): Link(20 if a // size == b // size else 50, a // 2 == b // 2) for a, b in pairs})


@st.composite
def requests(draw, devices):
    ids = [device.id for device in devices]
    available = draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    must = draw(st.lists(st.sampled_from(available), unique=True)) if available else []
    return available, must, draw(st.integers(len(must), len(available)))


def score(devices, topology, ids):
    links = {frozenset((a, b)): link for a, b, link in topology.links} if topology else {}
    numa = {device.id: device.gpu.numa_node for device in devices}
    return sum(link_score(links.get(frozenset(p)), numa[p[0]] == numa[p[1]]) for p in itertools.combinations(ids, 2))


@pytest.mark.parametrize(
    ("link", "apart", "together"),
    [
        pytest.param(None, 10, 20, id="not-known-at-all"),
        pytest.param(Link(None, 0), 10, 20, id="path-not-known"),
        pytest.param(Link(None, 4), 410, 420, id="only-nvlinks-known"),
        *(pytest.param(Link(level, 0), 60 - level, 60 - level, id=f"level-{level}") for level in range(0, 60, 10)),
        pytest.param(Link(50, 12), 1210, 1210, id="nvlinks"),
        pytest.param(Link(25, 0), 0, 0, id="a-level-of-the-future"),
    ],
)
def test_scores_are_those_of_nvidias_plugin(link, apart, together):
    assert (link_score(link, False), link_score(link, True)) == (apart, together)


@given(machines(), st.data())
def test_no_set_of_whole_gpus_scores_higher_and_none_leaves_a_better_rest(machine, data):
    devices, topology = machine
    available, must, size = data.draw(requests(devices))
    chosen = Placement(devices, topology).prefer(available, must, size)
    assert len(chosen) == len(set(chosen)) == size
    assert set(must) <= set(chosen) <= set(available)

    def value(ids):
        return score(devices, topology, ids), score(devices, topology, set(available) - set(ids))

    possible = [ids for ids in itertools.combinations(available, size) if set(must) <= set(ids)]
    assert value(chosen) == max(value(ids) for ids in possible)


@given(machines(), st.data())
def test_what_was_prepared_is_what_would_be_answered(machine, data):
    devices, topology = machine
    available, must, size = data.draw(requests(devices))
    prepared = Placement(devices, topology)
    prepared.prepare()
    assert prepared.prefer(available, must, size) == Placement(devices, topology).prefer(available, must, size)


@given(machines(), st.data())
def test_the_order_of_the_question_does_not_matter(machine, data):
    devices, topology = machine
    available, must, size = data.draw(requests(devices))
    placement = Placement(devices, topology)
    chosen = placement.prefer(available, must, size)
    assert placement.prefer(available[::-1], must, size) == chosen, "from the cache"
    assert Placement(devices, topology).prefer(available[::-1], must[::-1], size)[len(must) :] == chosen[len(must) :]


@pytest.mark.parametrize("nodes", [[0] * 8 + [1] * 8, list(range(16))], ids=["two-classes", "all-alike"])
def test_sixteen_gpus_against_all_sets(nodes):
    devices, topology = whole(nodes, {(a, b): Link(10 if a // 4 == b // 4 else 50) for a, b in
                                      itertools.combinations(range(16), 2)})  # fmt: skip
    ids = [device.id for device in devices]
    available = [ids[at] for at in (0, 1, 2, 4, 5, 6, 7, 8, 9, 12, 13, 15)]
    chosen = Placement(devices, topology).prefer(available, [ids[5]], 6)
    best = max(score(devices, topology, each) for each in itertools.combinations(available, 6) if ids[5] in each)
    assert score(devices, topology, chosen) == best


@given(st.lists(numa_nodes, max_size=10), st.data())
def test_no_more_numa_nodes_than_need_be(nodes, data):
    devices, _ = whole(nodes)
    size = data.draw(st.integers(0, len(devices)))
    numa = {device.id: device.gpu.numa_node for device in devices}
    chosen = Placement(devices).prefer(list(numa), [], size)
    room, fewest = 0, 0
    for count in sorted((nodes.count(node) for node in set(nodes)), reverse=True):
        if room < size:
            room, fewest = room + count, fewest + 1
    assert len({numa[device] for device in chosen}) == fewest


def test_answers_are_kept_and_the_one_asked_longest_ago_goes_first(monkeypatch):
    monkeypatch.setattr(preference, "_CACHED", 2)
    devices, _ = whole([0, 0, 1])
    placement = Placement(devices)
    wiring, asked = placement._wired(), []
    best = wiring.best
    monkeypatch.setattr(wiring, "best", lambda offered, must: asked.append(sorted(offered)) or best(offered, must))
    for offered in ((0, 1), (0, 2), (0, 1), (1, 2), (0, 1), (0, 2)):
        placement.prefer([devices[at].id for at in offered], [], 1)
    assert asked == [[0, 1], [0, 2], [1, 2], [0, 2]]


NUMA = dict(zip("abcdef", (0, 0, 0, 1, 1, None), strict=True))


def letters(available, must, size):
    devices, _ = whole(list(NUMA.values()))
    name = dict(zip(NUMA, (device.id for device in devices), strict=True))
    letter = {device: each for each, device in name.items()}
    chosen = Placement(devices).prefer([name[e] for e in available], [name.get(e, e) for e in must], size)
    return "".join(letter[device] for device in chosen)


@pytest.mark.parametrize(
    ("available", "must", "size", "expected"),
    [
        pytest.param("abcde", "", 2, "de", id="the-tightest-node"),
        pytest.param("abcde", "a", 2, "ab", id="beside-what-must-be-included"),
        pytest.param("abcde", "d", 3, "dae", id="its-node-first-then-the-next"),
        pytest.param("abcde", "", 4, "abcd", id="the-fullest-node-first"),
        pytest.param("abf", "", 1, "f", id="devices-without-a-node-count-as-one"),
        pytest.param("abc", "cab", 3, "cab", id="nothing-to-choose"),
        pytest.param("", "", 0, "", id="nothing"),
    ],
)
def test_choices(available, must, size, expected):
    assert letters(available, must, size) == expected


@pytest.mark.parametrize(
    ("available", "must", "size", "message"),
    [
        pytest.param("ab", "x", 1, "must include x, which is not available", id="not-available"),
        pytest.param("ab", "ab", 1, "allocation of 1 cannot include 2 devices", id="too-small"),
        pytest.param("ab", "", 3, "allocation of 3 out of 2 available devices", id="too-large"),
    ],
)
def test_what_cannot_be_met(available, must, size, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        letters(available, must, size)


@st.composite
def shared_machines(draw):
    """Up to four GPUs with one to four replicas each, and a request."""
    replicas = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    devices = [
        AdvertisedDevice(f"{gpu(number).uuid}::{n}", gpu(number), None, n)
        for number, count in enumerate(replicas)
        for n in range(count)
    ]
    return devices, draw(requests(devices))


def loads(devices, available, chosen):
    """How many replicas of each GPU are taken afterwards, how many of them by this container, and before it."""
    uuid = {device.id: device.gpu.uuid for device in devices}
    total = [uuid[device] for device in uuid]
    before = {each: total.count(each) - sum(uuid[a] == each for a in available) for each in set(total)}
    mine = {each: sum(uuid[c] == each for c in chosen) for each in set(total)}
    return {each: before[each] + mine[each] for each in before}, mine, before


def sets(available, must, size):
    return [ids for ids in itertools.combinations(available, size) if set(must) <= set(ids)]


@given(shared_machines())
def test_distributed_makes_the_loads_as_even_as_they_can_be(case):
    devices, (available, must, size) = case
    chosen = Placement(devices).prefer(available, must, size)
    assert len(set(chosen)) == size
    assert set(must) <= set(chosen) <= set(available)

    def unevenness(ids):
        return sum(load**2 for load in loads(devices, available, ids)[0].values())

    assert unevenness(chosen) == min(unevenness(ids) for ids in sets(available, must, size))


@given(shared_machines())
def test_packed_opens_the_fewest_idle_gpus_then_uses_the_fewest(case):
    devices, (available, must, size) = case
    chosen = Placement(devices, policy="packed").prefer(available, must, size)
    assert len(set(chosen)) == size
    assert set(must) <= set(chosen) <= set(available)

    def cost(ids):
        _, mine, before = loads(devices, available, ids)
        return sum(bool(mine[e]) and not before[e] for e in mine), sum(bool(n) for n in mine.values())

    assert cost(chosen) == min(cost(ids) for ids in sets(available, must, size))


@given(shared_machines(), st.sampled_from(["distributed", "packed"]))
def test_distinct_gpus_are_found_whenever_there_are_any(case, policy):
    devices, (available, must, size) = case
    uuid = {device.id: device.gpu.uuid for device in devices}
    chosen = Placement(devices, policy=policy, distinct=True).prefer(available, must, size)
    assert len(set(chosen)) == size
    assert set(must) <= set(chosen) <= set(available)

    def distinct(ids):
        return len({uuid[device] for device in ids}) == size

    assert distinct(chosen) == any(distinct(ids) for ids in sets(available, must, size))


def split(number, *names):
    """MIG devices of one GPU."""
    return [
        AdvertisedDevice(name, gpu(number), MigDevice(at, name, "1g.10gb", at + 1, 0)) for at, name in enumerate(names)
    ]


def replicas(device, count):
    return [AdvertisedDevice(f"{device.uuid}::{n}", device.gpu, device.mig, n) for n in range(count)]


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [pytest.param("distributed", ["a", "d"], id="distributed"), pytest.param("packed", ["a", "b"], id="packed")],
)
def test_mig_devices_share_their_gpu(policy, chosen):
    devices = [*split(0, "a", "b", "c"), *split(1, "d", "e", "f")]
    assert Placement(devices, policy=policy).prefer([device.id for device in devices], [], 2) == chosen


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        pytest.param("distributed", ["a::0", "b::0"], id="distributed"),
        pytest.param("packed", ["a::0", "a::1"], id="packed"),
    ],
)
def test_replicas_of_a_mig_device_share_it(policy, chosen):
    devices = [replica for device in split(0, "a", "b") for replica in replicas(device, 2)]
    assert Placement(devices, policy=policy).prefer([device.id for device in devices], [], 2) == chosen


def test_two_replicas_of_an_idle_gpu_are_better_than_one_of_a_busy_one_unless_gpus_must_be_distinct():
    devices = [replica for number in (0, 1) for replica in replicas(AdvertisedDevice("", gpu(number)), 4)]
    ids = [device.id for device in devices]
    free = [*ids[:4], ids[7]]
    assert Placement(devices).prefer(free, [], 2) == ids[:2]
    assert Placement(devices, distinct=True).prefer(free, [], 2) == [ids[0], ids[7]]


@pytest.mark.parametrize(
    ("policy", "own", "free", "size", "expected"),
    [
        pytest.param("packed", [0, 0, 0], [4, 2, 3], 2, [0, 2, 0], id="packed-fits-tightly"),
        pytest.param("packed", [0, 0, 0], [4, 2, 3], 3, [0, 0, 3], id="packed-fits"),
        pytest.param("packed", [0, 0, 0], [4, 1, 2], 3, [0, 1, 2], id="packed-fills-gaps"),
        pytest.param("packed", [0, 0, 0], [3, 1, 2], 3, [3, 0, 0], id="packed-on-one-where-none-is-idle"),
        pytest.param("packed", [0, 0, 0], [2, 2, 3], 4, [1, 0, 3], id="packed-the-largest-first"),
        pytest.param("packed", [0, 0, 0], [4, 4, 1], 2, [2, 0, 0], id="packed-one-opened-and-no-other"),
        pytest.param("packed", [0, 0, 0, 0], [4, 4, 3, 1], 6, [3, 0, 3, 0], id="packed-beside-the-largest-gap"),
        pytest.param("packed", [0, 0, 0, 0], [4, 4, 3, 1], 8, [4, 0, 3, 1], id="packed-all-that-one-opened-needs"),
        pytest.param("packed", [0, 0, 0, 0], [4, 4, 3, 1], 9, [4, 2, 3, 0], id="packed-two-opened"),
        pytest.param("packed", [1, 0, 0], [3, 4, 2], 3, [3, 0, 0], id="packed-stays-where-it-is"),
        pytest.param("packed", [1, 0, 0], [1, 2, 4], 4, [2, 2, 0], id="packed-stays-and-fills"),
        pytest.param("packed", [1, 1, 0], [2, 3, 4], 5, [1, 4, 0], id="packed-stays-on-one-of-its-two"),
        pytest.param("distributed", [0, 0, 0], [4, 2, 3], 2, [2, 0, 0], id="even-the-least-loaded"),
        pytest.param("distributed", [0, 0, 0], [4, 2, 3], 4, [3, 0, 1], id="even-afterwards"),
        pytest.param("distributed", [0, 0, 0], [1, 2, 0], 3, [1, 2, 0], id="even-all-there-is"),
        pytest.param("distributed", [1, 0, 0], [3, 3, 2], 2, [1, 1, 0], id="even-on-another-among-equals"),
        pytest.param("packed distinct", [0, 0, 0], [4, 2, 3], 1, [0, 1, 0], id="distinct-the-busiest"),
        pytest.param("packed distinct", [0, 0, 0], [4, 2, 3], 2, [0, 1, 1], id="distinct-the-two-busiest"),
        pytest.param("packed distinct", [1, 0, 0], [3, 3, 2], 2, [1, 0, 1], id="distinct-from-its-own"),
        pytest.param("distributed distinct", [0, 0, 0], [4, 2, 3], 2, [1, 0, 1], id="distinct-the-two-idlest"),
        pytest.param("distributed distinct", [2, 0, 0], [2, 3, 3], 4, [2, 1, 1], id="distinct-no-more-as-it-shares"),
        pytest.param("packed distinct", [0, 0, 0], [4, 4, 0], 3, [3, 0, 0], id="distinct-cannot-be-had"),
    ],
)
def test_replicas_of_gpus(policy, own, free, size, expected):
    """GPUs of four replicas each: how many of each the container holds already, and how many more are free."""
    devices = [replica for number in range(len(free)) for replica in replicas(AdvertisedDevice("", gpu(number)), 4)]
    ids = [[device.id for device in devices if device.gpu == gpu(number)] for number in range(len(free))]
    must = [each for at, members in enumerate(ids) for each in members[: own[at]]]
    available = must + [each for at, members in enumerate(ids) for each in members[own[at] : own[at] + free[at]]]
    name, _, distinct = policy.partition(" ")
    chosen = Placement(devices, policy=name, distinct=bool(distinct)).prefer(available, must, size)
    assert [len(set(members) & set(chosen)) for members in ids] == expected
