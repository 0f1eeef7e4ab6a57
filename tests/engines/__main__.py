"""``python -m tests.engines [NAME...]`` builds engines (all of the catalogue) and prints where their programs are."""

from __future__ import annotations

import argparse
import sys

from tests.sim.cluster import progress

from . import EngineError, build
from .catalogue import ENGINES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.engines", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *ENGINES], metavar="NAME", help=", ".join(ENGINES))
    say = progress.timed(sys.stderr)
    failed = 0
    for name in parser.parse_args().names or ENGINES:
        try:
            print(f"{name} {ENGINES[name].version}: {build.ensure(name, say)}", flush=True)
        except EngineError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
