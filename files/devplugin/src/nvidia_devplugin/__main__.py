"""The command line: nvidia-devplugin, or python -m nvidia_devplugin."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from . import __version__
from .config.settings import ConfigError, load, resolve
from .config.table import SETTINGS
from .log import set_up

COMMANDS = ("validate", "devices", "labels", "ack")


class _Repeated(argparse.Action):
    """A list's flag may be repeated, as with NVIDIA's plugin: the values are joined by commas."""

    def __call__(self, _parser: Any, namespace: argparse.Namespace, values: Any, _flag: str | None = None) -> None:
        before = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, values if before is None else f"{before},{values}")


def parser() -> argparse.ArgumentParser:
    """All flags, from the table of settings. Values stay text: config checks them, wherever they come from."""
    result = argparse.ArgumentParser(
        prog="nvidia-devplugin",
        description="Kubernetes device plugin for NVIDIA GPUs. "
        "A flag overrides its environment variable, which overrides the config file.",
        epilog="Commands: 'validate FILE' checks a config file; 'devices [FLAG …] [--output json]' prints what the "
        "daemon advertises, or would advertise with these flags; 'labels [FLAG …] [--output json]' prints the labels "
        "of this node; 'ack GPU' tells the daemon that a GPU with a fatal fault is fit for use again; 'agent' starts "
        "the process that uses the Kubernetes API on behalf of the daemon ('agent --help').",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    result.add_argument("-v", "--version", action="version", version=__version__)
    without_effect = result.add_argument_group("accepted for NVIDIA's sake, without effect")
    for setting in SETTINGS:
        if not setting.flag:
            continue
        names = [f"--{name}" for name in (setting.flag, *setting.aliases)]
        more: dict[str, Any] = {"metavar": "VALUE"}
        if setting.is_boolean:
            more = {"metavar": "BOOL", "nargs": "?", "const": "true"}
        elif setting.is_list:
            more["action"] = _Repeated
        group = without_effect if setting.inert else result
        group.add_argument(*names, dest=setting.key, help=f"{setting.help} [{', '.join(setting.env)}]", **more)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The process' exit status: 0 stopped by a signal, 1 failed, 2 wrong settings."""
    # process 1 of a container ignores a SIGTERM without a handler; until the daemon's own, there is nothing to clean up
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["agent"]:
        from .agent.command import main as run_agent  # it has TLS, and none of the daemon's libraries

        return run_agent(arguments[1:])
    # NVIDIA's programs are written in Go, whose flags may begin with a single dash
    arguments = [f"-{text}" if re.match("-[a-z]{2}", text) else text for text in arguments]
    try:
        if arguments and arguments[0] in COMMANDS:
            command = import_module(f"{__package__}.cli.{arguments[0]}")
            return int(command.run(arguments[1:], parser()))
        flags = vars(parser().parse_args(arguments))
        config = load(flags, os.environ)
    except ConfigError as error:
        for line in error.lines:
            print(f"nvidia-devplugin: {line}", file=sys.stderr)
        return 2
    set_up(config.log_level, config.log_format)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the daemon logs what fails; grpc's own lines say less
    import asyncio
    from functools import partial

    from .daemon import run

    return asyncio.run(run(config, partial(resolve, env=dict(os.environ), flags=flags)))


def entry() -> NoReturn:
    """Run main and end the process without tearing down the interpreter.

    The thread that reads the driver may be inside NVML: an interpreter that is torn down around it can crash or hang,
    and there is nothing left to do for it.
    """
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    entry()
