"""From GPUs and settings to what is advertised: NVIDIA's rules in a table, and what must hold for any machine."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.config.resource_rules import matches
from nvidia_devplugin.config.settings import parse, resolve
from nvidia_devplugin.devices.allocation import REQUIRED_NODES, AllocationError, TooManyError, allocate
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.health.state import HealthState, update
from nvidia_devplugin.model import Inventory, MigDevice, XidEvent, fault_of
from nvidia_devplugin.nvml.mig import capability_minors, profile_name
from tests.unit.devplugin.strategies import gpu


def split(index, *profiles, **more):
    """A GPU with MIG on and an instance of each profile."""
    mig = tuple(
        MigDevice(at, f"MIG-{index:04x}-{at}", profile, gi=at + 1, ci=0, capabilities=(10 + at, 20 + at))
        for at, profile in enumerate(profiles)
    )
    return replace(gpu(index), mig_enabled=True, mig=mig, **more)


def config(text):
    return resolve(parse(text.encode()), {}, {})


def advertised(gpus, text=""):
    """Ids by resource, and the problems."""
    made = layout(gpus, config(text).rules)
    return {r.name: [device.id for device in r.devices] for r in made.resources}, made.problems


G0, G1, G2 = (gpu(index).uuid for index in range(3))
M = {f"{i}{j}": f"MIG-{i:04x}-{j}" for i in range(3) for j in range(3)}
GPU = "nvidia.com/gpu"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
TWO = (gpu(0), gpu(1))
MIXED = (gpu(0), split(1, "3g.40gb", "1g.10gb", "1g.10gb"))
UNIFORM = (split(0, "1g.10gb", "1g.10gb"), split(1, "1g.10gb"))


def strategy(name):
    return f"flags: {{migStrategy: {name}}}"


def slicing(entry, more=""):
    return f"sharing: {{timeSlicing: {{{more} resources: [{entry}]}}}}"


@pytest.mark.parametrize(
    ("gpus", "text", "expected"),
    [
        pytest.param(TWO, "", {GPU: [G0, G1]}, id="defaults"),
        pytest.param(MIXED, "", {GPU: [G0, G1]}, id="strategy-none-does-not-look-at-mig"),
        pytest.param(MIXED, strategy("mixed"), {GPU: [G0], LARGE: [M["10"]], SMALL: [M["11"], M["12"]]}, id="mixed"),
        pytest.param(TWO, strategy("mixed"), {GPU: [G0, G1]}, id="mixed-without-mig"),
        pytest.param(UNIFORM, strategy("single"), {GPU: [M["00"], M["01"], M["10"]]}, id="single"),
        pytest.param(TWO, strategy("single"), {GPU: [G0, G1]}, id="single-without-mig"),
        pytest.param([split(0, "1g.10gb+me")], strategy("mixed"), {f"{SMALL}.me": [M["00"]]}, id="media-extensions"),
        pytest.param([split(0, "1c.3g.40gb")], strategy("mixed"), {"nvidia.com/mig-1c.3g.40gb": [M["00"]]}, id="part"),
        pytest.param(TWO, slicing("{name: nvidia.com/gpu, replicas: 2}"),
                     {GPU: [f"{G0}::0", f"{G0}::1", f"{G1}::0", f"{G1}::1"]}, id="slicing"),
        pytest.param(TWO, slicing("{name: nvidia.com/gpu, replicas: 2, devices: 1}", "renameByDefault: true,"),
                     {GPU: [G1], f"{GPU}.shared": [f"{G0}::0", f"{G0}::1"]}, id="slicing-a-count-renamed"),
        pytest.param(TWO, slicing("{name: nvidia.com/gpu, replicas: 2, devices: 2}"),
                     {GPU: [f"{G0}::0", f"{G0}::1", f"{G1}::0", f"{G1}::1"]}, id="slicing-a-count-that-is-all"),
        pytest.param(TWO, slicing(f"{{name: gpu, rename: half, replicas: 2, devices: [{G1}]}}"),
                     {GPU: [G0], "nvidia.com/half": [f"{G1}::0", f"{G1}::1"]}, id="slicing-a-list-renamed"),
        pytest.param(TWO, slicing("{name: gpu, replicas: 2, devices: [0]}, {name: gpu, replicas: 3, devices: [1]}"),
                     {GPU: [f"{G0}::0", f"{G0}::1", f"{G1}::0", f"{G1}::1", f"{G1}::2"]}, id="replicas-for-each-gpu"),
        pytest.param(MIXED, strategy("mixed") + "\n" + slicing("{name: nvidia.com/mig-1g.10gb, replicas: 2}"),
                     {GPU: [G0], LARGE: [M["10"]], SMALL: [f"{M[x]}::{n}" for x in ("11", "12") for n in (0, 1)]},
                     id="slicing-mig"),
        pytest.param(MIXED, strategy("mixed") + "\n" + slicing("{name: mig-1g.10gb, replicas: 2, devices: ['1:2']}"),
                     {GPU: [G0], LARGE: [M["10"]], SMALL: [M["11"], f"{M['12']}::0", f"{M['12']}::1"]},
                     id="slicing-one-mig-device"),
        pytest.param(TWO, "resources: {gpus: [{pattern: '*A100*', name: a100}, {pattern: '*H100*', name: x.y/h100}]}",
                     {"x.y/h100": [G0, G1]}, id="renamed-by-model"),
        pytest.param(TWO, "resources: {gpus: [{pattern: 'H100', name: h100}]}", {GPU: [G0, G1]}, id="no-pattern-fits"),
        pytest.param(MIXED, strategy("mixed") + "\nresources: {mig: [{pattern: '1g.*', name: tiny}]}",
                     {GPU: [G0], LARGE: [M["10"]], "nvidia.com/tiny": [M["11"], M["12"]]}, id="renamed-by-profile"),
        pytest.param(TWO, "resources: {gpus: [{pattern: '*', name: h}]}\n" + slicing("{name: h, replicas: 2}"),
                     {"nvidia.com/h": [f"{G0}::0", f"{G0}::1", f"{G1}::0", f"{G1}::1"]}, id="renamed-then-shared"),
        pytest.param(TWO, "kubegpu: {gpus: {include: [1]}}", {GPU: [G1]}, id="by-index"),
        pytest.param(TWO, f"kubegpu: {{gpus: {{include: [{G0}]}}}}", {GPU: [G0]}, id="by-uuid"),
        pytest.param(TWO, "kubegpu: {gpus: {include: ['*H100*'], exclude: [0]}}", {GPU: [G1]}, id="model-and-not"),
        pytest.param((), "", {GPU: []}, id="nothing"),
        pytest.param((), slicing("{name: gpu, replicas: 2}", "renameByDefault: true,"), {f"{GPU}.shared": []},
                     id="nothing-shared"),
    ],
)  # fmt: skip
def test_what_is_advertised(gpus, text, expected):
    assert advertised(gpus, text) == (expected, ())


@pytest.mark.parametrize(
    ("gpus", "text", "expected", "problem"),
    [
        pytest.param(MIXED, strategy("single"), {GPU: []}, "MIG is enabled on some GPUs but not on GPU 0", id="some"),
        pytest.param([MIXED[1]], strategy("single"), {GPU: []}, "several profiles (1g.10gb, 3g.40gb)", id="profiles"),
        pytest.param([split(0)], strategy("single"), {GPU: []}, "GPU 0 has MIG enabled and no MIG devices", id="empty"),
        pytest.param([gpu(0), split(1)], strategy("mixed"), {GPU: [G0]}, "GPU 1 has MIG enabled and no", id="mixed"),
        pytest.param(TWO, "kubegpu: {gpus: {include: [7]}}", {GPU: []}, "selects none", id="selects-none"),
        pytest.param(TWO, slicing("{name: gpu, replicas: 2, devices: [5, 1]}"), {GPU: [G0, f"{G1}::0", f"{G1}::1"]},
                     "sharing of nvidia.com/gpu: no device 5", id="no-such-device"),
        pytest.param([gpu(0)], slicing("{name: gpu, replicas: 2, devices: 3}"), {GPU: [f"{G0}::0", f"{G0}::1"]},
                     "3 devices wanted, 1 there", id="too-few"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_nothing_wrong_is_advertised(gpus, text, expected, problem):
    got, problems = advertised(gpus, text)
    assert got == expected
    assert len(problems) == 1
    assert problem in problems[0]


PROFILES = st.lists(st.sampled_from(["1g.10gb", "2g.20gb", "3g.40gb"]), max_size=7)
MACHINES = st.lists(st.one_of(st.none(), PROFILES), max_size=16).map(
    lambda all_: tuple(gpu(i) if profiles is None else split(i, *profiles) for i, profiles in enumerate(all_))
)
TEXTS = st.builds(
    lambda mig, n, rename, devices: (
        strategy(mig)
        + "\n"
        + slicing(f"{{name: gpu, replicas: {n}, devices: {devices}}}", f"renameByDefault: {rename},")
    ),
    st.sampled_from(["none", "single", "mixed"]),
    st.integers(2, 100),
    st.sampled_from(["true", "false"]),
    st.sampled_from(["all", "1", "[0, 3]"]),
)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_a_pattern_matches_as_a_regular_expression_would(pattern, name):
    assert matches(pattern, name) == bool(re.fullmatch(pattern.replace("*", ".*"), name))


def test_a_pattern_of_many_stars_is_no_work():
    assert not matches("*a" * 200 + "b", "a" * 250)
    assert matches("*a" * 200, "a" * 250)


@given(MACHINES, TEXTS)
def test_whatever_the_machine_no_id_stands_twice_and_all_fit_the_kubelet(gpus, text):
    made = layout(gpus, config(text).rules)
    devices = [device for resource in made.resources for device in resource.devices]
    assert len({device.id for device in devices}) == len(devices)
    assert all(len(device.id) <= 63 for device in devices)
    assert len({resource.name for resource in made.resources}) == len(made.resources)
    if "migStrategy: none" not in text:
        assert all(device.mig or not device.gpu.mig_enabled for device in devices), "no GPU whole and split at once"
    if "single" not in text:
        whole = sum(1 if "none" in text or not g.mig_enabled else len(g.mig) for g in gpus)
        assert len({device.uuid for device in devices}) == whole, "nothing is left out"


@given(MACHINES, st.integers(0, 15), st.one_of(st.none(), st.integers(1, 7)))
def test_an_event_reaches_the_instance_that_it_names_or_all(gpus, index, gi):
    state = update(HealthState(), Policy.from_text(), Inventory("550", gpus))
    state = update(state, Policy.from_text(), XidEvent(gpu(index).uuid, 79, gi, 0 if gi else None))
    resources = layout(gpus, config(strategy("mixed")).rules).resources
    for device in (device for resource in resources for device in resource.devices):
        on_it = device.gpu.index == index
        named = gi is not None and any(mig.gi == gi for mig in device.gpu.mig)
        hit = on_it and (not named or device.mig is None or device.mig.gi == gi)
        assert (fault_of(device, state.faults()) is not None) == hit


def given_to(gpus, text, *ids, exists=lambda _: True):
    """What a container gets that was given `ids`."""
    settings = config(text)
    resource = next(r for r in layout(gpus, settings.rules).resources if ids[0] in {d.id for d in r.devices})
    devices = {device.id: device for device in resource.devices}
    return allocate(ids, devices, {}, settings, exists, resource.single_requests)


def plugin(*settings):
    return f"flags: {{migStrategy: mixed, plugin: {{{', '.join(settings)}}}}}"


def test_mig_devices_by_uuid_and_index_and_with_their_capabilities():
    assert given_to(MIXED, plugin(), M["11"]).envs == {"NVIDIA_VISIBLE_DEVICES": M["11"]}
    assert given_to(MIXED, plugin("deviceIDStrategy: index"), M["11"]).envs == {"NVIDIA_VISIBLE_DEVICES": "1:1"}
    nodes = given_to(MIXED, plugin("passDeviceSpecs: true"), M["11"], exists=REQUIRED_NODES.__contains__).device_nodes
    assert [node.container_path for node in nodes] == [
        *REQUIRED_NODES, "/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap11", "/dev/nvidia-caps/nvidia-cap21",
    ]  # fmt: skip


def test_a_mig_device_whose_capabilities_are_not_known_is_refused():
    unknown = [replace(each, mig=tuple(replace(mig, capabilities=()) for mig in each.mig)) for each in MIXED]
    assert given_to(unknown, plugin(), M["11"]).device_nodes == ()
    with pytest.raises(AllocationError, match=r"capabilities of MIG device 1:1 are not known: .*mig-minors"):
        given_to(unknown, plugin("passDeviceSpecs: true"), M["11"])


def test_replicas_of_one_gpu_are_one_gpu_to_the_container():
    got = given_to(TWO, slicing("{name: gpu, replicas: 4}"), f"{G0}::3", f"{G0}::1", f"{G1}::0")
    assert got.envs == {"NVIDIA_VISIBLE_DEVICES": f"{G0},{G1}"}


def test_more_than_one_shared_device_is_refused_where_that_was_asked_for():
    text = slicing("{name: gpu, replicas: 4}", "failRequestsGreaterThanOne: true,")
    given_to(TWO, text, f"{G0}::3")
    with pytest.raises(TooManyError, match=r"2 shared devices requested: .*failRequestsGreaterThanOne"):
        given_to(TWO, text, f"{G0}::3", f"{G1}::0")
    whole = [gpu(0), split(1, "1g.10gb", "1g.10gb")]
    given_to(whole, strategy("mixed") + "\n" + text, M["10"], M["11"])


def test_two_slices_of_one_gpu_are_refused_where_gpus_must_be_distinct():
    text = slicing("{name: gpu, replicas: 4}") + "\nkubegpu: {distinctGpus: true}"
    given_to(TWO, text, f"{G0}::3", f"{G1}::0")
    with pytest.raises(TooManyError, match=rf"{G0}::3, {G0}::1 are on GPU 0: .*kubegpu.distinctGpus"):
        given_to(TWO, text, f"{G0}::3", f"{G0}::1", f"{G1}::2")


EVERYTHING = """
flags: {gdsEnabled: true, mofedEnabled: true, gdrcopyEnabled: true, plugin: {deviceListStrategy: %s}}
imex: {channelIDs: [0, 3]}
"""
EXTRAS = {"NVIDIA_GDRCOPY": "enabled", "NVIDIA_GDS": "enabled", "NVIDIA_MOFED": "enabled"}
CDI = (f"nvidia.com/gpu={G0}", "nvidia.com/imex-channel=0", "nvidia.com/imex-channel=3",
       "nvidia.com/gdrcopy=all", "nvidia.com/gds=all", "nvidia.com/mofed=all")  # fmt: skip
MOUNTED = "/var/run/nvidia-container-devices"


@pytest.mark.parametrize(
    ("strategies", "envs", "mounts", "annotated", "cdi"),
    [
        pytest.param("envvar", {"NVIDIA_VISIBLE_DEVICES": G0, "NVIDIA_IMEX_CHANNELS": "0,3", **EXTRAS}, [], False, (),
                     id="envvar"),
        pytest.param("volume-mounts", {"NVIDIA_VISIBLE_DEVICES": MOUNTED, **EXTRAS}, [G0, "imex/0", "imex/3"], False,
                     (), id="volume-mounts"),
        pytest.param("cdi-annotations", {}, [], True, (), id="cdi-annotations"),
        pytest.param("cdi-cri", {}, [], False, CDI, id="cdi-cri"),
        pytest.param("[envvar, cdi-annotations, cdi-cri]",
                     {"NVIDIA_VISIBLE_DEVICES": G0, "NVIDIA_IMEX_CHANNELS": "0,3", **EXTRAS}, [], True, CDI, id="all"),
    ],
)  # fmt: skip
def test_each_way_to_tell_the_runtime(strategies, envs, mounts, annotated, cdi):
    got = given_to(TWO, EVERYTHING % strategies, G0)
    assert got.envs == envs
    assert [(m.container_path, m.host_path) for m in got.mounts] == [(f"{MOUNTED}/{m}", "/dev/null") for m in mounts]
    assert got.cdi_devices == cdi
    assert list(got.annotations.values()) == ([",".join(CDI)] if annotated else [])
    assert all(key.startswith("cdi.k8s.io/nvidia-device-plugin_") and len(key) <= 74 for key in got.annotations)


def test_imex_channels_that_do_not_exist_are_left_out_or_refused():
    text = "imex: {channelIDs: [0], required: %s}"
    assert "NVIDIA_IMEX_CHANNELS" not in given_to(TWO, text % "false", G0, exists=lambda _: False).envs
    with pytest.raises(Exception, match=r"IMEX channel 0 is required"):
        given_to(TWO, text % "true", G0, exists=lambda _: False)


@pytest.mark.parametrize(
    ("name", "gi", "ci", "memory_gib", "total_gib", "expected"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", 1, 1, 9.75, 79.6, "1g.10gb+me"),
        ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", 3, 1, 39.5, 79.6, "1c.3g.40gb"),
        ("NVIDIA A100-SXM4-40GB", 1, 1, 4.75, 39.5, "1g.5gb"),
        ("NVIDIA A100-SXM4-80GB", 3, 1, 39.25, 79.2, "1c.3g.40gb"),
        ("NVIDIA A30", 1, 1, 5.75, 23.5, "1g.6gb"),
    ],
)
def test_profiles(name, gi, ci, memory_gib, total_gib, expected):
    assert profile_name(name, gi, ci, int(memory_gib * 2**30), int(total_gib * 2**30)) == expected


def test_capability_minors():
    text = "config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci0/access 4\ngarbage\n"
    assert capability_minors(text) == {"gpu0/gi0/access": 3, "gpu0/gi0/ci0/access": 4}


@given(st.text(), st.text(), st.text())
def test_a_star_matches_anything(before, between, after):
    assert matches("*", before)
    plain = [part.replace("*", "") for part in (before, after)]
    assert matches("*".join(plain), between.join(plain))
