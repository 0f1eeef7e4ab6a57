"""Our dataclasses against the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.model import Gpu
from nvidia_devplugin.values import dataclass
from tests.unit.devplugin.strategies import gpu


class Shape:
    """Fields of each kind."""

    a: int
    b: str = "b"
    c: tuple[int, ...] = ()
    d: dict[str, int] = dataclasses.field(default_factory=dict)


def made(decorate: Any) -> Any:
    return decorate(type("Shape", (), {"__doc__": None, **{k: v for k, v in vars(Shape).items() if k != "__dict__"}}))


OURS = made(dataclass(frozen=True))
THEIRS = made(dataclasses.dataclass(frozen=True))
ARGUMENTS = st.tuples(
    st.lists(st.integers(0, 3), max_size=5), st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3))
)


def outcome(cls: Any, arguments: tuple[list[int], dict[str, int]]) -> Any:
    args, kwargs = arguments
    try:
        return dataclasses.asdict(cls(*args, **kwargs))
    except TypeError:
        return TypeError


@given(ARGUMENTS)
def test_the_same_arguments_make_the_same_value(arguments):
    assert outcome(OURS, arguments) == outcome(THEIRS, arguments)


@given(ARGUMENTS, ARGUMENTS)
def test_what_is_equal_there_is_equal_here(one, other):
    results = []
    for cls in (OURS, THEIRS):
        try:
            first, second = cls(*one[0], **one[1]), cls(*other[0], **other[1])
        except TypeError:
            return
        results.append((first == second, first != second, first == 1))
        if first == second and first.d == 0:
            assert hash(first) == hash(second)
        assert repr(first).partition("(")[2] == repr(THEIRS(*one[0], **one[1])).partition("(")[2]
    assert results[0] == results[1]


def test_a_default_that_is_made_is_made_each_time():
    assert OURS(1).d is not OURS(1).d


def test_it_is_frozen():
    value = OURS(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'a'"):
        value.a = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'a'"):
        del value.a
    assert value.a == 1
    with pytest.raises(TypeError, match="values are frozen"):
        dataclass(frozen=False)


def test_values_can_be_replaced_copied_and_kept():
    one = gpu(0)
    assert isinstance(one, Gpu)
    assert dataclasses.replace(one, index=7) == dataclasses.replace(gpu(0), index=7) != one
    assert {one: 1}[gpu(0)] == 1
    for same in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301
        assert same == one
    assert one != gpu(1)
    assert {field.name for field in dataclasses.fields(one)} >= {"uuid", "index"}
