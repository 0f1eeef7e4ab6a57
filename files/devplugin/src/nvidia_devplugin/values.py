"""Frozen dataclasses whose classes are cheap to make.

The standard library compiles six functions for each class: a quarter of the time that all imports of this package take,
with some forty classes. Here the methods are shared; the fields are the standard library's, so that its replace() and
fields() work as ever. A type checker sees the real thing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool) -> Callable[[type[T]], type[T]]:
        """As dataclasses.dataclass(frozen=True), which is the only use; instances are as fast but for being made."""
        if not frozen:
            raise TypeError("values are frozen")
        return _value


def _value(cls: type[T]) -> type[T]:
    cls.__doc__ = cls.__doc__ or cls.__name__  # or a signature is worked out for it, under python -OO
    dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = tuple(field.name for field in fields)
    wanted = frozenset(names)
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    factories = [
        (field.name, field.default_factory) for field in fields if field.default_factory is not dataclasses.MISSING
    ]
    content: Callable[[Any], Any] = attrgetter(*names)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        values = kwargs
        if args:
            values = {**dict(zip(names, args, strict=False)), **kwargs}
            if len(values) != len(args) + len(kwargs):
                raise TypeError(f"{cls.__name__}: too many arguments, or one twice")
        if len(values) != len(names):
            values = {**defaults, **values}
            for name, make in factories:
                if name not in values:
                    values[name] = make()
        if values.keys() != wanted:
            raise TypeError(f"{cls.__name__}: missing or unknown: {', '.join(sorted(values.keys() ^ wanted))}")
        self.__dict__.update(values)

    def equal(self: Any, other: object) -> Any:
        return content(self) == content(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(content(self))

    methods = {
        "__init__": init,
        "__eq__": equal,
        "__hash__": hashed,
        "__repr__": _repr,
        "__setattr__": _set,
        "__delattr__": _delete,
    }
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
