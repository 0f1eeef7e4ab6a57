"""One at a time: what two test processes of this machine must not do at once."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from . import paths


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Waits until no other process holds ``what``, and holds it. The kernel releases it when a process dies."""
    folder = paths.cache() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / what).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
