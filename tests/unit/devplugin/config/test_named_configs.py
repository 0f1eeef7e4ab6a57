"""Which config applies, and what is remembered of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin.config.named_configs import LONGEST, Choice, ChoiceFile, Source, names, pick, read
from nvidia_devplugin.config.settings import Config, ConfigError, load
from nvidia_devplugin.config.table import FALLBACKS

NAMES = st.sampled_from(["default", "shared", "mig", "whole"])


@pytest.mark.parametrize(
    ("label", "known", "default", "fallbacks", "expected"),
    [
        ("mig", {"default", "mig"}, "default", FALLBACKS, "mig"),
        ("", {"default", "mig"}, "mig", FALLBACKS, "mig"),
        ("", {"default", "mig"}, "", ("named", "single"), "default"),
        ("", {"mig"}, "", ("named", "single"), "mig"),
        ("", {"mig", "whole"}, "", ("named", "single", "empty"), ""),
        ("", {"mig", "default"}, "", ("empty", "named"), ""),
        ("", {"mig"}, "", ("single", "empty"), "mig"),
    ],
)
def test_the_choice_is_that_of_nvidias_config_manager(label, known, default, fallbacks, expected):
    assert pick(label, known, default, fallbacks) == expected


@pytest.mark.parametrize(
    ("label", "known", "default", "fallbacks", "message"),
    [
        ("gone", {"a", "b"}, "a", FALLBACKS, "the node's label nvidia.com/device-plugin.config names the config gone"),
        ("", {"a", "b"}, "gone", FALLBACKS, "--default-config names the config gone, which does not exist; .*: a, b"),
        ("", {"a", "b"}, "", ("named", "single"), r"of the fallback strategies \(named, single\) none applies"),
        ("", {"a"}, "", (), r"\(none\) none applies"),
        ("", set(), "", ("empty",), "no configs to choose from"),
    ],
)
def test_a_choice_that_cannot_be_made_says_what_there_is(label, known, default, fallbacks, message):
    with pytest.raises(ConfigError, match=message):
        pick(label, known, default, fallbacks)


def test_a_message_does_not_list_all_configs_of_a_long_list():
    with pytest.raises(ConfigError, match="and 980 more") as error:
        pick("x" * 10_000, {f"{number:04}{'x' * 1000}" for number in range(1000)})
    assert len(str(error.value)) < 2000


@given(NAMES | st.just(""), st.sets(NAMES), NAMES | st.just(""), st.lists(st.sampled_from(FALLBACKS)))
def test_a_choice_is_always_one_of_those_that_are_there(label, known, default, fallbacks):
    try:
        chosen = pick(label, known, default, fallbacks)
    except ConfigError:
        return
    assert chosen in known or (chosen == "" and "empty" in fallbacks and not label and not default)
    assert not label or chosen == label


def test_the_names_are_the_keys_of_the_config_map(tmp_path: Path):
    (tmp_path / "..2026_01").mkdir()
    (tmp_path / "..2026_01/mig").write_text("")
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "mig").symlink_to("..data/mig")
    assert names(tmp_path) == {"mig"}
    with pytest.raises(ConfigError, match=r"config directory .*/none: No such file or directory"):
        names(tmp_path / "none")


def test_a_file_is_read_whole_and_never_waited_for(tmp_path: Path):
    (tmp_path / "long").write_bytes(b"#" * LONGEST)
    assert len(read(tmp_path / "long")) == LONGEST
    assert read(Path("/dev/null")) == b""
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "not a regular file"),
        (Path("/dev/zero"), f"more than {LONGEST} bytes"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(path)


def test_a_source_is_a_file_or_a_directory(tmp_path: Path):
    assert Source.of(Config()) is None
    os.mkfifo(tmp_path / "pipe")
    assert Source.of(Config(config_file=tmp_path / "pipe")) is None
    (tmp_path / "mig").write_bytes(b"{}")
    found = Source.of(load({"config_file_srcdir": str(tmp_path), "fallback_strategies": "single"}, {}))
    assert found == Source(None, tmp_path, "", ("single",))
    assert Source(tmp_path / "mig").read("whatever") == (str(tmp_path / "mig"), b"{}")
    with pytest.raises(ConfigError, match="--config-file and --config-file-srcdir: give one file, or a directory"):
        load({"config_file_srcdir": str(tmp_path)}, {"CONFIG_FILE": str(tmp_path / "mig")})


@given(st.text(), st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_what_is_remembered_is_what_was_kept(tmp_path_factory, label, name, data):
    label = label.encode("utf-8", "replace").decode()
    where = tmp_path_factory.mktemp("nvidia.d")
    ChoiceFile(where).keep(Choice(label, name, data))
    assert ChoiceFile(where).recall() == Choice(label, name, data)


@given(
    st.binary(max_size=200) | st.sampled_from([b"{}", b"[]", b"null", b'{"label":1,"name":2,"data":3}', b"[" * 99999])
)
def test_a_memory_that_cannot_be_understood_is_none(tmp_path_factory, data):
    where = tmp_path_factory.mktemp("nvidia.d")
    (where / "config.json").write_bytes(data)
    assert ChoiceFile(where).recall() is None


def test_a_memory_that_cannot_be_written_is_said_and_tried_again(tmp_path: Path, caplog):
    place = tmp_path / "nvidia.d"
    place.write_text("in the way")
    kept = ChoiceFile(place)
    kept.keep(Choice("a", "a", b""))
    assert "config_not_kept" in caplog.text
    place.unlink()
    kept.keep(Choice("a", "a", b""))
    assert ChoiceFile(place).recall() == Choice("a", "a", b"")


def test_two_writers_of_one_choice_never_mix(tmp_path, monkeypatch, caplog):
    """The second writes while the first is between its file and the file's name."""
    one, other = ChoiceFile(tmp_path), ChoiceFile(tmp_path)
    replace, pending = Path.replace, [other]

    def interrupted(path, target):
        if pending:
            pending.pop().keep(Choice("b", "b", b"second"))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    one.keep(Choice("a", "a", b"first"))
    assert not pending
    assert caplog.text == ""
    assert ChoiceFile(tmp_path).recall() == Choice("a", "a", b"first")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
