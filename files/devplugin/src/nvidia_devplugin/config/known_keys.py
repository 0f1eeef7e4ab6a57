"""Which keys the config file may have, and where an unknown key was meant to be. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .checks import Check, Keys, ListOf, join
from .setting import Setting


def tree(settings: Sequence[Setting]) -> Keys:
    """The check of a whole file, from the paths of the settings."""
    nested: dict[str, Any] = {}
    for setting in settings:
        if setting.path:
            *parents, last = setting.path.split(".")
            node = nested
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = setting.check

    def build(node: Mapping[str, Any]) -> Keys:
        return Keys({key: build(check) if isinstance(check, dict) else check for key, check in node.items()})

    return build(nested)


def paths(check: Check, path: str = "") -> Iterator[str]:
    """The paths of all keys below `check`; entries of lists are `[]`."""
    if isinstance(check, ListOf):
        yield from paths(check.item, f"{path}[]")
    elif isinstance(check, Keys):
        for key, inner in check.keys.items():
            yield join(path, key)
            yield from paths(inner, join(path, key))


def unknown(value: Any, root: Keys) -> Iterator[str]:
    """A message for each unknown key of the file's content `value`, with where it belongs if that is known."""
    places: dict[str, list[str]] = {}
    for path in paths(root):
        if not path.startswith("sharing.mps."):  # MPS is refused
            places.setdefault(_plain(path.rpartition(".")[2]), []).append(path)

    def below(value: Any, check: Check, path: str) -> Iterator[str]:
        if isinstance(check, ListOf) and isinstance(value, list):
            for index, item in enumerate(value):
                yield from below(item, check.item, f"{path}[{index}]")
        elif isinstance(check, Keys) and isinstance(value, dict):
            for key, inner in value.items():
                if key in check.keys:
                    yield from below(inner, check.keys[key], join(path, key))
                else:
                    yield f"{join(path, key)}: unknown key; {_hint(key, check, path, places)}"

    return below(value, root, "")


def _hint(key: Any, check: Keys, path: str, places: Mapping[str, Sequence[str]]) -> str:
    if isinstance(key, str) and len(key) <= 60:
        here = {_plain(known): known for known in check.keys}
        near = difflib.get_close_matches(_plain(key), here, 1, 0.8)
        if near:
            return f"did you mean {join(path, here[near[0]])}?"
        if _plain(key) in places:
            return f"it belongs at {' or '.join(places[_plain(key)])}"
        near = difflib.get_close_matches(_plain(key), places, 1, 0.8)
        if near:
            return f"did you mean {' or '.join(places[near[0]])}?"
    return f"allowed here: {', '.join(check.keys)}"


def _plain(key: str) -> str:
    """A key without what people write differently: device-list-strategy is as good as deviceListStrategy."""
    return key.replace("-", "").replace("_", "").lower()
