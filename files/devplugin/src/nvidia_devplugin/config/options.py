"""The table of all settings: flag, environment variables, path in the file, check, default, and what this version
does with it. Names are those of NVIDIA's device plugin; where a setting is ours alone, `path` is None."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..health import vitals as checks
from ..health.policy import SEVERITIES
from ..log import FORMATS, LEVELS
from .checks import (
    LARGEST,
    Check,
    ConfigError,
    boolean,
    choice,
    describe,
    duration,
    integer,
    list_of,
    mapping,
    one_or_list_of,
    seconds,
    string,
)
from .resource_rules import SHARED_SUFFIX, NamePattern, Rules, Selector, Shared, qualified


@dataclass(frozen=True)
class Option:
    """One setting.

    allowed: the values that this version can honour; None if it honours all.
    inert: it concerns only what this version refuses to do, so that any value is accepted and a line is logged.
    """

    flag: str
    env: tuple[str, ...]
    path: str | None
    check: Check
    default: Any
    help: str
    allowed: tuple[Any, ...] | None = None
    inert: bool = False

    @property
    def key(self) -> str:
        return self.flag.replace("-", "_")

    @property
    def is_boolean(self) -> bool:
        return self.check is boolean


_STRATEGIES = ("envvar", "volume-mounts", "cdi-annotations", "cdi-cri")
_strategies = one_or_list_of(choice(*_STRATEGIES))


def _channel(value: Any, path: str) -> str:
    """An IMEX channel: a number, or the same as a string."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        return value
    return str(integer(0)(value, path))


_CHANNELS = one_or_list_of(_channel)
FALLBACKS = ("named", "single", "empty")


def _option(flag: str, path: str | None, check: Check, default: Any, text: str, **more: Any) -> Option:
    env = more.pop("env", (flag.upper().replace("-", "_"),))
    return Option(flag, env, path, check, default, text, **more)


OPTIONS: tuple[Option, ...] = (
    _option("config-file-srcdir", None, string, "",
            "directory of named config files, one of which applies; instead of one file"),
    _option("default-config", None, string, "", "the name of the one that applies where the node has no label"),
    _option("fallback-strategies", None, one_or_list_of(choice(*FALLBACKS)), ["named", "single"],
            "without such a name, the first of these that fits: named, single, empty"),
    _option("mig-strategy", "flags.migStrategy", choice("none", "single", "mixed"), "none",
            "how MIG devices are advertised: none, single or mixed"),
    _option("fail-on-init-error", "flags.failOnInitError", boolean, True,
            "exit when NVML cannot be used at start; otherwise wait for the driver"),
    _option("pass-device-specs", "flags.plugin.passDeviceSpecs", boolean, False,
            "also name the device nodes, for nodes that run the CPU manager's static policy"),
    _option("device-list-strategy", "flags.plugin.deviceListStrategy", _strategies, ["envvar"],
            "how the runtime learns of the devices: envvar, volume-mounts, cdi-annotations, cdi-cri, or several"),
    _option("device-id-strategy", "flags.plugin.deviceIDStrategy", choice("uuid", "index"), "uuid",
            "what names a device to the container's runtime: uuid or index"),
    _option("driver-root", "flags.nvidiaDriverRoot", string, "/",
            "root of the driver's installation on the host", env=("NVIDIA_DRIVER_ROOT",)),
    _option("dev-root", "flags.nvidiaDevRoot", string, "",
            "where the host's /dev is found; the driver root if empty", env=("NVIDIA_DEV_ROOT",)),
    _option("kubelet-socket", None, string, "/var/lib/kubelet/device-plugins/kubelet.sock",
            "the kubelet's registration socket; the plugin's own socket lies beside it"),
    _option("gdrcopy-enabled", "flags.gdrcopyEnabled", boolean, False,
            "containers with GPUs get the GDRCopy driver's device"),
    _option("gds-enabled", "flags.gdsEnabled", boolean, False, "containers with GPUs get GPUDirect Storage"),
    _option("mofed-enabled", "flags.mofedEnabled", boolean, False,
            "containers with GPUs get the Mellanox devices"),
    _option("device-discovery-strategy", "flags.deviceDiscoveryStrategy",
            choice("auto", "nvml", "tegra", "vfio"), "auto",
            "auto or nvml in this version", allowed=("auto", "nvml")),
    _option("imex-channel-ids", "imex.channelIDs", _CHANNELS, [], "IMEX channels for containers with GPUs"),
    _option("imex-required", "imex.required", boolean, False,
            "refuse containers while one of these channels does not exist"),
    _option("shared-devices-allocation-policy", "flags.plugin.sharedDevicesAllocationPolicy",
            choice("distributed", "packed"), "distributed",
            "spread a container's shared devices and MIG devices over GPUs, or keep them together"),
    _option("mps-root", "flags.mpsRoot", string, "/run/nvidia/mps", "no effect without MPS", inert=True),
    _option("use-node-feature-api", "flags.useNodeFeatureAPI", boolean, False,
            "no effect: the daemon itself has no client of the API server", inert=True),
    _option("cdi-annotation-prefix", "flags.plugin.cdiAnnotationPrefix", string, "cdi.k8s.io/",
            "what keys of CDI annotations begin with"),
    _option("nvidia-cdi-hook-path", "flags.plugin.nvidiaCTKPath", string, "",
            "no effect: no CDI specification is written", env=("NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"), inert=True),
    _option("driver-root-ctr-path", "flags.plugin.containerDriverRoot", string, "/driver-root",
            "no effect: no CDI specification is written",
            env=("DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"), inert=True),
    _option("cdi-feature-flags", None, string, "", "no effect: no CDI specification is written",
            inert=True),
    _option("cdi-disable-hooks", None, string, "", "no effect: no CDI specification is written",
            inert=True),
    _option("http-address", None, string, "0.0.0.0:9400",
            "HOST:PORT for /metrics, /healthz and /readyz; empty for none", env=("DP_HTTP_ADDRESS",)),
    _option("pod-resources-socket", None, string, "/var/lib/kubelet/pod-resources/kubelet.sock",
            "where the kubelet tells which pod holds which device, for the metrics; empty for none",
            env=("DP_POD_RESOURCES_SOCKET",)),
    _option("gpu-telemetry", None, boolean, False,
            "also utilisation, memory, temperature and power of each GPU in the metrics", env=("DP_GPU_TELEMETRY",)),
    _option("control-dir", None, string, "",
            "also serve the control socket in this directory, for the agent in the pod; empty for none",
            env=("DP_CONTROL_DIR",)),
    _option("labels-file", None, string, "",
            "write the node's labels here, for Node Feature Discovery; empty for none",
            env=("DP_LABELS_FILE", "GFD_OUTPUT_FILE")),
    _option("no-timestamp", "flags.gfd.noTimestamp", boolean, False,
            "leave the label gfd.timestamp out", env=("GFD_NO_TIMESTAMP",)),
    _option("machine-type-file", "flags.gfd.machineTypeFile", string, "/sys/class/dmi/id/product_name",
            "what the label gpu.machine is read from", env=("GFD_MACHINE_TYPE_FILE",)),
    _option("log-level", None, choice(*LEVELS), "info", "debug, info, warning or error", env=("DP_LOG_LEVEL",)),
    _option("log-format", None, choice(*FORMATS), "text", "text (key=value) or json", env=("DP_LOG_FORMAT",)),
)  # fmt: skip


def _devices(value: Any, path: str) -> Any:
    """`devices` of a shared resource: all (None), a count, or a list of indices (0, "0:1") and UUIDs."""
    if value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return integer(1)(value, path)
    if isinstance(value, list) and value:
        return tuple(_device(entry, f"{path}[{at}]") for at, entry in enumerate(value))
    raise ConfigError(f"{path}: {describe(value)} is not all, a count or a list of GPUs")


def _device(value: Any, path: str) -> str:
    """An index as a number or text, a MIG device's index (`0:1`), or a UUID."""
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
    text = str(value) if number else value
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,4}(:[0-9]{1,4})?|(GPU|MIG)-\S{1,64}", text):
        raise ConfigError(f"{path}: {describe(value)} is not an index (0, or 0:1 for a MIG device) or a UUID")
    return text


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_RESOURCE = re.compile(rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")


def _resource(value: Any, path: str) -> str:
    """A resource's name, with its domain: nvidia.com where none is given."""
    if not _RESOURCE.fullmatch(string(value, path)) or len(value) > 253:
        raise ConfigError(
            f"{path}: {describe(value)} is not a resource name (letters, digits, - _ . within, 63 at most after a /)"
        )
    return qualified(value)


def _selector(value: Any, path: str) -> Selector:
    """A GPU by index, UUID or model: 0, GPU-…, or a pattern such as *H100*."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Selector(index=integer(0)(value, path))
    if not string(value, path):
        raise ConfigError(f"{path}: an empty string selects nothing; give an index, a UUID or a model's pattern")
    return Selector(uuid=value) if value.startswith("GPU-") else Selector(model=value)


def _severities(value: Any, path: str) -> dict[int, str]:
    """What to make of XIDs: a mapping of their numbers to ignore, transient or fatal."""
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {describe(value)} is not a mapping of XIDs to {', '.join(SEVERITIES)}")
    result = {}
    for key, severity in value.items():
        number = int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,9}", key) else key
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 10**9:
            raise ConfigError(f"{path}: {describe(key)} is not an XID's number")
        result[number] = choice(*SEVERITIES)(severity, f"{path}.{number}")
    return result


def _cdi_kind(value: Any, path: str) -> str:
    if not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*/[A-Za-z]([-_A-Za-z0-9]*[A-Za-z0-9])?", string(value, path)):
        raise ConfigError(f"{path}: {describe(value)} is not a CDI kind such as nvidia.com/gpu")
    return str(value)


MOST_REPLICAS = 4096
"""A message to the kubelet holds 4 MiB, about 70,000 devices; what is more would never arrive."""

_SHARING = mapping({
    "renameByDefault": boolean,
    "failRequestsGreaterThanOne": boolean,
    "resources": list_of(mapping(
        {"name": _resource, "rename": _resource, "devices": _devices, "replicas": integer(2, MOST_REPLICAS)},
        required=("name", "replicas"),
    )),
})  # fmt: skip
_PATTERNS = list_of(mapping({"pattern": string, "name": _resource}, required=("pattern", "name")))
_WITHOUT_FLAG: dict[str, Check] = {
    # a file that gpu-feature-discovery shares names the place in its own pod
    "flags.gfd.outputFile": string,
    "flags.gfd.oneshot": boolean,
    "flags.gfd.sleepInterval": duration,
    "resources": mapping({"gpus": _PATTERNS, "mig": _PATTERNS}),
    "sharing": mapping({"timeSlicing": _SHARING, "mps": _SHARING}),
    # ours alone; NVIDIA's plugin does not know it
    "kubegpu": mapping({
        "distinctGpus": boolean,
        "gpus": mapping({"include": list_of(_selector), "exclude": list_of(_selector)}),
        "cdiKind": _cdi_kind,
        "health": mapping({
            "xids": _severities,
            "ignore": list_of(choice(*checks.CODES)),
            "quietPeriod": seconds,
            "longestHold": seconds,
        }),
    }),
}  # fmt: skip


def _file_check() -> Check:
    """The check of the whole file, from the paths above."""
    tree: dict[str, Any] = {}
    checks = {"version": choice("v1"), **{option.path: option.check for option in OPTIONS if option.path}}
    checks.update(_WITHOUT_FLAG)
    for path, check in checks.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = check

    def build(node: Mapping[str, Any]) -> Check:
        return mapping({key: build(sub) if isinstance(sub, dict) else sub for key, sub in node.items()})

    return build(tree)


check_file: Check = _file_check()
"""Checks a whole file and returns it with nulls left out; raises ConfigError."""


def refusals(content: Mapping[str, Any]) -> list[str]:
    """What a checked file asks for that has no flag, and that this version does not do or that contradicts itself."""
    found = []
    sharing = content.get("sharing", {})
    if sharing.get("mps", {}).get("resources"):
        found.append(
            "sharing.mps: MPS is not supported: it needs a control daemon for each GPU, that this plugin does not run, "
            "and without it the limits on memory and threads would be promises only; use sharing.timeSlicing"
        )
    owners: dict[tuple[str, str], int] = {}
    for at, entry in enumerate(sharing.get("timeSlicing", {}).get("resources", ())):
        path = f"sharing.timeSlicing.resources[{at}]"
        named = entry.get("devices")
        for device in named if isinstance(named, tuple) else ("",):
            before = owners.setdefault((entry["name"], device), at)
            if before != at:
                what = f"device {device}" if device else f"{entry['name']} without a list of devices"
                found.append(f"{path}: {what} stands in resources[{before}] already")
    return found


def rules(content: Mapping[str, Any], mig_strategy: str) -> Rules:
    """What a checked file says about resources."""
    named = content.get("resources", {})
    slicing = content.get("sharing", {}).get("timeSlicing", {})
    suffix = SHARED_SUFFIX if slicing.get("renameByDefault") else ""
    gpus = content.get("kubegpu", {}).get("gpus", {})
    return Rules(
        mig_strategy=mig_strategy,
        gpu_names=tuple(NamePattern(**entry) for entry in named.get("gpus", ())),
        mig_names=tuple(NamePattern(**entry) for entry in named.get("mig", ())),
        shared=tuple(
            Shared(entry["name"], entry.get("rename", entry["name"] + suffix), entry["replicas"], entry.get("devices"))
            for entry in slicing.get("resources", ())
        ),
        single_requests=slicing.get("failRequestsGreaterThanOne", False),
        include=tuple(gpus.get("include", ())),
        exclude=tuple(gpus.get("exclude", ())),
    )
