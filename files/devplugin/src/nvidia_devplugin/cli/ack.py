"""nvidia-devplugin ack GPU: tell the running daemon that a GPU or MIG device is fit for use again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..control.server import ask
from .common import daemon_directory, no_daemon, report


def run(arguments: Sequence[str], parser: argparse.ArgumentParser) -> int:
    parser.add_argument("gpu", metavar="GPU", help="UUID or index of the GPU or MIG device")
    flags = vars(parser.parse_args(arguments))
    gpu = flags.pop("gpu")
    where = daemon_directory(flags)
    try:
        uuid = ask(where, f"ack {gpu}")
    except ValueError as error:
        report(error)
        return 1
    except OSError as error:
        report(no_daemon(where, error))
        return 1
    print(f"{uuid}: acknowledged")
    return 0
