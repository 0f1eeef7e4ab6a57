"""The Go release that an engine is built with.

A Go command of 1.21 or later fetches other releases itself, as modules that it checks against Go's checksum database
(GOTOOLCHAIN). Any such command serves: the one in PATH, else Debian's package, unpacked into the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.sim.cluster import paths
from tests.sim.cluster.progress import Say

from . import EngineError, debian

SUITE, SERIES = "trixie", "1.24"
"""Where Debian's own Go comes from: release 13, whose Go needs a C library no later than Debian 12 has."""


def ensure(say: Say) -> Path:
    """A Go command that can fetch the pinned releases. Raises EngineError."""
    if (found := shutil.which("go")) and _fetches_releases(Path(found)):
        return Path(found)
    root = paths.cache() / "go" / f"debian-{SERIES}"
    command = root / "usr/lib" / f"go-{SERIES}" / "bin/go"
    if not command.exists():
        say(f"no Go >= 1.21 in PATH: unpacking Debian's {SERIES} into the cache")
        try:
            debian.unpack([f"golang-{SERIES}-go", f"golang-{SERIES}-src"], SUITE, root)
        except EngineError as error:
            raise EngineError(
                f"install Go 1.21 or later (https://go.dev/doc/install), none is here: {error}"
            ) from error
        # The package has its sources and its pack tools in places of their own, linked by absolute paths.
        home = root / "usr/lib" / f"go-{SERIES}"
        for link in [path for path in home.iterdir() if path.is_symlink()]:
            target = link.readlink()
            if target.is_absolute():
                link.unlink()
                link.symlink_to(root / target.relative_to("/"))
    return command


def environment(command: Path, release: str) -> dict[str, str]:
    """The environment for a build with Go ``release``; its caches are below ours, so that clean-up finds them."""
    # what a user has set for the network stays, what steers a build does not
    steering = re.compile(r"GO(?!PROXY|SUMDB|NOSUMDB|PRIVATE|INSECURE)")
    kept = {key: value for key, value in os.environ.items() if not steering.match(key)}
    cache = paths.cache() / "go"
    return {
        **kept,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "GOTOOLCHAIN": f"go{release}",
        "GOFLAGS": "-mod=readonly -modcacherw -trimpath -buildvcs=false",
        "GOCACHE": str(cache / "build"),
        "GOMODCACHE": str(cache / "modules"),
        "GOWORK": "off",
        "GOENV": "off",
    }


def _fetches_releases(command: Path) -> bool:
    own = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run([command, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=own)
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return bool(found) and (int(found[1]), int(found[2])) >= (1, 21)  # type: ignore[index]
