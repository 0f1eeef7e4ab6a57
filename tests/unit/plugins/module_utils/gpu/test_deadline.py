"""A driver that hangs or crashes must cost the time that was given, and nothing else."""

import os
import signal
import time

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import deadline
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError


def test_call_returns_what_the_function_returns():
    # More than a pipe holds.
    answer = {"gpus": ["x" * 1000] * 200, "none": None}
    assert deadline.call(lambda: answer, 10, "NVML") == answer


def test_call_runs_in_a_process_of_its_own():
    assert deadline.call(os.getpid, 10, "NVML") != os.getpid()


def test_call_gives_up_after_the_deadline():
    start = time.monotonic()
    with pytest.raises(SourceError, match=r"^NVML did not answer within 0\.2 s$") as caught:
        deadline.call(lambda: time.sleep(30), 0.2, "NVML")
    assert caught.value.kind == "timeout"
    assert time.monotonic() - start < 5


def test_call_survives_a_crash():
    with pytest.raises(SourceError, match=r"^NVML ended with signal 9$") as caught:
        deadline.call(lambda: os.kill(os.getpid(), signal.SIGKILL), 10, "NVML")
    assert caught.value.kind == "unknown"


def raise_(error):
    raise error


def test_call_passes_a_source_error_on():
    with pytest.raises(SourceError, match=r"^not for you$") as caught:
        deadline.call(lambda: raise_(SourceError("no_permission", "not for you")), 10, "NVML")
    assert caught.value.kind == "no_permission"


def test_call_names_an_error_that_nobody_expected():
    with pytest.raises(SourceError, match=r"^NVML: KeyError: 'x'$") as caught:
        deadline.call(lambda: raise_(KeyError("x")), 10, "NVML")
    assert caught.value.kind == "unknown"


def test_run():
    assert deadline.run(["sh", "-c", "echo out; echo err >&2; exit 9"], 10) == (9, "out\n", "err\n")


def test_run_gives_up_after_the_deadline():
    with pytest.raises(SourceError, match=r"^sleep did not end within 0\.2 s$") as caught:
        deadline.run(["sleep", "30"], 0.2)
    assert caught.value.kind == "timeout"


def test_several_runs_share_one_deadline():
    run = deadline.shared(0.6)
    start = time.monotonic()
    assert run(["sleep", "0.4"])[0] == 0
    with pytest.raises(SourceError, match=r"^sleep did not end within 0\.6 s$") as caught:
        run(["sleep", "30"])
    assert caught.value.kind == "timeout"
    with pytest.raises(SourceError, match=r"^true did not end within 0\.6 s$"):
        run(["true"])
    assert time.monotonic() - start < 5


def test_run_of_a_program_that_is_not_there():
    with pytest.raises(SourceError, match="cannot be started: No such file or directory") as caught:
        deadline.run(["/nonexistent/nvidia-smi"], 1)
    assert caught.value.kind == "unavailable"


def test_find_looks_beyond_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert deadline.find("sh") in ("/usr/bin/sh", "/bin/sh")
    assert deadline.find("no-such-program-here") is None
