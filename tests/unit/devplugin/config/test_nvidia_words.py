"""Every flag, variable and key of the file that NVIDIA's k8s-device-plugin 0.20 knows, and what becomes of it here.

From cmd/nvidia-device-plugin, cmd/gpu-feature-discovery, cmd/config-manager, internal/flags, internal/rm/health.go and
api/config/v1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import pytest

from nvidia_devplugin import __main__
from nvidia_devplugin.config.known_keys import paths
from nvidia_devplugin.config.resource_rules import Rules
from nvidia_devplugin.config.settings import Config, ConfigError, parse, resolve
from nvidia_devplugin.config.table import FILE

LOGGED = "accepted without effect, and logged"
REFUSED = "refused with the reason"
ALLOWED = "accepted: it says what is done anyway"
AGENT = "the agent's"


@dataclass
class Word:
    """effect: the field of Config or Rules that it changes, or one of the constants above. text: a value."""

    effect: str
    text: str
    flags: str = ""
    env: str = ""
    path: str = ""


PLUGIN = [
    Word("mig_strategy", "mixed", "mig-strategy", "MIG_STRATEGY GFD_MIG_STRATEGY", "flags.migStrategy"),
    Word("fail_on_init_error", "false", "fail-on-init-error", "FAIL_ON_INIT_ERROR GFD_FAIL_ON_INIT_ERROR",
         "flags.failOnInitError"),
    Word("driver_root", "/x", "driver-root nvidia-driver-root", "NVIDIA_DRIVER_ROOT", "flags.nvidiaDriverRoot"),
    Word("dev_root", "/x", "dev-root nvidia-dev-root", "NVIDIA_DEV_ROOT", "flags.nvidiaDevRoot"),
    Word("pass_device_specs", "true", "pass-device-specs", "PASS_DEVICE_SPECS", "flags.plugin.passDeviceSpecs"),
    Word("device_list_strategies", "cdi-cri", "device-list-strategy", "DEVICE_LIST_STRATEGY",
         "flags.plugin.deviceListStrategy"),
    Word("device_id_strategy", "index", "device-id-strategy", "DEVICE_ID_STRATEGY", "flags.plugin.deviceIDStrategy"),
    Word("gdrcopy_enabled", "true", "gdrcopy-enabled", "GDRCOPY_ENABLED", "flags.gdrcopyEnabled"),
    Word("gds_enabled", "true", "gds-enabled", "GDS_ENABLED", "flags.gdsEnabled"),
    Word("mofed_enabled", "true", "mofed-enabled", "MOFED_ENABLED", "flags.mofedEnabled"),
    Word("cdi_annotation_prefix", "x/", "cdi-annotation-prefix", "CDI_ANNOTATION_PREFIX",
         "flags.plugin.cdiAnnotationPrefix"),
    Word(LOGGED, "/x", "nvidia-cdi-hook-path nvidia-ctk-path", "NVIDIA_CDI_HOOK_PATH NVIDIA_CTK_PATH",
         "flags.plugin.nvidiaCTKPath"),
    Word("container_driver_root", "/x", "driver-root-ctr-path container-driver-root",
         "DRIVER_ROOT_CTR_PATH CONTAINER_DRIVER_ROOT", "flags.plugin.containerDriverRoot"),
    Word(LOGGED, "/x", "mps-root", "MPS_ROOT", "flags.mpsRoot"),
    Word("shared_policy", "packed", "shared-devices-allocation-policy", "SHARED_DEVICES_ALLOCATION_POLICY",
         "flags.plugin.sharedDevicesAllocationPolicy"),
    Word(ALLOWED, "nvml", "device-discovery-strategy", "DEVICE_DISCOVERY_STRATEGY", "flags.deviceDiscoveryStrategy"),
    Word(REFUSED, "tegra", "device-discovery-strategy", "DEVICE_DISCOVERY_STRATEGY", "flags.deviceDiscoveryStrategy"),
    Word("imex_channels", "0", "imex-channel-ids", "IMEX_CHANNEL_IDS"),
    Word("imex_channels", "[0]", path="imex.channelIDs"),
    Word("imex_required", "true", "imex-required", "IMEX_REQUIRED", "imex.required"),
    Word("kubelet_socket", "/x", "kubelet-socket", "KUBELET_SOCKET"),
    Word("config_file", "/x", "config-file", "CONFIG_FILE GFD_CONFIG_FILE"),
    Word(LOGGED, "x", "cdi-feature-flags", "CDI_FEATURE_FLAGS"),
    Word(LOGGED, "all", "cdi-disable-hooks", "CDI_DISABLE_HOOKS"),
    Word("xids_disabled", "all", env="DP_DISABLE_HEALTHCHECKS"),
    Word("xids_enabled", "13", env="DP_ENABLE_HEALTHCHECKS"),
]  # fmt: skip
GFD = [
    Word(LOGGED, "true", "oneshot", "GFD_ONESHOT", "flags.gfd.oneshot"),
    Word("labels_timestamp", "true", "no-timestamp", "GFD_NO_TIMESTAMP", "flags.gfd.noTimestamp"),
    Word(LOGGED, "30s", "sleep-interval", "GFD_SLEEP_INTERVAL", "flags.gfd.sleepInterval"),
    Word(LOGGED, "infinite", "sleep-interval", "GFD_SLEEP_INTERVAL", "flags.gfd.sleepInterval"),
    # its short forms, --output and -o, are not taken: commands of ours have --output
    Word("labels_file", "/x", "output-file", "GFD_OUTPUT_FILE"),
    Word(LOGGED, "/x", path="flags.gfd.outputFile"),
    Word("machine_type_file", "/x", "machine-type-file", "GFD_MACHINE_TYPE_FILE", "flags.gfd.machineTypeFile"),
    Word(LOGGED, "true", "use-node-feature-api", "GFD_USE_NODE_FEATURE_API USE_NODE_FEATURE_API",
         "flags.useNodeFeatureAPI"),
    Word(LOGGED, "/x", "kubeconfig", "KUBECONFIG"),
    Word(LOGGED, "5", "kube-api-qps", "KUBE_API_QPS"),
    Word(LOGGED, "10", "kube-api-burst", "KUBE_API_BURST"),
    Word(LOGGED, "x", "namespace", "NAMESPACE"),
    Word(LOGGED, "x", "node-name"),
    Word(AGENT, "x", env="NODE_NAME"),
    Word(LOGGED, "x", "pod-name", "POD_NAME"),
]  # fmt: skip
CONFIG_MANAGER = [
    Word(LOGGED, "true", env="ONESHOT"),
    Word(LOGGED, "x", "node-label", "NODE_LABEL"),
    Word(ALLOWED, "nvidia.com/device-plugin.config", "node-label", "NODE_LABEL"),
    Word("config_directory", "/x", "config-file-srcdir", "CONFIG_FILE_SRCDIR"),
    Word(LOGGED, "/x", "config-file-dst", "CONFIG_FILE_DST"),
    Word("default_config", "x", "default-config", "DEFAULT_CONFIG"),
    Word("fallback_strategies", "empty", "fallback-strategies", "FALLBACK_STRATEGIES"),
    Word(LOGGED, "true", "send-signal", "SEND_SIGNAL"),
    Word(LOGGED, "1", "signal", "SIGNAL"),
    Word(LOGGED, "nvidia-device-plugin", "process-to-signal", "PROCESS_TO_SIGNAL"),
]
SHARED = "[{name: gpu, replicas: 2}]"
FILE_ONLY = [
    Word(ALLOWED, "v1", path="version"),
    Word("gpu_names", "[{pattern: '*', name: x}]", path="resources.gpus"),
    Word("mig_names", "[{pattern: '*', name: x}]", path="resources.mig"),
    Word("rename_by_default", "true", path="sharing.timeSlicing.renameByDefault"),
    Word("single_requests", "true", path="sharing.timeSlicing.failRequestsGreaterThanOne"),
    Word("shared", SHARED, path="sharing.timeSlicing.resources"),
    Word(LOGGED, "true", path="sharing.mps.renameByDefault"),
    Word(LOGGED, "true", path="sharing.mps.failRequestsGreaterThanOne"),
    Word(REFUSED, SHARED, path="sharing.mps.resources"),
]
WORDS = [*PLUGIN, *GFD, *CONFIG_MANAGER, *FILE_ONLY]
IN_LISTS = {
    *(f"resources.{kind}[].{key}" for kind in ("gpus", "mig") for key in ("pattern", "name")),
    *(f"sharing.{kind}.resources[].{key}" for kind in ("timeSlicing", "mps")
      for key in ("name", "rename", "devices", "replicas")),
}  # fmt: skip


def said(word: Word):
    """Each way to say it: what messages call it, and the settings' three sources."""
    for flag in word.flags.split():
        for dashes in ("-", "--"):
            yield f"--{word.flags.split()[0]}", {}, {}, f"{dashes}{flag}={word.text}"
    for variable in word.env.split():
        yield f"environment variable {variable}", {}, {variable: word.text}, None
    if word.path:
        text = word.text
        for key in reversed(word.path.split(".")):
            text = f"{{{key}: {text}}}"
        yield word.path, text, {}, None


@pytest.mark.parametrize(
    ("word", "origin", "text", "env", "flag"),
    [pytest.param(word, *way, id=f"{way[3] or way[0]}={word.text}") for word in WORDS for way in said(word)],
)
def test_what_becomes_of_it(word, origin, text, env, flag, monkeypatch):
    flags: dict[str, str] = {}
    if flag:
        monkeypatch.setattr(__main__, "load", lambda given, _env: flags.update(given) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            __main__.main([flag])

    def result() -> Config:
        return resolve(parse(text.encode()) if text else {}, env, flags)

    if word.effect == REFUSED:
        with pytest.raises(ConfigError, match=r"not supported.*; use "):
            result()
        return
    found = result()
    changed = {field.name for field in fields(Config) if getattr(found, field.name) != getattr(Config(), field.name)}
    if "rules" in changed:
        changed |= {
            field.name for field in fields(Rules) if getattr(found.rules, field.name) != getattr(Rules(), field.name)
        }
    if word.effect in (ALLOWED, AGENT):
        assert changed == set()
    elif word.effect == LOGGED:
        assert changed == {"inert"}
        assert origin.startswith(found.inert[0])
    else:
        assert word.effect in changed
        assert not found.inert


def test_every_key_of_the_file_is_here():
    known = {path for path in paths(FILE) if not path.startswith("kubegpu")}
    leaves = {path for path in known if not any(other.startswith((f"{path}.", f"{path}[")) for other in known)}
    lists = {path.partition("[")[0] for path in IN_LISTS}
    assert leaves | lists == {word.path for word in WORDS if word.path} | IN_LISTS


def test_what_nvidias_plugin_ignores_is_told():
    text = """
    resources: {gpus: [{pattern: '*', name: a}]}
    sharing: {timeSlicing: {renameByDefault: true, resources: [
      {name: a, replicas: 2, devices: [0]}, {name: b, replicas: 2, rename: c},
      {name: d, replicas: 2, rename: d.shared}]}}
    """
    path = "sharing.timeSlicing.resources"
    expected = ("resources.gpus", f"{path}[0].devices", f"{path}[1].rename")
    assert resolve(parse(text.encode()), {}, {}).rules.ignored_by_nvidia == expected
    assert resolve(parse(json.dumps({"version": "v1"}).encode()), {}, {}).rules.ignored_by_nvidia == ()


def test_the_plugins_variable_has_precedence_over_that_of_gpu_feature_discovery():
    env = {"MIG_STRATEGY": "single", "GFD_MIG_STRATEGY": "mixed"}
    assert resolve({}, env, {}).rules.mig_strategy == "single"


@pytest.mark.parametrize("flags", [{"kubelet_socket": ""}, {}])
def test_an_empty_kubelet_socket_is_the_default(flags):
    assert resolve({}, {"KUBELET_SOCKET": ""}, flags).kubelet_socket == Config().kubelet_socket
