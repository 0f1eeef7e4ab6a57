"""The best-connected sets of GPUs, exactly and fast. Pure.

Real machines are wired as trees: all pairs across two PCIe switches, or across two CPUs, are connected alike. There the
best sets of a whole follow from those of its parts, size by size, and no set has to be looked at. What is wired without
such regularity (a mesh of NVLinks) is a block of which all sets are scored, by tables that double with each GPU.

The worth of a set is one integer of three fields: the scores of all pairs within it, those of all pairs that it leaves,
and which GPUs it takes, the lowest number as the highest bit. All three add up over the parts, so that one sum and one
comparison decide, and the answer can be read off the worth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import add

EXACT = 16
"""A block without regularity is searched exactly up to so many free GPUs (65536 sets); a larger one step by step."""


@dataclass(frozen=True)
class Part:
    """Some GPUs and how they are wired.

    gpus: their numbers. parts: what they consist of; all pairs across have the same score. Empty for a single GPU and
    for a block without regularity.
    """

    gpus: tuple[int, ...]
    parts: tuple[Part, ...] = ()
    score: int = 0


def decompose(scores: Sequence[Sequence[int]], gpus: Sequence[int]) -> Part:
    """GPUs as a tree, as far as one score holds for all pairs across the parts."""
    levels = sorted({scores[a][b] for at, a in enumerate(gpus) for b in gpus[at + 1 :]})
    for level in levels:
        groups = _linked(scores, gpus, level)
        if len(groups) > 1:
            return Part(tuple(gpus), tuple(decompose(scores, group) for group in groups), level)
    return Part(tuple(gpus))


def _grown(without: list[list[int]], joined: list[Iterable[int]], must: bool) -> list[list[int]]:
    """Values of sets, by size, once one more GPU may be in them, or must be: `joined` are those of the sets with it."""
    stay: list[list[int]] = [[] for _size in without] if must else without
    return [stay[0], *([*some, *more] for some, more in zip([*stay[1:], []], joined, strict=True))]


def _linked(scores: Sequence[Sequence[int]], gpus: Sequence[int], level: int) -> list[list[int]]:
    """Groups of GPUs that are linked, directly or through others, by any score but `level`."""
    groups: list[list[int]] = []
    left = list(gpus)
    while left:
        group = [left.pop(0)]
        for each in group:
            near = [other for other in left if scores[each][other] != level]
            group += near
            left = [other for other in left if other not in near]
        groups.append(sorted(group))
    return groups


class TopologySolver:
    """Answers for GPUs by the scores of their pairs: a symmetric matrix of numbers >= 0."""

    def __init__(self, scores: Sequence[Sequence[int]]) -> None:
        self._scores = scores
        self._count = len(scores)
        width = sum(map(sum, scores)).bit_length()
        self._outside = self._count  # where the field of what is left begins, counted in bits
        self._inside = self._count + width
        self._impossible = -(1 << (self._inside + width + 1))
        self._tree = decompose(scores, range(self._count))

    def best(self, offered: Collection[int], must: Collection[int]) -> list[int]:
        """The worths of the best sets out of `offered` that contain `must`, by size; negative if there is none."""
        return self._solve(self._tree, frozenset(offered), frozenset(must))

    def members(self, worth: int) -> list[int]:
        """The numbers of the GPUs of a set, by its worth."""
        last = self._count - 1
        return [each for each in range(self._count) if worth >> (last - each) & 1]

    def _bit(self, gpu: int) -> int:
        return 1 << (self._count - 1 - gpu)

    def _solve(self, part: Part, offered: frozenset[int], must: frozenset[int]) -> list[int]:
        if part.parts:
            total = [0]
            for each in part.parts:
                total = self._joined(total, self._solve(each, offered, must), part.score)
            return total
        gpus = [each for each in part.gpus if each in offered]
        if len(gpus) == 1:
            return [self._impossible if gpus[0] in must else 0, self._bit(gpus[0])]
        if len(gpus) > EXACT:
            return self._climb(gpus, must)
        return self._block(gpus, must) if gpus else [0]

    def _joined(self, one: list[int], other: list[int], score: int) -> list[int]:
        """Of two parts and the score of each pair across them."""
        inside, outside = score << self._inside, score << self._outside
        result = [self._impossible] * (len(one) + len(other) - 1)
        for n, first in enumerate(one):
            if first < 0:
                continue
            left = (len(one) - 1 - n) * outside
            for m, second in enumerate(other):
                worth = first + second + n * m * inside + (len(other) - 1 - m) * left
                if worth > result[n + m]:
                    result[n + m] = worth
        return result

    def _block(self, gpus: Sequence[int], must: frozenset[int]) -> list[int]:
        """All sets of these, by size, that contain `must`.

        What a set leaves has as many points as all, less those of its members' pairs, plus those within it, which were
        taken off twice. So a worth grows by one sum for each GPU that joins: its own share and that of its pairs. Both
        are kept as lists by size, in the same order, which leaves no work but additions and one maximum for each size.
        """
        pair = (1 << self._inside) + (1 << self._outside)
        points = [sum(self._scores[gpu][other] for other in gpus) for gpu in gpus]
        worths = [[sum(points) // 2 << self._outside]]
        for at, gpu in enumerate(gpus):
            joining = [[self._bit(gpu) - (points[at] << self._outside)]]
            for other in gpus[:at]:
                share = self._scores[gpu][other] * pair
                joining = _grown(joining, [map(share.__add__, some) for some in joining], other in must)
            worths = _grown(worths, list(map(map, repeat(add), worths, joining)), gpu in must)
        return [max(some, default=self._impossible) for some in worths]

    def _climb(self, gpus: Sequence[int], must: frozenset[int]) -> list[int]:
        """Good sets of a block that is too large to try all: each grown from the one before, then mended by swaps."""
        fixed = [gpu for gpu in gpus if gpu in must]
        chosen = list(fixed)
        result = [self._impossible] * len(fixed) + [self._worth(chosen, gpus)]
        while len(chosen) < len(gpus):
            left = [gpu for gpu in gpus if gpu not in chosen]
            chosen = max(([*chosen, gpu] for gpu in left), key=lambda found: self._worth(found, gpus))
            better = True
            while better:
                swaps = (
                    [*(each for each in chosen if each != out), into]
                    for out in chosen
                    if out not in must
                    for into in gpus
                    if into not in chosen
                )
                best = max(swaps, key=lambda found: self._worth(found, gpus), default=chosen)
                better = self._worth(best, gpus) > self._worth(chosen, gpus)
                chosen = best if better else chosen
            result.append(self._worth(chosen, gpus))
        return result

    def _worth(self, chosen: Collection[int], gpus: Sequence[int]) -> int:
        def within(some: Sequence[int]) -> int:
            return sum(self._scores[a][b] for at, a in enumerate(some) for b in some[at + 1 :])

        inside, outside = within(list(chosen)), within([gpu for gpu in gpus if gpu not in chosen])
        return (inside << self._inside) + (outside << self._outside) + sum(map(self._bit, chosen))
