"""nvidia-devplugin validate FILE: check a config file, with no library but PyYAML and without a driver."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..config.settings import load


def run(arguments: Sequence[str], parser: argparse.ArgumentParser) -> int:
    parser.add_argument("file", metavar="FILE", help="the config file to check")
    flags = vars(parser.parse_args(arguments))
    path = flags.pop("file")
    # the environment of the machine where the file is checked does not matter
    config = load({**flags, "config_file": path}, {})
    notes = (
        ("without effect here", config.inert),
        ("without effect in NVIDIA's plugin", config.rules.ignored_by_nvidia),
    )
    print("; ".join([f"{path}: valid", *(f"{what}: {', '.join(settings)}" for what, settings in notes if settings)]))
    return 0
