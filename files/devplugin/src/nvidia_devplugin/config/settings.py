"""Settings from the config file, the environment and flags; the later wins.

The file has the format of NVIDIA's device plugin. An unknown key or a wrong type is an error that names its path in
the file. What this version cannot do is refused here, by every way it can be asked for, and never ignored silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checks import ConfigError
from .options import OPTIONS, Option, check_file, refusals, rules
from .resource_rules import Rules

__all__ = ["Config", "ConfigError", "load", "parse", "resolve"]

_MOST_TOLD = 20
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


@dataclass(frozen=True)
class Config:
    """All settings, checked.

    xids_disabled, xids_enabled: the environment's lists as written; health parses them.
    inert: paths or names of settings that were given and have no effect in this version.
    config_file, config_directory: where the file came from, or is to be chosen from; at most one of them.
    """

    config_file: Path | None = None
    config_directory: Path | None = None
    default_config: str = ""
    fallback_strategies: tuple[str, ...] = ("named", "single")
    fail_on_init_error: bool = True
    pass_device_specs: bool = False
    device_list_strategies: tuple[str, ...] = ("envvar",)
    device_id_strategy: str = "uuid"
    gdrcopy_enabled: bool = False
    gds_enabled: bool = False
    mofed_enabled: bool = False
    imex_channels: tuple[str, ...] = ()
    imex_required: bool = False
    cdi_annotation_prefix: str = "cdi.k8s.io/"
    cdi_kind: str = "nvidia.com/gpu"
    shared_policy: str = "distributed"
    distinct_gpus: bool = False
    rules: Rules = field(default_factory=Rules)
    driver_root: str = "/"
    dev_root: str = "/"
    kubelet_socket: Path = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
    http_address: tuple[str, int] | None = None
    pod_resources_socket: Path | None = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
    gpu_telemetry: bool = False
    labels_file: Path | None = None
    control_directory: Path | None = None
    labels_timestamp: bool = True
    machine_type_file: Path | None = Path("/sys/class/dmi/id/product_name")
    log_level: str = "info"
    log_format: str = "text"
    xids_disabled: str = ""
    xids_enabled: str = ""
    xid_severities: tuple[tuple[int, str], ...] = ()
    faults_ignored: tuple[str, ...] = ()
    quiet_seconds: float = 60.0
    longest_hold_seconds: float = 3600.0
    inert: tuple[str, ...] = ()


def load(flags: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """Settings from `flags` (values by option key, such as mig_strategy; and config_file) and `env`.

    Raises ConfigError.
    """
    path = _file(flags, env)
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = parse(path.read_bytes())
        except (OSError, ConfigError) as error:
            raise ConfigError(f"config file {path}: {getattr(error, 'strerror', None) or error}") from error
    return resolve(content, env, flags)


def parse(data: bytes) -> dict[str, Any]:
    """The checked content of a config file, nulls left out. Raises ConfigError for every content that is not right."""
    import yaml  # a daemon without a config file does not pay for it

    from ..yamlfile import MALFORMED, load_yaml

    try:
        content = load_yaml(data)
    except (yaml.YAMLError, *MALFORMED) as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from error
    checked: dict[str, Any] = check_file({} if content is None else content, "")
    return checked


def resolve(content: Mapping[str, Any], env: Mapping[str, str], flags: Mapping[str, str]) -> Config:
    """Flag > environment > file > default, and the refusals. `content` is what parse() returned."""
    values: dict[str, Any] = {}
    gfd = content.get("flags", {}).get("gfd", {})
    inert: list[str] = [f"flags.gfd.{key}" for key in ("oneshot", "outputFile", "sleepInterval") if key in gfd]
    refused = refusals(content)
    for option in OPTIONS:
        origin, value = _given(option, content, env, flags)
        if origin is not None and option.allowed is not None and value not in option.allowed:
            shown = " or ".join(_shown(allowed) for allowed in option.allowed)
            refused.append(f"{origin}: {_shown(value)} is not supported by this version; use {shown}")
        if origin is not None and option.inert and value != option.default:
            inert.append(origin)
        values[option.key] = value
    path = _file(flags, env)
    if path is not None and values["config_file_srcdir"]:
        refused.append("--config-file and --config-file-srcdir: one file, or a directory of named ones")
    if not values["device_list_strategy"]:
        refused.append("flags.plugin.deviceListStrategy: an empty list would give no container its devices")
    if refused:
        more = [f"and {len(refused) - _MOST_TOLD} more"] if len(refused) > _MOST_TOLD else []
        raise ConfigError("; ".join(refused[:_MOST_TOLD] + more))
    ours = content.get("kubegpu", {})
    health = ours.get("health", {})
    return Config(
        config_file=path,
        config_directory=Path(values["config_file_srcdir"]) if values["config_file_srcdir"] else None,
        default_config=values["default_config"],
        fallback_strategies=tuple(values["fallback_strategies"]),
        fail_on_init_error=values["fail_on_init_error"],
        pass_device_specs=values["pass_device_specs"],
        device_list_strategies=tuple(dict.fromkeys(values["device_list_strategy"])),
        device_id_strategy=values["device_id_strategy"],
        gdrcopy_enabled=values["gdrcopy_enabled"],
        gds_enabled=values["gds_enabled"],
        mofed_enabled=values["mofed_enabled"],
        imex_channels=tuple(dict.fromkeys(values["imex_channel_ids"])),
        imex_required=values["imex_required"],
        cdi_annotation_prefix=values["cdi_annotation_prefix"],
        cdi_kind=ours.get("cdiKind", "nvidia.com/gpu"),
        shared_policy=values["shared_devices_allocation_policy"],
        distinct_gpus=ours.get("distinctGpus", False),
        rules=rules(content, values["mig_strategy"]),
        driver_root=values["driver_root"],
        dev_root=values["dev_root"] or values["driver_root"],
        kubelet_socket=_absolute(values["kubelet_socket"]),
        http_address=_address(values["http_address"]),
        pod_resources_socket=Path(values["pod_resources_socket"]) if values["pod_resources_socket"] else None,
        gpu_telemetry=values["gpu_telemetry"],
        labels_file=Path(values["labels_file"]) if values["labels_file"] else None,
        control_directory=Path(values["control_dir"]) if values["control_dir"] else None,
        labels_timestamp=not values["no_timestamp"],
        machine_type_file=Path(values["machine_type_file"]) if values["machine_type_file"] else None,
        log_level=values["log_level"],
        log_format=values["log_format"],
        xids_disabled=env.get("DP_DISABLE_HEALTHCHECKS", ""),
        xids_enabled=env.get("DP_ENABLE_HEALTHCHECKS", ""),
        xid_severities=tuple(health.get("xids", {}).items()),
        faults_ignored=tuple(health.get("ignore", ())),
        quiet_seconds=health.get("quietPeriod", Config.quiet_seconds),
        longest_hold_seconds=health.get("longestHold", Config.longest_hold_seconds),
        inert=tuple(inert),
    )


def _file(flags: Mapping[str, str], env: Mapping[str, str]) -> Path | None:
    path = flags.get("config_file") or env.get("CONFIG_FILE")
    return Path(path) if path else None


def _given(
    option: Option, content: Mapping[str, Any], env: Mapping[str, str], flags: Mapping[str, str]
) -> tuple[str | None, Any]:
    """Where the value comes from (None: the default), and the value."""
    if option.key in flags:
        origin = f"--{option.flag}"
        return origin, _from_text(option, flags[option.key], origin)
    for name in option.env:
        if env.get(name):  # an empty variable counts as unset, so that a manifest can leave it blank
            origin = f"environment variable {name}"
            return origin, _from_text(option, env[name], origin)
    node: Any = content
    for key in option.path.split(".") if option.path else ("",):
        node = node.get(key) if isinstance(node, Mapping) else None
    return (None, option.default) if node is None else (option.path, node)


def _from_text(option: Option, text: str, origin: str) -> Any:
    if not option.is_boolean:
        return option.check(text, origin)
    if text not in _BOOLEANS:
        raise ConfigError(f"{origin}: {text!r} is not a boolean (true or false)")
    return _BOOLEANS[text]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (",".join(value) or "none at all") if isinstance(value, list) else str(value)


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ConfigError(f"--kubelet-socket: {text!r} is not an absolute path")
    # sun_path holds 108 bytes with the terminating zero, and our own socket's name is the longer one
    if len(bytes(path.parent)) > 80:
        raise ConfigError(f"--kubelet-socket: the directory {path.parent} is too long for a socket (80 bytes)")
    return path


def _address(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"--http-address: {text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
