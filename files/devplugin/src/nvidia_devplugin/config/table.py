# ruff: noqa: RUF009 setting() is dataclasses.field()
"""The table of all settings: the fields of Config and Rules, and what is accepted for the sake of NVIDIA's plugin.

Names are those of NVIDIA's device plugin and gpu-feature-discovery (0.20). Settings of our own have no path in the
file, or one below kubegpu, and variables that begin with DP_.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..log import FORMATS, LEVELS
from ..model import POLLED_FAULTS
from .checks import Check, ListOf, boolean, choice, integer, negated, one_or_list_of, seconds, string
from .known_keys import tree
from .resource_rules import MPS, Rules
from .setting import Setting, entry, setting, settings_of
from .values import (
    KUBELET_SOCKET,
    address,
    cdi_kind,
    imex_channel,
    kubelet_socket,
    not_empty,
    optional_path,
    root,
    sleep_interval,
    supported,
    text,
    xid_severities,
)

NODE_LABEL = "nvidia.com/device-plugin.config"
FALLBACKS = ("named", "single", "empty")


@dataclass(frozen=True)
class Config:
    """All settings, checked.

    config_file, config_directory: where the file comes from; at most one of them is given.
    xids_disabled, xids_enabled: the lists as written; health parses them.
    dev_root: the driver's root if empty.
    inert: flags, variables and paths in the file that were given and have no effect here.
    """

    config_file: Path | None = setting(
        optional_path, "", "settings in the format of NVIDIA's device plugin",
        flag="config-file", env="CONFIG_FILE GFD_CONFIG_FILE",
    )  # fmt: skip
    config_directory: Path | None = setting(
        optional_path, "", "directory of named config files, one of which applies; instead of one file",
        flag="config-file-srcdir",
    )  # fmt: skip
    default_config: str = setting(
        string, "", "the config that applies where the node has no label", flag="default-config"
    )
    fallback_strategies: tuple[str, ...] = setting(
        one_or_list_of(choice(*FALLBACKS)), ["named", "single"],
        "without such a name, the first of these that fits: named, single, empty", flag="fallback-strategies",
    )  # fmt: skip
    fail_on_init_error: bool = setting(
        boolean, True, "exit when NVML cannot be used at start; otherwise wait for the driver",
        flag="fail-on-init-error", env="FAIL_ON_INIT_ERROR GFD_FAIL_ON_INIT_ERROR", path="flags.failOnInitError",
    )  # fmt: skip
    pass_device_specs: bool = setting(
        boolean, False, "also name the device nodes, for nodes that run the CPU manager's static policy",
        flag="pass-device-specs", path="flags.plugin.passDeviceSpecs",
    )  # fmt: skip
    device_list_strategies: tuple[str, ...] = setting(
        not_empty(
            one_or_list_of(choice("envvar", "volume-mounts", "cdi-annotations", "cdi-cri")),
            "with an empty list no container would get its devices",
        ),
        ["envvar"],
        "how the runtime learns of the devices: envvar, volume-mounts, cdi-annotations, cdi-cri, or several",
        flag="device-list-strategy", path="flags.plugin.deviceListStrategy",
    )  # fmt: skip
    device_id_strategy: str = setting(
        choice("uuid", "index"), "uuid", "what names a device to the container's runtime: uuid or index",
        flag="device-id-strategy", path="flags.plugin.deviceIDStrategy",
    )  # fmt: skip
    driver_root: str = setting(
        root, "/", "root of the driver's installation on the host",
        flag="driver-root", aliases=("nvidia-driver-root",), env="NVIDIA_DRIVER_ROOT", path="flags.nvidiaDriverRoot",
    )  # fmt: skip
    dev_root: str = setting(
        string, "", "where the host's /dev is found; the driver root if empty",
        flag="dev-root", aliases=("nvidia-dev-root",), env="NVIDIA_DEV_ROOT", path="flags.nvidiaDevRoot",
    )  # fmt: skip
    container_driver_root: Path | None = setting(
        optional_path, "/driver-root", "where the driver root is mounted here; its libnvidia-ml.so.1 is used",
        flag="driver-root-ctr-path", aliases=("container-driver-root",),
        env="DRIVER_ROOT_CTR_PATH CONTAINER_DRIVER_ROOT", path="flags.plugin.containerDriverRoot",
    )  # fmt: skip
    kubelet_socket: Path = setting(
        kubelet_socket, KUBELET_SOCKET, "the kubelet's registration socket; the plugin's own sockets are beside it",
        flag="kubelet-socket",
    )  # fmt: skip
    gdrcopy_enabled: bool = setting(
        boolean, False, "containers with GPUs get the GDRCopy driver's device",
        flag="gdrcopy-enabled", path="flags.gdrcopyEnabled",
    )  # fmt: skip
    gds_enabled: bool = setting(
        boolean, False, "containers with GPUs get GPUDirect Storage", flag="gds-enabled", path="flags.gdsEnabled"
    )
    mofed_enabled: bool = setting(
        boolean, False, "containers with GPUs get the Mellanox devices", flag="mofed-enabled", path="flags.mofedEnabled"
    )
    imex_channels: tuple[str, ...] = setting(
        one_or_list_of(imex_channel), [], "IMEX channels for containers with GPUs",
        flag="imex-channel-ids", path="imex.channelIDs",
    )  # fmt: skip
    imex_required: bool = setting(
        boolean, False, "refuse containers while one of these channels does not exist",
        flag="imex-required", path="imex.required",
    )  # fmt: skip
    shared_policy: str = setting(
        choice("distributed", "packed"), "distributed",
        "spread a container's shared devices and MIG devices over GPUs, or keep them together",
        flag="shared-devices-allocation-policy", path="flags.plugin.sharedDevicesAllocationPolicy",
    )  # fmt: skip
    distinct_gpus: bool = setting(
        boolean, False, "never two devices of one GPU for one container", path="kubegpu.distinctGpus"
    )
    cdi_annotation_prefix: str = setting(
        string, "cdi.k8s.io/", "what keys of CDI annotations begin with",
        flag="cdi-annotation-prefix", path="flags.plugin.cdiAnnotationPrefix",
    )  # fmt: skip
    cdi_kind: str = setting(cdi_kind, "nvidia.com/gpu", "the kind in the names of CDI devices", path="kubegpu.cdiKind")
    xids_disabled: str = setting(
        text, "", "XIDs that do not count: all, xids or a list of numbers", env="DP_DISABLE_HEALTHCHECKS"
    )
    xids_enabled: str = setting(
        text, "", "XIDs that count, even if they are disabled: likewise", env="DP_ENABLE_HEALTHCHECKS"
    )
    xid_severities: tuple[tuple[int, str], ...] = setting(
        xid_severities, {}, "severities by XID: ignore, transient or fatal", path="kubegpu.health.xids"
    )
    faults_ignored: tuple[str, ...] = setting(
        ListOf(choice(*POLLED_FAULTS)), [], "faults found by polling that do not count", path="kubegpu.health.ignore"
    )
    quiet_seconds: float = setting(
        seconds, "60s", "how long a transient fault is held after its last event", path="kubegpu.health.quietPeriod"
    )
    longest_hold_seconds: float = setting(
        seconds, "1h", "where the doubling of that time for a GPU with repeated faults ends",
        path="kubegpu.health.longestHold",
    )  # fmt: skip
    failed_reads: int = setting(
        integer(1, 1000), 3, "how often in a row a GPU or MIG device may be unreadable before it counts as unhealthy",
        env="DP_FAILED_READS", path="kubegpu.health.failedReads",
    )  # fmt: skip
    http_address: tuple[str, int] | None = setting(
        address, ":9400", "HOST:PORT for /metrics, /healthz and /readyz; all addresses without HOST, none if empty",
        flag="http-address", env="DP_HTTP_ADDRESS",
    )  # fmt: skip
    pod_resources_socket: Path | None = setting(
        optional_path, "/var/lib/kubelet/pod-resources/kubelet.sock",
        "where the kubelet says which pod has which device, for the metrics; empty for none",
        flag="pod-resources-socket", env="DP_POD_RESOURCES_SOCKET",
    )  # fmt: skip
    gpu_telemetry: bool = setting(
        boolean, False, "also utilisation, memory, temperature and power of each GPU in the metrics",
        flag="gpu-telemetry", env="DP_GPU_TELEMETRY",
    )  # fmt: skip
    control_directory: Path | None = setting(
        optional_path, "", "also serve the control socket in this directory, for the agent in the pod; empty for none",
        flag="control-dir", env="DP_CONTROL_DIR",
    )  # fmt: skip
    labels_file: Path | None = setting(
        optional_path, "", "write the node's labels to this file, for Node Feature Discovery; empty for none",
        flag="labels-file", aliases=("output-file",), env="DP_LABELS_FILE GFD_OUTPUT_FILE",
    )  # fmt: skip
    labels_timestamp: bool = setting(
        negated, False, "leave out the label gfd.timestamp",
        flag="no-timestamp", env="GFD_NO_TIMESTAMP", path="flags.gfd.noTimestamp",
    )  # fmt: skip
    machine_type_file: Path | None = setting(
        optional_path, "/sys/class/dmi/id/product_name", "the file that the label gpu.machine is read from",
        flag="machine-type-file", env="GFD_MACHINE_TYPE_FILE", path="flags.gfd.machineTypeFile",
    )  # fmt: skip
    log_level: str = setting(
        choice(*LEVELS), "info", "debug, info, warning or error", flag="log-level", env="DP_LOG_LEVEL"
    )
    log_format: str = setting(
        choice(*FORMATS), "text", "text (key=value) or json", flag="log-format", env="DP_LOG_FORMAT"
    )
    rules: Rules = field(default_factory=Rules)
    inert: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dev_root", self.dev_root or self.driver_root)


def _unused(check: Check, default: Any, why: str, flag: str = "", env: str | None = None, **more: Any) -> Setting:
    return entry(check, default, f"no effect: {why}", flag, env, inert=True, **more)


_NO_MPS = "MPS is not supported"
_NO_SPECIFICATION = "no CDI specification is written"
_NO_CLIENT = "the daemon has no client of the API server, and the agent has flags of its own"
_OWN_CHOICE = "the daemon chooses among its configs and follows them itself"

COMPATIBILITY = (
    entry(choice("v1"), "v1", "the version of the file's format", path="version"),
    entry(supported(choice("auto", "nvml", "tegra", "vfio"), "auto", "nvml"), "auto", "auto or nvml in this version",
          flag="device-discovery-strategy", path="flags.deviceDiscoveryStrategy"),
    _unused(string, "/run/nvidia/mps", _NO_MPS, "mps-root", path="flags.mpsRoot"),
    _unused(MPS, {}, f"{_NO_MPS}, resources here are refused", path="sharing.mps"),
    _unused(string, "/usr/bin/nvidia-ctk", _NO_SPECIFICATION, "nvidia-cdi-hook-path",
            "NVIDIA_CDI_HOOK_PATH NVIDIA_CTK_PATH", aliases=("nvidia-ctk-path",), path="flags.plugin.nvidiaCTKPath"),
    _unused(one_or_list_of(string), [], _NO_SPECIFICATION, "cdi-feature-flags"),
    _unused(one_or_list_of(string), [], _NO_SPECIFICATION, "cdi-disable-hooks"),
    _unused(boolean, False, "nvidia-devplugin labels prints the labels once", "oneshot", "GFD_ONESHOT ONESHOT",
            path="flags.gfd.oneshot"),
    _unused(sleep_interval, "60s", "labels are written when they change", "sleep-interval", "GFD_SLEEP_INTERVAL",
            path="flags.gfd.sleepInterval"),
    _unused(string, "", "it is a path in another pod; use --labels-file", path="flags.gfd.outputFile"),
    _unused(boolean, False, _NO_CLIENT, "use-node-feature-api", "USE_NODE_FEATURE_API GFD_USE_NODE_FEATURE_API",
            path="flags.useNodeFeatureAPI"),
    _unused(string, "", _NO_CLIENT, "kubeconfig"),
    _unused(string, "", _NO_CLIENT, "kube-api-qps"),
    _unused(string, "", _NO_CLIENT, "kube-api-burst"),
    _unused(string, "", _NO_CLIENT, "namespace"),
    _unused(string, "", _NO_CLIENT, "node-name", ""),  # its variable is the agent's, and may be set for all containers
    _unused(string, "", _NO_CLIENT, "pod-name"),
    _unused(string, NODE_LABEL, "the label is always this one", "node-label"),
    _unused(string, "", _OWN_CHOICE, "config-file-dst"),
    _unused(string, "", _OWN_CHOICE, "send-signal"),
    _unused(string, "", _OWN_CHOICE, "signal"),
    _unused(string, "", _OWN_CHOICE, "process-to-signal"),
)  # fmt: skip
"""What NVIDIA's programs know and Config has no field for."""


SETTINGS: tuple[Setting, ...] = (*settings_of(Rules), *settings_of(Config), *COMPATIBILITY)
FILE = tree(SETTINGS)
"""The check of a whole file's content."""
