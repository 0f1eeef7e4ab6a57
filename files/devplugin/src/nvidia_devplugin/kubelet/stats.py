"""What the rooms count while they work. Plain numbers: metrics reads them when somebody asks."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
"""Upper bounds in seconds: from a call that is answered from memory to one that somebody waits for."""


class Histogram:
    """Durations in seconds. counts: one for each bound, not cumulated, and one for what is above all of them."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class CallStats:
    """Of one resource's plugin. Durations are those of our own work, without the wire."""

    __slots__ = ("allocate", "granted", "prefer", "refused")

    def __init__(self) -> None:
        self.granted = 0
        self.refused = 0
        self.allocate = Histogram()
        self.prefer = Histogram()


class RegistrationStats:
    """Of one resource. restarts: how often another kubelet than the last was registered with."""

    __slots__ = ("failures", "registrations", "restarts", "seconds")

    def __init__(self) -> None:
        self.registrations = 0
        self.failures = 0
        self.restarts = 0
        self.seconds = Histogram()
