"""YAML that refuses what the safe loader lets pass: a key that stands twice in one mapping."""

from __future__ import annotations

from typing import Any

import yaml

MALFORMED = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError)
"""What PyYAML raises beside its own errors: whatever its conversions do, of a tag that does not fit, or a date."""

# libyaml's parser starts faster; both build the same values
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _dummy in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key.value, str):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice in one mapping", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


DEEPEST = 32
"""How far a file may be nested. The parser in C calls itself for each level and checks no limit: it would crash."""

MOST_ALIASES = 32
"""Mappings that are merged into others grow by a power of their number: a few lines could fill all memory."""


def load_yaml(data: bytes) -> Any:
    """The one document in `data`. Raises yaml.YAMLError, or one of MALFORMED."""
    depth = aliases = 0
    for event in yaml.parse(data, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > MOST_ALIASES:
                raise ValueError(f"more than {MOST_ALIASES} aliases")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"nested more than {DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return yaml.load(data, Loader=_Loader)  # noqa: S506 a safe loader
