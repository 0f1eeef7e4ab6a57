"""``python -m tests.engines [NAME...]`` builds engines (all of the catalogue) and prints where their programs are."""

from __future__ import annotations

import argparse
import sys
import time

from . import build, golang
from .catalogue import ENGINES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.engines", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *ENGINES], metavar="NAME", help=", ".join(ENGINES))
    started = time.monotonic()

    def say(message: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {message}", file=sys.stderr, flush=True)

    failed = 0
    for name in parser.parse_args().names or ENGINES:
        try:
            print(f"{name} {ENGINES[name].version}: {build.ensure(name, say)}", flush=True)
        except (build.BuildError, golang.GoError) as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
