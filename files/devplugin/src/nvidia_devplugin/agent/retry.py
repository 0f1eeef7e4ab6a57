"""When to try again what failed, and when to write again what was undone. Pure but for the random number."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 60.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 300.0

Changes = Mapping[str, Mapping[str, str | None]]
"""Metadata to merge into the node: labels and annotations by key; None removes one."""


class Retry:
    """Retries with growing delays. They are random, so that a thousand nodes do not retry at the same time.

    failures: failed attempts in a row. at: the earliest time of the next attempt.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self.failures = 0
        self.at = 0.0

    def failed(self, now: float, retry_after: float | None = None) -> float:
        """The seconds to wait. retry_after: the minimum that the server asked for."""
        delay = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 20))
        delay *= 0.5 + self._jitter() / 2
        if retry_after is not None:
            delay = min(max(delay, retry_after), 10 * LONGEST_SECONDS)
        self.failures += 1
        self.at = now + delay
        return delay

    def succeeded(self, now: float) -> None:
        """The next attempt may follow at once."""
        self.failures = 0
        self.at = now


class WritePace:
    """Limits how often the node is written, more and more if others undo what was written.

    reverts: how many times in a row the same changes were undone and written again. at: the earliest time of the next
    write.
    """

    def __init__(self) -> None:
        self.reverts = 0
        self.at = -math.inf
        self._written: dict[tuple[str, str], str | None] = {}
        self._wrote_at = -math.inf
        self._undone_at = math.inf

    @property
    def pause(self) -> float:
        """Seconds from the last write until it is repeated if it is undone."""
        return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self.reverts, 20))

    def due(self, changes: Changes, now: float) -> bool:
        """Whether `changes`, by which the node differs from what is wanted, should be written now."""
        self._undone_at = min(self._undone_at, now) if changes else math.inf
        self.at = self._wrote_at + (self.pause if self._repeats(changes) else FIRST_PAUSE_SECONDS)
        return bool(changes) and now >= self.at

    def wrote(self, changes: Changes, now: float) -> None:
        """Note that `changes` were written."""
        if not self._repeats(changes):
            self.reverts = 0
        elif self._undone_at - self._wrote_at >= LONGEST_PAUSE_SECONDS:
            self.reverts = 1  # the last write lasted: this is another cause
        else:
            self.reverts += 1
        self._written.update(_flat(changes))
        self._wrote_at, self._undone_at = now, math.inf

    def _repeats(self, changes: Changes) -> bool:
        """Whether all of `changes` were written before, with the same values."""
        return _flat(changes).items() <= self._written.items()


def _flat(changes: Changes) -> dict[tuple[str, str], str | None]:
    return {(kind, key): value for kind, values in changes.items() for key, value in values.items()}
