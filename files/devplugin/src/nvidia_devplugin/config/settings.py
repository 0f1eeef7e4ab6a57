"""Settings from flags, the environment and the config file; the earlier wins over the later.

The file has the format of NVIDIA's device plugin. Unknown keys, wrong types and what this version cannot do are errors
that name the path in the file, all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checks import ConfigError, collecting
from .known_keys import unknown
from .resource_rules import Rules
from .setting import settings_of
from .table import FILE, SETTINGS, Config

__all__ = ["Config", "ConfigError", "load", "parse", "resolve"]

_CONFIG_FILE = next(setting for setting in SETTINGS if setting.name == "config_file")


def load(flags: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """Settings from `flags` (values by the flag's name with underscores) and `env`. Raises ConfigError."""
    path: Path | None = _CONFIG_FILE.find({}, env, flags)[1]
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = parse(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"config file {path}: {error.strerror or error}") from error
        except ConfigError as error:
            raise ConfigError(*(f"config file {path}: {problem}" for problem in error.problems)) from error
    return resolve(content, env, flags)


def parse(data: bytes) -> dict[str, Any]:
    """The content of a config file, checked and converted, without nulls. Raises ConfigError with all problems."""
    from ..yamlfile import load_yaml  # a daemon without a config file does not need PyYAML

    try:
        content = load_yaml(data)
    except ValueError as error:
        raise ConfigError(f"not YAML: {error}") from error
    content = {} if content is None else content
    problems = list(unknown(content, FILE))
    checked: dict[str, Any] = {}
    with collecting(problems):
        checked = FILE(content, "")
    if problems:
        raise ConfigError(*problems)
    return checked


def resolve(content: Mapping[str, Any], env: Mapping[str, str], flags: Mapping[str, str]) -> Config:
    """All settings. Raises ConfigError with all problems. content: what parse() returned."""
    values: dict[str, Any] = {}
    inert: list[str] = []
    problems: list[str] = []
    for setting in SETTINGS:
        with collecting(problems):
            origin, value = setting.find(content, env, flags)
            if setting.name:
                values[setting.name] = value
            elif setting.inert and origin is not None and value != setting.value:
                inert.append(origin)
    if values.get("config_file") and values.get("config_directory"):
        problems.append("--config-file and --config-file-srcdir: give one file, or a directory of named ones")
    if problems:
        raise ConfigError(*problems)
    rules = Rules(**{setting.name: values.pop(setting.name) for setting in settings_of(Rules)})
    return Config(**values, rules=rules, inert=tuple(inert))
