"""What only one process may do at once, tried with a process that holds it and dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.cluster import lock

ROOT = Path(__file__).resolve().parents[3]
HOLD = (
    "import time\n"
    "from tests.sim.cluster.lock import alone\n"
    "with alone('thing'):\n    print('mine', flush=True)\n    time.sleep(600)"
)
ASK = "from tests.sim.cluster.lock import alone\nprint('asking', flush=True)\nwith alone('thing'):\n    print('mine')"


def start(program: str, cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "KUBEGPU_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)


def test_the_second_waits_until_the_first_is_gone_even_if_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(HOLD, tmp_path)
    second = None
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "mine\n"
        second = start(ASK, tmp_path)
        assert second.stdout is not None
        assert second.stdout.readline() == "asking\n"
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.5)
        monkeypatch.setenv("KUBEGPU_CACHE", str(tmp_path))
        with lock.alone("something else"):
            pass
        first.send_signal(signal.SIGKILL)
        assert second.communicate(timeout=60)[0] == "mine\n"
    finally:
        for process in (first, second):
            if process:
                process.kill()
                process.communicate()
