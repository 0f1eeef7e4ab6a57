from __future__ import annotations

from nvidia_devplugin.config.table import SETTINGS
from tests.house.settings_table import README, updated


def test_the_tables_of_settings_are_those_of_the_code():
    text = README.read_text()
    assert text == updated(text), "run python -m tests.house.settings_table"
    for setting in SETTINGS:
        assert setting.help in text or setting.help.removeprefix("no effect: ") in text
