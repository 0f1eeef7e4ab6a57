"""nvidia-devplugin labels: print the labels of this node."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ..labels.feature_labels import feature_file
from ..labels.label_writer import NodeLabels
from .common import current, read_driver


def run(arguments: Sequence[str], parser: argparse.ArgumentParser) -> int:
    parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print the labels")
    flags = vars(parser.parse_args(arguments))
    output = flags.pop("output")
    config = current(flags)
    inventory = read_driver(config)
    if inventory is None:
        return 1
    node = NodeLabels(config)
    node.update(inventory.gpus, inventory.driver_version, inventory.cuda_version)
    print(json.dumps(node.current, indent=2) + "\n" if output == "json" else feature_file(node.current), end="")
    return 0
