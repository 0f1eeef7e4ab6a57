"""Writes the tables of settings in the daemon's README: python -m tests.house.settings_table"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nvidia_devplugin.config.setting import Setting
from nvidia_devplugin.config.table import SETTINGS
from tests.house.repository import ROOT

README = ROOT / "files" / "devplugin" / "README.md"
_HEADS = {
    False: ("| Flag | Environment | In the file | Default | |", "| --- | --- | --- | --- | --- |"),
    True: ("| Flag | Environment | In the file | Accepted without effect because |", "| --- | --- | --- | --- |"),
}


def _code(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts if text)


def _row(setting: Setting) -> str:
    default = ",".join(setting.default) if setting.is_list else str(setting.default or "")
    default = str(setting.default).lower() if setting.is_boolean else default
    cells = [
        _code(f"--{flag}" for flag in (setting.flag, *setting.aliases) if flag),
        _code(setting.env),
        _code([setting.path]),
        *([] if setting.inert else [_code([default])]),
        setting.help.removeprefix("no effect: "),
    ]
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def tables() -> Iterator[str]:
    """Lines of Markdown: what has an effect, then what has none."""
    for inert, head in _HEADS.items():
        yield from ("", *head)
        yield from (_row(setting) for setting in SETTINGS if setting.inert is inert)
    yield ""


def updated(text: str) -> str:
    """The README with the tables as they should be."""
    begin, end = "<!-- settings: made by tests/house/settings_table.py -->\n", "<!-- end of settings -->"
    made = begin + "\n".join(tables()) + f"\n{end}"
    return re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: made, text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
