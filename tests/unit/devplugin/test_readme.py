from __future__ import annotations

from pathlib import Path

import nvidia_devplugin
from nvidia_devplugin.config.options import OPTIONS

README = Path(nvidia_devplugin.__file__).parents[2] / "README.md"


def row(option) -> str:
    shown = ",".join(option.default) if isinstance(option.default, list) else str(option.default)
    default = f"`{shown.lower() if option.is_boolean else shown}`" if shown else ""
    environment = ", ".join(f"`{name}`" for name in option.env)
    path = f"`{option.path}`" if option.path else ""
    return f"| `--{option.flag}` | {environment} | {path} | {default} | {option.help} |".replace("|  |", "| |")


def test_the_table_of_settings_is_that_of_the_code():
    table = [line for line in README.read_text().splitlines() if line.startswith("| `--")]
    assert table == [row(option) for option in OPTIONS]
