"""One line an event, in both formats, and no flood."""

from __future__ import annotations

import io
import json
import logging
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_devplugin import log as logs
from nvidia_devplugin.log import Logger, Repeats, worth_a_line


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def lines(monkeypatch):
    """What is written at level info in text; call it for the lines since the last call."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.set_up("info", "text")

    def written():
        found = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return found

    yield written
    root.handlers[:], root.level = kept


def fields(line):
    return dict(part.split("=", 1) for part in shlex.split(line))


def test_a_storm_of_ten_thousand_is_fourteen_lines_and_loses_no_count(lines):
    log = Logger("test", Repeats(clock=Clock()))
    for _ in range(10_000):
        log.counted("xid", xid=79, gpu="GPU-1")
    found = [fields(line) for line in lines()]
    assert len(found) == 14
    assert [int(each.get("count", 1)) for each in found] == [2**n for n in range(14)]


def test_what_differs_is_not_repeated(lines):
    log = Logger("test", Repeats(clock=Clock()))
    for attempt in range(20):
        log.warning("failed", attempt=attempt)
        log.info("allocated", devices="GPU-1")
    found = [fields(line) for line in lines()]
    assert sum(each["event"] == "failed" for each in found) == 20
    assert sum(each["event"] == "allocated" for each in found) == 20, "each is an event of its own"


def test_after_a_silence_it_is_news_again(lines):
    clock = Clock()
    log = Logger("test", Repeats(60, clock=clock))
    for _ in range(3):
        log.error("failed", error="no route")
    clock.now = 60
    log.error("failed", error="no route")
    clock.now = 121
    log.error("failed", error="no route")
    assert [fields(line).get("count", "1") for line in lines()] == ["1", "2", "4", "1"]


def test_a_line_below_the_level_is_not_counted(lines):
    repeats = Repeats(clock=Clock())
    log = Logger("test", repeats)
    logging.getLogger().setLevel("ERROR")
    log.warning("failed")
    assert lines() == []
    assert repeats.count(("failed",)) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100)), max_size=60))
def test_counts_against_a_plain_model(events):
    clock = Clock()
    repeats = Repeats(60, clock=clock)
    model = {}
    for line, passed in events:
        clock.now += passed
        times, last = model.get(line, (0, clock.now))
        model[line] = (times + 1 if clock.now - last <= 60 else 1, clock.now)
        assert repeats.count(line) == model[line][0]


def test_memory_is_bounded():
    repeats = Repeats(most=10, clock=Clock())
    for number in range(1000):
        assert repeats.count(number) == 1
    assert repeats.count(999) == 2
    assert repeats.count(0) == 1, "forgotten, so it is news"


@given(st.integers(1, 10**6))
def test_lines_grow_with_the_logarithm(times):
    assert sum(worth_a_line(attempt) for attempt in range(1, min(times, 4096) + 1)) == min(times, 4096).bit_length()


@given(st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), st.one_of(st.text(), st.integers(), st.booleans())))
def test_any_fields_stay_on_one_line_in_both_formats(values):
    record = logging.LogRecord("n", logging.INFO, "f", 1, "%s", ("event-name",), None)
    record.fields = {key: value for key, value in values.items() if key not in ("time", "level", "event")}
    text = logs._Formatter(False).format(record)
    assert len(text.splitlines()) == 1
    parsed = json.loads(logs._Formatter(True).format(record))
    assert {key: parsed[key] for key in record.fields} == record.fields


async def test_a_storm_of_xids_in_the_daemon(kubelet, start, driver):
    from tests.sim.nvml import nvmlsim

    await kubelet.start()
    daemon = await start()
    await kubelet.devices("nvidia.com/gpu")
    storm = 10_000
    for _ in range(storm):
        nvmlsim.append_event(driver.state, "xid 0 13")
    driver("xid", 1, 79)  # events come in order: once this one is in, the others were too
    await kubelet.devices("nvidia.com/gpu", lambda devices: "Unhealthy" in devices.values())
    _, page = await daemon.get("/metrics")
    (total,) = [line for line in page.splitlines() if line.startswith("nvidia_devplugin_xids_total") and '"13"' in line]
    assert float(total.rsplit(" ", 1)[1]) == storm, "none is lost"
    assert await daemon.terminate() == 0
    said = [line for line in daemon.lines if " event=xid " in line and " xid=13 " in line]
    assert len(said) == storm.bit_length()
