"""One setting: all that there is to know of it, in one entry.

The entries are the fields of the dataclasses that hold the values (table.py, resource_rules.py). Flags, environment,
checks of the file, --help and the README's tables come from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .checks import Check, ConfigError, describe

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


@dataclass(frozen=True)
class Setting:
    """Where a value comes from, and what it may be.

    check: from what the file, a flag or a variable has to what the field holds. default: as it would be in the file.
    flag, aliases: without dashes. env: the first variable that is not empty counts. path: in the file.
    name: the field; empty if the value goes nowhere. inert: accepted, but without effect here.
    """

    check: Check
    default: Any
    help: str
    flag: str = ""
    aliases: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    path: str = ""
    name: str = ""
    inert: bool = False

    @property
    def key(self) -> str:
        """The flag as argparse stores it."""
        return self.flag.replace("-", "_")

    @property
    def value(self) -> Any:
        """What the field holds by default."""
        return self.check(self.default, self.flag or self.path or self.env[0])

    @property
    def is_boolean(self) -> bool:
        return isinstance(self.default, bool)

    @property
    def is_list(self) -> bool:
        return isinstance(self.default, list)

    def find(
        self, content: Mapping[str, Any], env: Mapping[str, str], flags: Mapping[str, str]
    ) -> tuple[str | None, Any]:
        """Where the value comes from (None: the default), and the value. Raises ConfigError.

        content: of the file, checked. flags: by key.
        """
        if self.flag and self.key in flags:
            origin = f"--{self.flag}"
            return origin, self._from_text(flags[self.key], origin)
        for variable in self.env:
            if env.get(variable):  # an empty variable counts as unset, so that a manifest can leave it blank
                origin = f"environment variable {variable}"
                return origin, self._from_text(env[variable], origin)
        node: Any = content
        for key in self.path.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        return (None, self.value) if node is None else (self.path, node)

    def _from_text(self, text: str, origin: str) -> Any:
        if self.is_boolean:
            if text not in _BOOLEANS:
                raise ConfigError(f"{origin}: {describe(text)} is not a boolean (true or false)")
            return self.check(_BOOLEANS[text], origin)
        number = isinstance(self.default, int) and re.fullmatch("[0-9]{1,9}", text)
        return self.check(int(text) if number else text, origin)


def entry(check: Check, default: Any, text: str, flag: str = "", env: str | None = None, **more: Any) -> Setting:
    """A setting. env: variables, separated by spaces; the flag's name in capitals if left out."""
    names = flag.upper().replace("-", "_") if env is None else env
    return Setting(check, default, text, flag, env=tuple(names.split()), **more)


def setting(*arguments: Any, **more: Any) -> Any:
    """A dataclass' field that holds the value of entry(…)."""
    made = entry(*arguments, **more)
    # pylint: disable-next=invalid-field-call
    return field(default=made.value, metadata={"setting": made})


def settings_of(cls: Any) -> tuple[Setting, ...]:
    """The settings whose values the dataclass `cls` holds."""
    return tuple(replace(each.metadata["setting"], name=each.name) for each in fields(cls) if each.metadata)
