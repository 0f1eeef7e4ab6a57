"""Command line: ``python -m tests.sim.cluster up|down|images|binaries``."""

from __future__ import annotations

import argparse
import sys

from tests.engines import EngineError

from . import binaries, cluster, docker, images, progress, wait


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring a cluster up (or find it up) and print its folder")
    up.add_argument("--name", default="dev")
    up.add_argument("--nodes", type=int, default=1)
    up.add_argument("--gpus", type=int, default=2)
    up.add_argument("--model", default="H100")
    up.add_argument("--driver", default="550.54.15")
    up.add_argument("--no-kubernetes", action="store_true", help="only Docker and containerd on the nodes")
    down = commands.add_parser("down", help="remove a cluster and everything that belongs to it")
    down.add_argument("--name", default="dev")
    commands.add_parser("images", help="build the images")
    commands.add_parser("binaries", help="get Kubernetes' binaries and print their folder")
    arguments = parser.parse_args()

    say = progress.timed(sys.stderr)
    try:
        if arguments.command == "up":
            spec = cluster.Spec(
                arguments.name,
                arguments.nodes,
                arguments.gpus,
                arguments.model,
                arguments.driver,
                not arguments.no_kubernetes,
            )
            print(cluster.up(spec, say))
        elif arguments.command == "down":
            cluster.down(arguments.name)
        elif arguments.command == "images":
            images.ensure(say)
        else:
            print(binaries.ensure(say))
    except (docker.DockerError, binaries.BinariesError, EngineError, wait.NotReadyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
