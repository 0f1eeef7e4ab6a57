"""Counters of the kubelet's calls. Plain numbers, which the metrics read when Prometheus scrapes."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
"""Upper bounds of the buckets, in seconds: from an answer out of memory to a delay that a person notices."""


class Histogram:
    """Durations in seconds. counts: one per bucket, not cumulative; the last is for values above all bounds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class CallStats:
    """Calls for one resource: containers granted and refused, durations without the transport."""

    __slots__ = ("allocate", "granted", "prefer", "refused")

    def __init__(self) -> None:
        self.granted = 0
        self.refused = 0
        self.allocate = Histogram()
        self.prefer = Histogram()


class RegistrationStats:
    """Registrations of one resource. restarts: registrations with a kubelet that replaced the previous one."""

    __slots__ = ("failures", "registrations", "restarts", "seconds")

    def __init__(self) -> None:
        self.registrations = 0
        self.failures = 0
        self.restarts = 0
        self.seconds = Histogram()
