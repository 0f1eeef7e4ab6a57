"""When to try again what failed. Pure but for the random number."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 60.0


class Retry:
    """One thing that is tried again with growing delays, at random so that a thousand nodes do not come at once."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self.failures = 0
        self.at = 0.0
        """The earliest time of the next attempt."""

    def failed(self, now: float, retry_after: float | None = None) -> float:
        """Seconds to wait. retry_after: what the server asked for, which is waited at least."""
        delay = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 20))
        delay *= 0.5 + self._jitter() / 2
        if retry_after is not None:
            delay = min(max(delay, retry_after), 10 * LONGEST_SECONDS)
        self.failures += 1
        self.at = now + delay
        return delay

    def succeeded(self, now: float, pause: float = 0.0) -> None:
        """pause: seconds until the next attempt, for what could be needed again at once for ever."""
        self.failures = 0
        self.at = now + pause
