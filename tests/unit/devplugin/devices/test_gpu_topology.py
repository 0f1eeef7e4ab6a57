"""The best sets of GPUs against all sets, for wirings with and without regularity."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.devices import gpu_topology as wiring
from nvidia_devplugin.devices.gpu_topology import Part, TopologySolver, decompose


def matrix(count, score):
    return [[0 if a == b else score(min(a, b), max(a, b)) for b in range(count)] for a in range(count)]


@st.composite
def wirings(draw, most=9):
    """Any scores; or those of a tree, as PCIe has them; or a tree with some NVLinks across."""
    count = draw(st.integers(0, most))
    pairs = list(itertools.combinations(range(count), 2))
    kind = draw(st.sampled_from(["any", "tree", "mixed"]))
    if kind == "any":
        any_score = {pair: draw(st.integers(0, 4)) for pair in pairs}
        return matrix(count, lambda a, b: any_score[a, b])
    order = draw(st.permutations(range(count)))
    board, cpu = draw(st.sampled_from([(2, 4), (2, 3), (1, 4), (4, 8)]))
    links = set(draw(st.lists(st.sampled_from(pairs), max_size=4))) if kind == "mixed" and pairs else set()

    def score(a, b):
        one, other = order[a], order[b]
        level = 50 if one // board == other // board else 30 if one // cpu == other // cpu else 10
        return level + 100 * ((a, b) in links)

    return matrix(count, score)


def worth(scores, offered, chosen):
    """What is compared: within, left, and the lowest numbers, as a tuple."""

    def total(some):
        return sum(scores[a][b] for a, b in itertools.combinations(some, 2))

    return total(chosen), total(set(offered) - set(chosen)), [-each for each in sorted(chosen)]


def questions(data, scores):
    everything = list(range(len(scores)))
    offered = data.draw(st.lists(st.sampled_from(everything), unique=True)) if everything else []
    must = data.draw(st.lists(st.sampled_from(offered), unique=True)) if offered else []
    return offered, must


@given(wirings(), st.data())
def test_every_size_has_the_best_set_of_all(scores, data):
    offered, must = questions(data, scores)
    made = TopologySolver(scores)
    worths = made.best(offered, must)
    assert len(worths) == len(offered) + 1
    for size, found in enumerate(worths):
        possible = [set(some) for some in itertools.combinations(offered, size) if set(must) <= set(some)]
        assert (found >= 0) == bool(possible)
        if possible:
            best = max(possible, key=lambda chosen: worth(scores, offered, chosen))
            assert set(made.members(found)) == best


@given(wirings(), st.data())
def test_a_block_that_is_too_large_still_gives_sets_of_each_size(scores, data):
    offered, must = questions(data, scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "EXACT", 3)
        made = TopologySolver(scores)
        worths = made.best(offered, must)
    for size, found in enumerate(worths):
        assert (found >= 0) == (size >= len(must))
        if found >= 0:
            chosen = made.members(found)
            assert len(chosen) == size
            assert set(must) <= set(chosen) <= set(offered)


def test_a_wiring_of_sixteen_without_any_regularity():
    scores = matrix(16, lambda a, b: (a * 37 + b * 101 + a * b * 13) % 97)
    made = TopologySolver(scores)
    offered = [at for at in range(16) if at not in (3, 11)]
    found = made.members(made.best(offered, [5])[7])
    possible = (set(some) for some in itertools.combinations(offered, 7) if 5 in some)
    assert set(found) == max(possible, key=lambda chosen: worth(scores, offered, chosen))


@pytest.mark.parametrize(
    ("count", "score", "expected"),
    [
        pytest.param(3, lambda a, b: 10, (10, [0], [1], [2]), id="all-alike"),
        pytest.param(4, lambda a, b: 50 if a // 2 == b // 2 else 10, (10, [0, 1], [2, 3]), id="two-boards"),
        pytest.param(4, lambda a, b: 5 if b == a + 1 else 9, (0, [0, 1, 2, 3]), id="a-chain-is-a-block"),
    ],
)
def test_the_tree_of_a_machine(count, score, expected):
    found = decompose(matrix(count, score), range(count))
    groups = [list(part.gpus) for part in found.parts] or [list(found.gpus)]
    assert (found.score, *groups) == expected


@given(wirings())
def test_one_score_holds_across_parts_and_all_gpus_are_in_the_tree(scores):
    def check(part: Part):
        if part.parts:
            assert sorted(gpu for each in part.parts for gpu in each.gpus) == sorted(part.gpus)
        for one, other in itertools.combinations(part.parts, 2):
            assert {scores[a][b] for a in one.gpus for b in other.gpus} == {part.score}
        for each in part.parts:
            check(each)

    check(decompose(scores, range(len(scores))))
