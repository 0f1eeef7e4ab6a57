"""Settings that change while the daemon runs: the last valid ones are in force."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import grpc
import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from nvidia_devplugin.config import reload
from nvidia_devplugin.config.named_configs import ChoiceFile, Source
from nvidia_devplugin.config.reload import Reload
from nvidia_devplugin.config.settings import Config, ConfigError, load, parse, resolve
from nvidia_devplugin.config.table import SETTINGS
from nvidia_devplugin.control.server import ask
from nvidia_devplugin.devices.allocation import AllocationError, allocate
from nvidia_devplugin.devices.placement import Placement
from nvidia_devplugin.devices.resources import layout
from nvidia_devplugin.gpu_tracker import GpuTracker
from nvidia_devplugin.health.policy import Policy
from nvidia_devplugin.labels.feature_labels import Machine, Node, labels
from nvidia_devplugin.model import Inventory, XidEvent
from tests.unit.devplugin.strategies import gpu, gpus

GPU = "nvidia.com/gpu"
POLICY = Policy.from_text("", "")
SHARED = b"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 3}]}}"
RENAMED = b"resources: {gpus: [{pattern: '*', name: big}]}"
DISTINCT = SHARED + b"\nkubegpu: {distinctGpus: true}"
WRONG = b"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 1}]}}"

FILES = st.sampled_from(
    [b"", b"version: v1", SHARED, RENAMED, DISTINCT, b"flags: {migStrategy: mixed}", b"flags: {gdsEnabled: true}"]
) | st.sampled_from(
    [WRONG, b"version: v2", b"flags: [", b"\xff", b"sharing: {mps: {resources: [{name: a, replicas: 2}]}}"]
)
ANY_FILE = FILES | st.binary(max_size=60)


def understood(data: bytes) -> Config | None:
    try:
        return resolve(parse(data), {}, {})
    except ConfigError:
        return None


class Published:
    """A fleet that keeps what it was told."""

    def __init__(self) -> None:
        self.resources = ()

    def publish(self, resources, faults, topology) -> None:
        self.resources = tuple(resources)

    @property
    def named(self):
        return {resource.name: [device.id for device in resource.devices] for resource in self.resources}


@given(st.lists(ANY_FILE | st.none(), max_size=8), gpus.map(lambda some: some or (gpu(0),)))
@settings(deadline=None)
def test_whatever_the_file_becomes_the_last_right_one_is_in_force(tmp_path_factory, sequence, some):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_bytes(b"")
    config = load({"config_file": str(path)}, {})
    fleet = Published()
    devices = GpuTracker(config, fleet, POLICY)
    devices.apply(Inventory("1", tuple(some)))
    follow = Reload(
        Source(path), partial(resolve, env={}, flags={}), lambda new: devices.reconfigure(new, POLICY), config
    )
    follow.start()
    last = understood(b"")
    for data in sequence:
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)
        follow.reload()
        right = None if data is None else understood(data)
        assert (follow.refused is None) == (right is not None)
        last = right or last
        assert fleet.named == {
            resource.name: [device.id for device in resource.devices] for resource in layout(some, last.rules).resources
        }


WORDS = st.sampled_from(
    [
        "gpu",
        "nvidia.com/gpu",
        "*",
        "*H*",
        "GPU-00000000",
        "all",
        "packed",
        "single",
        "mixed",
        "index",
        "cdi-cri",
        "x.io/y",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-1, 9) | st.floats() | WORDS
# the same names stand at many places: a tree of them is often nearly right
KEYS = st.sampled_from(sorted({word for setting in SETTINGS if setting.path for word in setting.path.split(".")} | {
    *("sharing", "timeSlicing", "resources", "gpus", "mig", "replicas", "name", "rename", "pattern", "devices"),
    *("kubegpu", "include", "exclude", "distinctGpus", "health", "xids", "quietPeriod", "renameByDefault"),
}))  # fmt: skip
TREES = st.recursive(
    LEAVES, lambda sub: st.lists(sub, max_size=3) | st.dictionaries(KEYS, sub, max_size=4), max_leaves=12
)
SHARING = st.fixed_dictionaries(
    {"name": WORDS, "replicas": st.integers(1, 9)}, optional={"rename": WORDS, "devices": LEAVES | st.lists(LEAVES)}
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "flags": st.fixed_dictionaries(
            {},
            optional={
                "migStrategy": WORDS,
                "plugin": st.dictionaries(KEYS, LEAVES, max_size=2),
                "gfd": st.dictionaries(KEYS, LEAVES, max_size=2),
            },
        ),
        "resources": st.fixed_dictionaries(
            {}, optional={"gpus": st.lists(st.fixed_dictionaries({"pattern": WORDS, "name": WORDS}), max_size=3)}
        ),
        "sharing": st.fixed_dictionaries(
            {"timeSlicing": st.fixed_dictionaries({"resources": st.lists(SHARING, max_size=3)})}
        ),
        "kubegpu": st.fixed_dictionaries(
            {"distinctGpus": st.booleans()}, optional={"gpus": st.dictionaries(KEYS, st.lists(LEAVES), max_size=2)}
        ),
        "imex": TREES,
    },
)


@given(st.lists(st.binary(max_size=200) | (TREES | NEARLY).map(lambda tree: yaml.safe_dump(tree).encode()), max_size=6))
@settings(deadline=None)
def test_whatever_the_file_says_the_daemon_goes_on_and_answers(tmp_path_factory, sequence):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_bytes(b"")
    config = load({"config_file": str(path)}, {})
    fleet = Published()
    machine = (gpu(0), gpu(1))
    devices = GpuTracker(config, fleet, POLICY)
    devices.apply(Inventory("1", machine))
    taken = [config]

    def take(new: Config) -> None:
        taken.append(new)
        policy = Policy.from_text("", "", dict(new.xid_severities), frozenset(new.faults_ignored))
        devices.reconfigure(new, policy)

    follow = Reload(Source(path), partial(resolve, env={}, flags={}), take, config)
    for data in sequence:
        path.write_bytes(data)
        follow.reload()
        event("in force" if follow.refused is None else "refused")
        devices.apply(XidEvent(machine[0].uuid, 79))
        labels(Node(machine, "1", None, Machine(), None), taken[-1].rules)
        for resource in fleet.resources:
            offered = {device.id: device for device in resource.devices}
            with contextlib.suppress(AllocationError):
                allocate(list(offered)[:2], offered, {}, taken[-1], lambda _path: True, resource.single_requests)
            placement = Placement(resource.devices, None, taken[-1].shared_policy, taken[-1].distinct_gpus)
            assert len(placement.prefer(list(offered), (), min(2, len(offered)))) == min(2, len(offered))


class Directory:
    """A volume of a ConfigMap: the kubelet writes the new content aside and puts one link in the place of another."""

    def __init__(self, path: Path, **files: bytes) -> None:
        self.path = path
        self._generation = 0
        self.swap(**files)

    def swap(self, **files: bytes) -> None:
        self._generation += 1
        real = self.path / f"..{self._generation}"
        real.mkdir()
        for name, data in files.items():
            (real / name).write_bytes(data)
        (self.path / "..new").symlink_to(real.name)
        (self.path / "..new").replace(self.path / "..data")
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        for entry in list(self.path.iterdir()):
            if entry.is_symlink() and not entry.exists():
                entry.unlink()


LABELS = st.sampled_from(["", "default", "a", "b", "none"])


@given(
    st.lists(
        st.tuples(st.just("label"), LABELS)
        | st.tuples(st.just("files"), st.dictionaries(st.sampled_from(["default", "a", "b"]), FILES, max_size=3))
        | st.tuples(st.just("restart"), st.none()),
        max_size=10,
    )
)
@settings(deadline=None)
def test_named_configs_follow_label_and_files_and_outlive_a_restart(tmp_path_factory, steps):
    where = tmp_path_factory.mktemp("configs")
    memory = tmp_path_factory.mktemp("nvidia.d")
    volume = Directory(where, default=b"")
    source = Source(None, where, "", ("named",))
    taken: list[Config] = []

    def begin() -> Reload:
        made = Reload(source, partial(resolve, env={}, flags={}), taken.append, None, ChoiceFile(memory))
        made.start()
        return made

    follow = begin()
    assert follow.problem, "nothing is known, so nothing is in force"
    assert follow.choose("") == "default"
    files, label, last = {"default": b""}, "", understood(b"")
    for what, value in steps:
        if what == "label":
            label = value
            with contextlib.suppress(ValueError):
                follow.choose(label)
        elif what == "files":
            files = value
            volume.swap(**files)
            follow.reload()
        else:
            taken.clear()
            follow = begin()
        name = label or "default"
        right = understood(files[name]) if name in files else None
        assert (follow.refused is None) == (right is not None)
        last = right or last
        assert follow.problem is None
        assert taken[-1] == last
        if right is not None:
            assert follow.state == {"name": name, "refused": None}


def following(path: Path, taken: list[Config], **files: bytes) -> tuple[Directory, Reload]:
    volume = Directory(path, **files)
    return volume, Reload(Source(None, path, "", ("named",)), partial(resolve, env={}, flags={}), taken.append)


def test_a_refusal_is_said_once_and_answered_each_time(tmp_path, caplog):
    taken: list[Config] = []
    volume, follow = following(tmp_path, taken, default=b"", shared=WRONG)
    changes: list[str | None] = []
    follow._changed = lambda: changes.append(follow.refused)
    follow.choose("")
    for _time in range(3):
        with pytest.raises(ValueError, match=r"config shared: .*resources\[0\]\.replicas: 1 is not >= 2"):
            follow.choose("shared")
    assert [entry.message for entry in caplog.records].count("config_refused") == 1
    assert (follow.name, len(taken)) == ("default", 1)
    volume.swap(default=b"", shared=SHARED)
    assert follow.choose("shared") == "shared"
    assert taken[-1].rules.shared[0].replicas == 3
    assert changes[1:] == [None], "the agent is told of both, once"
    assert "1 is not >= 2" in str(changes[0])


def test_nothing_is_in_force_until_a_config_was_right(tmp_path):
    taken: list[Config] = []
    volume, follow = following(tmp_path, taken, default=WRONG)
    with pytest.raises(ValueError, match="config default: "):
        follow.choose("")
    assert not taken
    assert follow.name is None
    assert "1 is not >= 2" in str(follow.problem)
    volume.swap(default=SHARED)
    follow.reload()
    assert (follow.problem, follow.state) == (None, {"name": "default", "refused": None})
    assert len(taken) == 1


def test_what_concerns_the_start_alone_is_named(tmp_path, caplog):
    _volume, follow = following(tmp_path, [], default=b"", other=b"flags: {failOnInitError: false, mpsRoot: /x}")
    follow.choose("")
    follow.choose("other")
    late, inert = (
        next(e for e in caplog.records if e.message == f"settings_{w}")
        for w in ("for_the_next_start", "without_effect")
    )
    assert late.fields == {"settings": "flags.failOnInitError"}
    assert inert.fields == {"settings": "flags.mpsRoot"}


def test_a_daemon_with_one_file_lets_nobody_choose(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    follow = Reload(Source(tmp_path / "config.yaml"), partial(resolve, env={}, flags={}), lambda _new: None, Config())
    with pytest.raises(ValueError, match="follows one file"):
        follow.choose("a")


async def test_a_directory_that_comes_later_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(reload, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(reload, "LABEL_SECONDS", 0.05)
    taken: list[Config] = []
    happened = asyncio.Event()

    def take(config: Config) -> None:
        taken.append(config)
        happened.set()

    where = tmp_path / "later"
    follow = Reload(Source(None, where, "", ("named",)), partial(resolve, env={}, flags={}), take)
    task = asyncio.create_task(follow.run())
    while follow.refused is None:
        await asyncio.sleep(0.01)
    assert "No such file" in str(follow.problem)
    where.mkdir()
    Directory(where, default=SHARED)
    await asyncio.wait_for(happened.wait(), 30)
    assert (follow.name, follow.refused) == ("default", None)
    task.cancel()


@pytest.fixture
async def polled(tmp_path, monkeypatch):
    """A config file, the Reload that polls it, the configs that came into force, and the contents that were parsed."""
    monkeypatch.setattr(reload, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(reload, "_SETTLE_SECONDS", 0.01)
    path = tmp_path / "config.yaml"
    path.write_bytes(b"")
    applied: list[Config] = []
    parsed: list[object] = []

    def resolve_counted(raw) -> Config:
        parsed.append(raw)
        return resolve(raw, env={}, flags={})

    follow = Reload(Source(path), resolve_counted, applied.append, resolve({}, env={}, flags={}))
    follow.start()
    task = asyncio.create_task(follow.run())
    yield path, follow, applied, parsed
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def eventually(condition) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), 30)


async def test_a_refused_file_is_parsed_once_and_followed_on(polled):
    path, follow, applied, parsed = polled
    path.write_bytes(WRONG)
    await eventually(lambda: follow.refused)
    before = len(parsed)
    await asyncio.sleep(0.2)
    assert len(parsed) == before, "each poll would cost the parsing of a file of up to a MiB"
    path.unlink()
    await eventually(lambda: "No such file" in str(follow.refused))
    path.write_bytes(WRONG)
    await eventually(lambda: "1 is not >= 2" in str(follow.refused))
    path.write_bytes(b"")
    await eventually(lambda: follow.refused is None)
    path.write_bytes(SHARED)
    await eventually(lambda: len(applied) == 1)
    assert applied[0].rules.shared[0].replicas == 3


async def test_a_file_is_read_at_once_when_asked(polled, monkeypatch):
    path, follow, applied, _parsed = polled
    monkeypatch.setattr(reload, "POLL_SECONDS", 3600.0)
    await asyncio.sleep(0.05)
    path.write_bytes(SHARED)
    await asyncio.sleep(0.05)
    assert not applied
    follow.reload()
    assert len(applied) == 1


def test_nothing_is_chosen_before_the_label_is_known(tmp_path):
    taken: list[Config] = []
    _volume, follow = following(tmp_path, taken, default=b"", other=SHARED)
    follow.reload()
    assert not taken
    assert follow.refused is None
    assert "waiting to learn" in str(follow.problem)


# the daemon as a process


def amount(number):
    return lambda devices: len(devices) == number


async def tell(kubelet, line: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(None, ask, kubelet.directory / "nvidia.d", line)


async def test_a_file_that_changes_is_followed_without_a_restart(kubelet, start, tmp_path):
    (tmp_path / "config").mkdir()
    volume = Directory(tmp_path / "config", **{"config.yaml": b""})
    await kubelet.start()
    daemon = await start("--config-file", str(tmp_path / "config/config.yaml"))
    first, second = await kubelet.devices(GPU)
    volume.swap(**{"config.yaml": DISTINCT})
    await kubelet.devices(GPU, amount(6))
    with pytest.raises(grpc.aio.AioRpcError, match="no container two devices of one GPU"):
        await kubelet.allocate(GPU, f"{first}::0", f"{first}::1")
    volume.swap(**{"config.yaml": WRONG})
    refused = await daemon.logged("config_refused")
    assert "sharing.timeSlicing.resources[0].replicas: 1 is not >= 2" in refused["reason"]
    assert len(await kubelet.devices(GPU)) == 6
    volume.swap(**{"config.yaml": b"flags: {plugin: {deviceIDStrategy: index}}\n" + RENAMED})
    await kubelet.devices("nvidia.com/big", amount(2))
    await kubelet.withdrawn(GPU)
    answer = await kubelet.allocate("nvidia.com/big", second)
    assert dict(answer.envs) == {"NVIDIA_VISIBLE_DEVICES": "1"}
    (tmp_path / "config/config.yaml").unlink()
    (tmp_path / "config/config.yaml").write_bytes(b"")  # and by hand, in place
    await kubelet.devices(GPU, amount(2))
    page = (await daemon.get("/metrics"))[1]
    assert 'nvidia_devplugin_config_changes_total{outcome="refused"} 1' in page
    assert "nvidia_devplugin_config_refused 0" in page
    assert daemon.process.returncode is None
    assert not any("Traceback" in line for line in daemon.lines)


async def test_the_nodes_label_chooses_and_is_remembered(kubelet, start, tmp_path):
    where = tmp_path / "configs"
    where.mkdir()
    volume = Directory(where, default=b"", shared=SHARED, wrong=WRONG)
    await kubelet.start()
    flags = ("--config-file-srcdir", str(where))
    daemon = await start(*flags)
    await daemon.logged("gpu_found")
    status, why = await daemon.get("/readyz")
    assert status == 503
    assert "waiting to learn which config" in why
    assert not kubelet.registrations, "under which name is not known yet"
    assert await tell(kubelet, "config shared") == "shared"
    await kubelet.devices(GPU, amount(6))
    with pytest.raises(ValueError, match=r"config wrong: .* 1 is not >= 2"):
        await tell(kubelet, "config wrong")
    assert len(await kubelet.devices(GPU)) == 6
    volume.swap(default=b"", shared=SHARED, wrong=RENAMED)  # put right
    await kubelet.devices("nvidia.com/big", amount(2))
    assert await daemon.terminate() == 0
    volume.swap(default=b"", shared=SHARED, wrong=WRONG)
    # Nobody has told the next one anything yet, and what was chosen has gone wrong meanwhile.
    before = len(kubelet.registrations)
    again = await start(*flags)
    await kubelet.registered(before + 1)
    await again.logged("config_refused")
    assert [one.resource_name for one in kubelet.registrations[before:]] == ["nvidia.com/big"]
    assert await tell(kubelet, "config") == "default"
    await kubelet.devices(GPU, amount(2))
    assert not any("Traceback" in line for line in daemon.lines + again.lines)


async def test_without_a_word_the_default_applies(kubelet, start, tmp_path):
    where = tmp_path / "configs"
    where.mkdir()
    Directory(where, one=b"", two=SHARED)
    await kubelet.start()
    daemon = await start("--config-file-srcdir", str(where), env={"DEFAULT_CONFIG": "two"})
    await kubelet.devices(GPU, amount(6))
    await daemon.logged("config_label_unknown")
