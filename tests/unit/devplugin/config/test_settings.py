from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin import __main__, __version__
from nvidia_devplugin.config.resource_rules import Shared
from nvidia_devplugin.config.settings import Config, ConfigError, load, parse, resolve
from nvidia_devplugin.config.table import SETTINGS

NVIDIA_EXAMPLE = b"""
version: v1
flags:
  migStrategy: "none"
  failOnInitError: true
  nvidiaDriverRoot: "/"
  plugin:
    passDeviceSpecs: false
    deviceListStrategy: "envvar"
    deviceIDStrategy: "uuid"
  gfd:
    oneshot: false
    noTimestamp: false
    outputFile: /etc/kubernetes/node-feature-discovery/features.d/gfd
    sleepInterval: 60s
"""


def settings(text: str | bytes = "", env=None, **flags: str) -> Config:
    data = text if isinstance(text, bytes) else text.encode()
    return resolve(parse(data), env or {}, flags)


def test_a_file_written_for_nvidias_plugin_works():
    config = settings(NVIDIA_EXAMPLE)
    assert config == Config(
        inert=("flags.gfd.outputFile",),
    )


def test_an_empty_file_means_the_defaults():
    assert settings("") == settings("version: v1") == settings("flags:\nsharing: null\n") == settings("{}")


def test_the_default_is_to_fail_on_a_missing_driver():
    assert settings().fail_on_init_error is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "flags: {migStrategi: none}", "flags.migStrategi: unknown key; did you mean flags.mig", id="unknown"
        ),
        pytest.param("flag: {}", "flag: unknown key; did you mean flags", id="unknown-at-the-top"),
        pytest.param("flags: {plugin: {1: x}}", "flags.plugin.1: unknown key", id="key-is-a-number"),
        pytest.param("[]", "the file: a list is not a mapping", id="a-list"),
        pytest.param("flags: yes", "flags: the boolean true is not a mapping", id="not-a-mapping"),
        pytest.param("version: v2", "version: the string 'v2' is not one of v1", id="version"),
        pytest.param(
            "flags: {failOnInitError: 'true'}",
            "flags.failOnInitError: the string 'true' is not a boolean",
            id="string-for-boolean",
        ),
        pytest.param(
            "flags: {migStrategy: 1}", "flags.migStrategy: the number 1 is not one of none, single, mixed", id="number"
        ),
        pytest.param(
            "flags: {plugin: {deviceListStrategy: [envvar, cdi]}}",
            r"flags.plugin.deviceListStrategy\[1\]: the string 'cdi' is not one of envvar, volume-mounts",
            id="list-element",
        ),
        pytest.param(
            "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 0}]}}",
            r"sharing.timeSlicing.resources\[0\].replicas: 0 is not >= 2",
            id="replicas",
        ),
        pytest.param(
            "sharing: {mps: {resources: [{name: nvidia.com/gpu}]}}",
            r"sharing.mps.resources\[0\].replicas: missing",
            id="missing",
        ),
        pytest.param(
            "flags: {gfd: {sleepInterval: soon}}", "flags.gfd.sleepInterval: the string 'soon' is not a dur", id="time"
        ),
        pytest.param("imex: {channelIDs: [a]}", r"imex.channelIDs\[0\]: the string 'a' is not a whole", id="channel"),
        pytest.param("version: v1\nversion: v1", "line 2, column 1: duplicate key 'version'", id="twice"),
        pytest.param("a: ]", "not YAML: .*line 1", id="not-yaml"),
        pytest.param(b"\xff\xfe\xff", "not YAML", id="not-utf-8"),
        pytest.param("!!python/object/apply:os.getcwd []", "not YAML: .*could not determine a constructor", id="tag"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(text, message):
    with pytest.raises(ConfigError, match=message):
        settings(text)


SLICING = "sharing: {timeSlicing: {resources: [%s]}}"


@pytest.mark.parametrize(
    ("text", "env", "flags", "message"),
    [
        pytest.param("flags: {deviceDiscoveryStrategy: tegra}", {}, {}, "use auto or nvml", id="tegra"),
        pytest.param("", {"DEVICE_DISCOVERY_STRATEGY": "vfio"}, {},
                     "environment variable DEVICE_DISCOVERY_STRATEGY: vfio is not supported", id="vfio-env"),
        pytest.param("sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}", {}, {},
                     "sharing.mps: MPS is not supported: .*; use sharing.timeSlicing", id="mps"),
        pytest.param(SLICING % "{name: gpu, replicas: 4}, {name: nvidia.com/gpu, replicas: 2}", {}, {},
                     r"resources\[1\]: nvidia.com/gpu without a list of devices is in resources\[0\]", id="twice"),
        pytest.param(SLICING % "{name: gpu, replicas: 4, devices: [0]}, {name: gpu, replicas: 2, devices: [1, '0']}",
                     {}, {}, r"timeSlicing.resources\[1\]: device 0 is in resources\[0\]", id="device-twice"),
        pytest.param(SLICING % "{name: gpu, replicas: 4, devices: [x]}", {}, {},
                     r"resources\[0\].devices\[0\]: the string 'x' is not an index", id="device"),
        pytest.param(SLICING % "{name: gpu, replicas: 4, devices: 0}", {}, {},
                     r"devices: the number 0 is not all, a count or a list", id="device-count"),
        pytest.param(SLICING % "{name: gpu, rename: 'a b', replicas: 4}", {}, {},
                     r"rename: the string 'a b' is not a resource name", id="rename"),
        pytest.param("resources: {gpus: [{pattern: '*', name: -x}]}", {}, {},
                     r"resources.gpus\[0\].name: the string '-x' is not a resource name", id="name"),
        pytest.param("kubegpu: {gpus: {include: [-1]}}", {}, {}, r"include\[0\]: -1 is not >= 0", id="selector"),
        pytest.param("kubegpu: {cdiKind: gpu}", {}, {}, "cdiKind: the string 'gpu' is not a CDI kind", id="cdi-kind"),
        pytest.param("flags: {plugin: {deviceListStrategy: []}}", {}, {}, "with an empty list no", id="empty-list"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(text, env, flags, message):
    with pytest.raises(ConfigError, match=message):
        settings(text, env, **flags)


def test_all_problems_of_a_file_are_told_at_once():
    text = """
    migStrategy: none
    flags: {failOnInitError: 1, deviceDiscoveryStrategy: tegra}
    sharing: {mps: {resources: [{name: gpu, replicas: 2}]}, timeSlicing: {resources: [{replicas: 0}, {name: gpu}]}}
    kubegpu: {health: {xids: {x: fatal, 79: bad}, failedReads: 0}}
    """
    with pytest.raises(ConfigError) as error:
        settings(text)
    assert [problem.partition(": ")[0] for problem in error.value.problems] == [
        "migStrategy",
        "flags.failOnInitError",
        "flags.deviceDiscoveryStrategy",
        "sharing.timeSlicing.resources[0].name",
        "sharing.timeSlicing.resources[0].replicas",
        "sharing.timeSlicing.resources[1].replicas",
        "sharing.mps",
        "kubegpu.health.xids",
        "kubegpu.health.xids.79",
        "kubegpu.health.failedReads",
    ]


def test_all_problems_of_the_environment_and_flags_are_told_at_once():
    with pytest.raises(ConfigError, match=r"^--mig-strategy: .*; environment variable GDS_.*; .*DP_FAILED_READS: "):
        settings("", {"DP_FAILED_READS": "0", "GDS_ENABLED": "x"}, mig_strategy="x")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "flags: {deviceListStrategy: envvar}",
            "^flags.deviceListStrategy: .* at flags.plugin.deviceListStrategy$",
        ),
        ("migStrategy: none", "it belongs at flags.migStrategy$"),
        ("flags: {device-list-strategy: envvar}", "it belongs at flags.plugin.deviceListStrategy$"),
        ("flags: {plugin: {passdevicespecs: true}}", "did you mean flags.plugin.passDeviceSpecs"),
        ("flags: {gpus: []}", "it belongs at resources.gpus or kubegpu.gpus$"),
        ("plugin: {}", "it belongs at flags.plugin$"),
        ("deviceIDStrategie: uuid", "did you mean flags.plugin.deviceIDStrategy"),
        ("sharing: {timeSlicing: {replicas: 2}}", r"it belongs at sharing.timeSlicing.resources\[\].replicas$"),
        ("kubegpu: {quietPeriod: 1s}", "it belongs at kubegpu.health.quietPeriod$"),
        ("nonsense: 1", "allowed here: flags, resources, sharing, kubegpu, imex, version$"),
        (f"{'x' * 1000}: 1", r"^\(a string of 1000 characters\): unknown key; allowed here"),
    ],
)
def test_where_an_unknown_key_belongs(text, hint):
    with pytest.raises(ConfigError, match=hint):
        settings(text)


def test_sharing_is_read_with_its_defaults():
    text = """
    sharing:
      timeSlicing:
        renameByDefault: true
        failRequestsGreaterThanOne: true
        resources:
          - {name: nvidia.com/gpu, replicas: 10, devices: [0, "1:0", GPU-x]}
          - {name: mig-1g.10gb, rename: tiny, replicas: 3}
    """
    rules = settings(text).rules
    assert rules.shared == (
        Shared("nvidia.com/gpu", "nvidia.com/gpu.shared", 10, ("0", "1:0", "GPU-x")),
        Shared("nvidia.com/mig-1g.10gb", "nvidia.com/tiny", 3),
    )
    assert rules.single_requests


@pytest.mark.parametrize(
    ("env", "flags", "message"),
    [
        pytest.param({"FAIL_ON_INIT_ERROR": "maybe"}, {}, "INIT_ERROR: the string 'maybe' is not a boolean", id="env"),
        pytest.param({}, {"pass_device_specs": "ja"}, "--pass-device-specs: the string 'ja' is not a bool", id="flag"),
        pytest.param({}, {"http_address": "9400"}, "--http-address: the string '9400' is not HOST:PORT", id="no-host"),
        pytest.param({}, {"http_address": "x:99999"}, "'x:99999' is not HOST:PORT", id="port"),
        pytest.param({}, {"kubelet_socket": "kubelet.sock"}, "'kubelet.sock' is not an absolute path", id="relative"),
        pytest.param({}, {"kubelet_socket": f"/{'x' * 90}/k"}, "too long for a socket", id="long"),
        pytest.param({"DEVICE_ID_STRATEGY": "name"}, {}, "is not one of uuid, index", id="choice"),
    ],
)
def test_wrong_environment_and_flags(env, flags, message):
    with pytest.raises(ConfigError, match=message):
        settings("", env, **flags)


FILE = "flags: {plugin: {deviceIDStrategy: uuid, passDeviceSpecs: true}, failOnInitError: false}"


@pytest.mark.parametrize(
    ("text", "env", "flags", "expected"),
    [
        pytest.param("", {}, {}, "uuid", id="default"),
        pytest.param("flags: {plugin: {deviceIDStrategy: index}}", {}, {}, "index", id="file"),
        pytest.param(FILE, {"DEVICE_ID_STRATEGY": "index"}, {}, "index", id="environment-over-file"),
        pytest.param(FILE, {"DEVICE_ID_STRATEGY": "uuid"}, {"device_id_strategy": "index"}, "index", id="flag-wins"),
        pytest.param("flags: {plugin: {deviceIDStrategy: index}}", {"DEVICE_ID_STRATEGY": ""}, {}, "index", id="empty"),
    ],
)
def test_precedence(text, env, flags, expected):
    assert settings(text, env, **flags).device_id_strategy == expected


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"])
def test_booleans_as_go_reads_them(text):
    assert settings("", {"PASS_DEVICE_SPECS": text}).pass_device_specs is (text.lower() in ("1", "t", "true"))


def test_the_device_root_follows_the_driver_root():
    assert settings("", {"NVIDIA_DRIVER_ROOT": "/run/nvidia/driver"}).dev_root == "/run/nvidia/driver"
    assert settings("", {"NVIDIA_DRIVER_ROOT": "/a", "NVIDIA_DEV_ROOT": "/b"}).dev_root == "/b"


def test_an_empty_driver_root_is_the_hosts_root():
    config = settings("flags: {nvidiaDriverRoot: ''}")
    assert (config.driver_root, config.dev_root) == ("/", "/")


def test_how_many_reads_may_fail():
    assert settings().failed_reads == 3
    assert settings("kubegpu: {health: {failedReads: 10}}").failed_reads == 10
    assert settings("", {"DP_FAILED_READS": "1000"}).failed_reads == 1000
    with pytest.raises(ConfigError, match="DP_FAILED_READS: 1001 is not <= 1000"):
        settings("", {"DP_FAILED_READS": "1001"})
    with pytest.raises(ConfigError, match="DP_FAILED_READS: the string 'many' is not a whole number"):
        settings("", {"DP_FAILED_READS": "many"})


def test_the_default_of_each_field_is_that_of_its_setting():
    assert settings("") == Config()
    assert Config().http_address == ("", 9400), "all addresses of both families"
    assert Config().container_driver_root == Path("/driver-root")


def test_a_published_number_of_replicas():
    assert settings(SLICING % "{name: gpu, replicas: 16384}").rules.shared[0].replicas == 16384
    with pytest.raises(ConfigError, match="16385 is not <= 16384"):
        settings(SLICING % "{name: gpu, replicas: 16385}")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.flag or setting.path or setting.env[0])
def test_a_message_does_not_repeat_a_long_value(setting):
    text = "x" * 10_000
    for env, flags in (dict.fromkeys(setting.env, text), {}), ({}, {setting.key: text} if setting.flag else {}):
        try:
            resolve({}, env, flags)
        except ConfigError as error:
            assert len(str(error)) < 400


def test_what_has_no_effect_is_told():
    assert settings("flags: {mpsRoot: /mps}", {"NVIDIA_CTK_PATH": "/x"}).inert == (
        "flags.mpsRoot",
        "environment variable NVIDIA_CTK_PATH",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), (":9400", ("", 9400)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9400", ("::1", 9400))],
)
def test_http_address(text, expected):
    assert settings("", {}, http_address=text).http_address == expected


def test_the_file_is_found_by_flag_and_environment(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("flags: {failOnInitError: false}")
    assert load({"config_file": str(path)}, {}).fail_on_init_error is False
    assert load({}, {"CONFIG_FILE": str(path)}).fail_on_init_error is False
    with pytest.raises(ConfigError, match=f"^config file {tmp_path}/none: No such file or directory$"):
        load({"config_file": str(tmp_path / "none")}, {})


def test_the_version_is_that_of_the_package():
    project = Path(__main__.__file__).parents[2] / "pyproject.toml"
    assert f'version = "{__version__}"\n' in project.read_text()
    shown = subprocess.run(
        [sys.executable, "-m", "nvidia_devplugin", "--version"],
        env={"PYTHONPATH": str(project.parent / "src")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == __version__


HUGE = "0x" + "f" * 6000  # Python refuses to show it
NESTED_MERGES = "x0: &x0 {a: 1}\n" + "".join(
    f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000, id="nested-lists"),
        pytest.param("{a: " * 5000, id="nested-mappings"),
        pytest.param("- " * 5000, id="nested-blocks"),
        pytest.param("&a {flags: *a}", id="contains-itself"),
        pytest.param(NESTED_MERGES, id="grows-by-merging"),
        pytest.param("version: !!int ''", id="no-integer"),
        pytest.param("version: !!float ''", id="no-float"),
        pytest.param("version: !!bool x", id="no-boolean"),
        pytest.param("version: !!timestamp x", id="no-time"),
        pytest.param("version: 2001-99-99", id="no-date"),
        pytest.param("!!map [a]", id="no-mapping"),
        pytest.param("!!map ab", id="no-mapping-either"),
        pytest.param("? [a]\n: 1", id="list-as-key"),
        pytest.param("version: 1" + ":00" * 300 + ".5", id="float-to-base-60"),
        pytest.param(f"version: {HUGE}", id="huge"),
        pytest.param(f"version: -{HUGE}", id="huge-and-negative"),
        pytest.param(f"? {HUGE}\n: 1", id="huge-key"),
        pytest.param(f"? -{HUGE}\n: 1", id="huge-negative-key"),
        pytest.param(f"kubegpu: {{health: {{xids: {{? {HUGE} : fatal}}}}}}", id="huge-xid"),
        pytest.param(f"kubegpu: {{health: {{quietPeriod: {HUGE}}}}}", id="huge-duration"),
        pytest.param("kubegpu: {health: {quietPeriod: %sh}}" % ("9" * 400), id="long-duration"),
        pytest.param(f"imex: {{channelIDs: [{HUGE}]}}", id="huge-channel"),
        pytest.param(f"kubegpu: {{gpus: {{include: [{HUGE}]}}}}", id="huge-index"),
        pytest.param(SLICING % "{name: gpu, replicas: 1000000000}", id="replicas-beyond-memory"),
        pytest.param(SLICING % f"{{name: gpu, replicas: {HUGE}}}", id="huge-replicas"),
        pytest.param(SLICING % f"{{name: gpu, replicas: -{HUGE}}}", id="huge-negative-replicas"),
        pytest.param(SLICING % f"{{name: gpu, replicas: 2, devices: {HUGE}}}", id="huge-count"),
        pytest.param(SLICING % f"{{name: gpu, replicas: 2, devices: [{HUGE}]}}", id="huge-device"),
        pytest.param('flags: {gfd: {machineTypeFile: "a\\0b"}}', id="nul-in-a-path"),
        pytest.param('"\\e[2J": 1', id="escape-in-a-key"),
        pytest.param("\0", id="nul"),
        pytest.param("%YAML 9.9\n---\n", id="another-yaml"),
        pytest.param("---\n---\n", id="two-documents"),
        pytest.param(f"{'x' * 5000}: 1\n{'x' * 5000}: 2", id="long-duplicate"),
        pytest.param(f"!{'x' * 5000} a", id="long-tag"),
        pytest.param(f"version: !!int {'x' * 5000}", id="long-integer"),
    ],
)
def test_what_is_hard_to_read_is_a_message_too(text):
    with pytest.raises(ConfigError) as error:
        settings(text)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_a_message_does_not_grow_with_the_file():
    with pytest.raises(ConfigError, match=r"and 980 more$") as error:
        settings(SLICING % ", ".join(["{name: gpu, replicas: 2}"] * 1001))
    assert len(str(error.value)) < 4000


@given(st.binary())
def test_random_bytes_are_settings_or_a_message(data):
    try:
        settings(data)
    except ConfigError as error:
        assert str(error)


KEYS = st.sampled_from(
    ["version", "flags", "plugin", "gfd", "sharing", "timeSlicing", "mps", "resources", "gpus", "imex", "migStrategy",
     "failOnInitError", "deviceListStrategy", "passDeviceSpecs", "channelIDs", "replicas", "name", "devices", "kubegpu",
     "include", "x"]
)  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["v1"]))
TREES = st.recursive(
    LEAVES, lambda sub: st.one_of(st.lists(sub, max_size=3), st.dictionaries(KEYS, sub, max_size=4)), max_leaves=12
)


@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_random_trees_are_settings_or_a_message(tree):
    try:
        settings(yaml.safe_dump(tree))
    except ConfigError as error:
        assert str(error)
