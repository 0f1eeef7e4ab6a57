"""YAML that refuses what the safe loader lets pass: a key that stands twice in one mapping."""

from __future__ import annotations

from typing import Any

import yaml

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


def load_yaml(data: bytes) -> Any:
    """The one document in `data`. Raises yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError."""
    return yaml.load(data, Loader=_Loader)  # noqa: S506 a safe loader
