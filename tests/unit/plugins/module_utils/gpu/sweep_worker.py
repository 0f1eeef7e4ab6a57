"""The facts of a machine from NVML, in one process, while NVML functions fail."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import facts, host, nvml, toolkit
from tests.sim.nvml import nvmlsim
from tests.unit import nvml_sweep_machine as machine
from tests.unit.nvml_sweep import ABSENCE

ROOT = Path("root").absolute()
ABOUT_THE_ERROR = ("error", "lost", "health", "problem", "source", "reboot_required")
LISTS = {"processes": "process_count", "instances": "mode", "peers": "links_total"}
"""Lists, and the key that is null where they are empty because they could not be read."""


def gather() -> dict[str, Any]:
    answered = facts.ask([("nvml", lambda: nvml.read(pynvml))])
    return facts.build(host.read(str(ROOT)), toolkit.unknown(), *answered, root=str(ROOT))


@functools.lru_cache(maxsize=1)
def _as_it_is() -> dict[str, Any]:
    return gather()


def as_it_is() -> dict[str, Any]:
    return copy.deepcopy(_as_it_is())


def differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """What was known and is now told as something else; that it is not known any more is no difference."""
    if now is None or before == now:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before:
            unknown = key in LISTS and now[key] == [] and now[LISTS[key]] is None
            if key not in ABOUT_THE_ERROR and not unknown:
                yield from differences(before[key], now.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for at, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from differences(one, other, f"{path}[{at}]")
    else:
        yield f"{path} is {now!r}, not {before!r}"


def look(function: str, target: str, code: int) -> list[str]:
    return list(_look(function, target, code))


def _look(function: str, target: str, code: int) -> Iterator[str]:
    before = as_it_is()
    machine.fail(function, target, code)
    try:
        now = gather()
    except Exception as error:
        yield f"crashes: {error!r}"
        return
    victim = {"whole": 1, "split": 2, "instance": 2}.get(target)
    if not now["present"] or now["count"] != 3 or [gpu["index"] for gpu in now["gpus"]] != [0, 1, 2]:
        yield f"GPUs are lost: present {now['present']}, count {now['count']}, {len(now['gpus'])} described"
        return
    for gpu in before["gpus"]:
        if victim is not None and gpu["index"] != victim and now["gpus"][gpu["index"]] != gpu:
            changed = list(differences(gpu, now["gpus"][gpu["index"]])) or ["something is not known any more"]
            yield f"GPU {gpu['index']} is another's victim: {'; '.join(changed)}"
    if code not in ABSENCE:
        yield from differences(before, now)


def init() -> None:
    state = machine.current
    nvmlsim.write_proc(state, ROOT / "proc/driver/nvidia")
    (ROOT / "sys/bus/pci/devices").mkdir(parents=True)
    nvmlsim.write_sysfs(state, ROOT / "sys/bus/pci/devices")
    (ROOT / "dev").mkdir()
    (ROOT / "dev/nvidiactl").touch()
    for gpu, kind in ((0, "C"), (1, "G")):
        state.gpu(gpu).pairs.append(("process", f"pid=4{gpu} type={kind} memory_mib=64"))
    machine.init()


if __name__ == "__main__":
    init()
    machine.serve(look)
