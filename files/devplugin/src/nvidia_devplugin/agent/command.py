"""The command line of the agent: nvidia-devplugin agent."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..log import FORMATS, LEVELS, Logger, set_up
from .agent import Agent, remove
from .api import Api, ApiError, ApiServer, UnreachableError
from .daemon_client import DaemonClient
from .node_changes import FEATURES

log = Logger("agent")

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    """All flags; the environment gives their defaults."""
    result = argparse.ArgumentParser(
        prog="nvidia-devplugin agent",
        description="Writes to the Kubernetes API for the daemon in the same pod. KUBERNETES_SERVICE_HOST and "
        "KUBERNETES_SERVICE_PORT, which every pod has, name the API server.",
        allow_abbrev=False,
    )
    result.add_argument("--features", default=env.get("DP_AGENT_FEATURES", ""), metavar="LIST",
                        help=f"comma-separated list of {', '.join(FEATURES)} [DP_AGENT_FEATURES]")  # fmt: skip
    result.add_argument("--node-name", default=env.get("NODE_NAME", ""), help="name of this node [NODE_NAME]")
    result.add_argument("--control-dir", type=Path, default=Path(env.get("DP_CONTROL_DIR", "/run/nvidia-devplugin")),
                        help="directory of the daemon's control socket [DP_CONTROL_DIR]")  # fmt: skip
    result.add_argument("--account-dir", type=Path, default=_ACCOUNT,
                        help="directory of the ServiceAccount's token and ca.crt")  # fmt: skip
    result.add_argument("--log-level", choices=LEVELS, default=env.get("DP_LOG_LEVEL", "info"))
    result.add_argument("--log-format", choices=FORMATS, default=env.get("DP_LOG_FORMAT", "text"))
    result.add_argument("--remove", action="store_true",
                        help="remove everything that an agent wrote to the node, and exit")  # fmt: skip
    return result


def main(argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run the agent until a signal, or --remove. Returns the exit status: 0 done, 1 failed, 2 wrong settings."""
    env = os.environ if env is None else env
    usage = parser(env)
    given = usage.parse_args(argv)
    features = [part for part in given.features.replace(",", " ").split() if part]
    unknown = sorted(set(features) - set(FEATURES))
    if unknown:
        usage.error(f"--features: {', '.join(unknown)}: expected some of {', '.join(FEATURES)}")
    if not features and not given.remove:
        usage.error("--features: nothing to do")
    if not given.node_name:
        usage.error("--node-name: the node's name is needed")
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdigit():
        usage.error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name the API server")
    server = ApiServer(host, int(port), given.account_dir / "token", given.account_dir / "ca.crt")
    if given.remove:
        try:
            print("removed" if remove(given.node_name, Api(server)) else "there was nothing to remove")
        except (ApiError, UnreachableError) as error:
            print(f"nvidia-devplugin agent: {error}", file=sys.stderr)
            return 1
        return 0
    set_up(given.log_level, given.log_format)
    log.info("starting", features=",".join(features), node=given.node_name, api=f"{host}:{port}")
    Agent(given.node_name, features, lambda: Api(server), DaemonClient(given.control_dir)).run()
