"""The Docker Engine of this machine, through its command line."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any


class DockerError(RuntimeError):
    """A docker command failed; the text is its own last words."""


def run(*arguments: str, stdin: IO[bytes] | None = None, timeout: float | None = None) -> str:
    """Runs ``docker ARGUMENTS`` and returns its standard output, stripped. Raises DockerError."""
    result = subprocess.run(
        ["docker", *arguments],
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
        env=_classic_builder_environment(),
    )
    if result.returncode != 0:
        detail = result.stderr.decode(errors="replace").strip() or result.stdout.decode(errors="replace").strip()
        raise DockerError(f"docker {' '.join(arguments[:3])} …: {detail[-2000:]}")
    return result.stdout.decode(errors="replace").strip()


def _classic_builder_environment() -> dict[str, str]:
    # The classic builder needs no plugin; a bare engine often has no buildx.
    return {**os.environ, "DOCKER_BUILDKIT": "0"}


def succeeds(*arguments: str, timeout: float | None = None) -> bool:
    try:
        run(*arguments, timeout=timeout)
    except (DockerError, subprocess.TimeoutExpired, FileNotFoundError):
        return False
    return True


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """What ``docker KIND inspect NAME`` says, or None where there is no such object."""
    try:
        return dict(json.loads(run(kind, "inspect", name))[0])
    except DockerError:
        return None


def build(context: Path, dockerfile: Path, target: str, tag: str, **arguments: str) -> None:
    build_arguments = [item for key, value in arguments.items() for item in ("--build-arg", f"{key}={value}")]
    run(
        "build",
        "-q",
        "--force-rm",
        "-f",
        str(dockerfile),
        "--target",
        target,
        "-t",
        tag,
        *build_arguments,
        str(context),
    )
