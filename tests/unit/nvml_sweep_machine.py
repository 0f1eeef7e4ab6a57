"""The machine of the sweep, in the worker's process: three GPUs, the last of them split into two MIG devices."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from tests.sim.nvml import nvmlsim
from tests.unit.nvml_sweep import TARGETS

STATE = Path(os.environ["NVML_SIM_STATE"])


def machine() -> nvmlsim.State:
    state = nvmlsim.make_state("H100", 3, seed="sweep", device_nodes=False)
    nvmlsim.apply_mig(state, "2:3g.40gb,1g.10gb")
    return state


current = machine()


def init() -> None:
    nvmlsim.save(current, STATE)
    nvmlsim.events_path(STATE).touch()


def uuid_of(target: str) -> str:
    """The name of what fails."""
    if TARGETS[target] == "MIG":
        return nvmlsim.fields_of(current.gpu(2).values("mig")[0])["uuid"]
    return current.gpu(int(TARGETS[target])).get("uuid") or ""


def fail(function: str, target: str, code: int) -> None:
    gpu = uuid_of(target) if TARGETS[target] else None
    nvmlsim.fail(current, Namespace(function=function, code=code, gpu=gpu, calls=None, clear=False))
    nvmlsim.save(current, STATE)


def heal() -> None:
    nvmlsim.fail(current, Namespace(function=None, clear=True))
    nvmlsim.save(current, STATE)


def serve(look: Callable[[str, str, int], list[str]]) -> None:
    """Answer the test's questions until it closes."""
    for line in sys.stdin:
        function, target, codes = json.loads(line)
        answer = {}
        for code in codes:
            answer[code] = look(function, target, code)
            heal()
        print(json.dumps(answer), flush=True)
