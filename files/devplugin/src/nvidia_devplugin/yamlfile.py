"""YAML with bounds, that refuses duplicate keys."""

from __future__ import annotations

from typing import Any

import yaml

DEEPEST = 32
"""How deep a file may be nested. libyaml's binding recurses for each level without a limit, and would crash."""

MOST_ALIASES = 32
"""Mappings that are merged into others grow exponentially with their number: a few lines could fill all memory."""

_LONGEST_REASON = 200

# what PyYAML raises beside its own errors: whatever its conversions raise for a tag that does not fit, or for a date
_MALFORMED = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError)

# libyaml's parser starts faster; both build the same values
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _dummy in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key.value, str):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_yaml(data: bytes) -> Any:
    """The one document in `data`. Raises ValueError with a short reason, and line and column where they are known."""
    try:
        _check_bounds(data)
        return yaml.load(data, Loader=_Loader)  # noqa: S506 a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(place + _short(error.problem or error.context or "not valid")) from error
    except (yaml.YAMLError, *_MALFORMED) as error:
        raise ValueError(_short(str(error))) from error


def _check_bounds(data: bytes) -> None:
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


def _short(text: str) -> str:
    text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
