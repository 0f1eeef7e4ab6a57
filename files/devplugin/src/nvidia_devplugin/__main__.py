"""The command line: nvidia-devplugin, or python -m nvidia_devplugin."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import __version__
from .config.options import OPTIONS
from .config.settings import ConfigError, load, resolve
from .log import set_up

COMMANDS = ("validate", "devices", "labels", "ack")


def parser() -> argparse.ArgumentParser:
    """All flags, from the table of options. Values stay text: config checks them, wherever they come from."""
    result = argparse.ArgumentParser(
        prog="nvidia-devplugin",
        description="Kubernetes device plugin for NVIDIA GPUs. "
        "A flag wins over its environment variable, and that over the file.",
        epilog="Commands: 'validate FILE' checks a config file; 'devices [FLAG …] [--output json]' prints what this "
        "machine would advertise, 'labels [FLAG …] [--output json]' the labels of its node; 'ack GPU' tells the "
        "running daemon that a GPU with a fatal fault is fit again; 'agent' speaks with the Kubernetes API for the "
        "daemon ('agent --help').",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=_help,
    )
    result.add_argument("--version", action="version", version=__version__)
    result.add_argument(
        "--config-file", metavar="FILE", help="settings in the format of NVIDIA's device plugin [CONFIG_FILE]"
    )
    for option in OPTIONS:
        text = f"{option.help} [{', '.join(option.env)}]"
        if option.is_boolean:
            result.add_argument(f"--{option.flag}", metavar="BOOL", nargs="?", const="true", help=text)
        else:
            result.add_argument(f"--{option.flag}", metavar="VALUE", help=text)
    return result


def _help(prog: str) -> argparse.HelpFormatter:
    """argparse makes one for each argument, and would load shutil with four compression libraries for its width."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (OSError, ValueError):
        columns = 80
    return argparse.HelpFormatter(prog, width=max(columns - 2, 20))


def main(argv: Sequence[str] | None = None) -> int:
    """The process' exit status: 0 stopped by a signal, 1 failed, 2 wrong settings."""
    # process 1 of a container ignores a SIGTERM that nobody handles; until app does, there is nothing to clean up
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["agent"]:
        from .agent.command import main as run_agent  # it has TLS, and none of the daemon's libraries

        return run_agent(arguments[1:])
    command = arguments.pop(0) if arguments and arguments[0] in COMMANDS else ""
    if command:
        from .cli.commands import run as run_command

        return run_command(command, arguments, parser())
    flags = vars(parser().parse_args(arguments))
    try:
        config = load(flags, os.environ)
    except ConfigError as error:
        print(f"nvidia-devplugin: {error}", file=sys.stderr)
        return 2
    set_up(config.log_level, config.log_format)
    import asyncio
    from functools import partial

    from .daemon import run

    return asyncio.run(run(config, partial(resolve, env=dict(os.environ), flags=flags)))


def entry() -> NoReturn:
    """Run main and end the process without tearing down the interpreter.

    The thread that follows the driver may be deep in NVML: an interpreter that is taken down around it can crash or
    hang, and there is nothing left for it to do.
    """
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    entry()
