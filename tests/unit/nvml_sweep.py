"""Every NVML function that our code calls answers every error: what the tests of the daemon and of the facts share."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pynvml
import pytest

ROOT = Path(__file__).resolve().parents[2]
CODES = {
    3: "not supported", 4: "no permission", 6: "not found", 9: "driver not loaded", 13: "function not found",
    15: "GPU is lost", 16: "reset required", 17: "operating system", 18: "version mismatch", 25: "argument version",
    999: "unknown",
}  # fmt: skip

ABSENCE = (3, 13)
"""Answers that say that there is no such thing; what follows from them may be a value."""


def absence(function: str, code: int) -> bool:
    """Whether the answer says that there is no such thing."""
    return code in ABSENCE or (function == "nvmlDeviceGetMigDeviceHandleByIndex" and code == 6)


TARGETS = {"whole": "1", "split": "2", "instance": "MIG", "every": ""}
"""On machine(): a GPU, a GPU in MIG mode with its MIG devices, one MIG device, all of them."""

_CALL = re.compile(r"\bnvml[A-Z]\w+")
_IN_LIBRARY = re.compile(r'_nvmlGetFunctionPointer\("(\w+)"\)')
_PATTERN = re.compile(r'f"(nvml\w*(?:\{\w+\}\w*)+)"')


def functions(sources: Iterable[Path]) -> list[str]:
    """The library's functions behind those of the binding that these files name, by NVML's names."""
    named: set[str] = set()
    for path in sources:
        text = path.read_text()
        named |= set(_CALL.findall(text))
        for pattern in _PATTERN.findall(text):  # a name put together: f"nvmlDeviceGet{kind}RunningProcesses{version}"
            wanted = re.compile(re.sub(r"\{\w+\}", r"\\w*", pattern))
            named |= {name for name in dir(pynvml) if wanted.fullmatch(name)}
    found: set[str] = set()
    pending, done = named, set()
    while pending:
        name = pending.pop()
        done.add(name)
        function = getattr(pynvml, name, None)
        if not inspect.isfunction(function):
            continue
        source = inspect.getsource(function)
        found |= set(_IN_LIBRARY.findall(source))
        pending |= set(_CALL.findall(source)) - done
    return sorted(name for name in found if name != "nvmlErrorString")


def takes_gpu(function: str) -> bool:
    """Whether the function concerns one GPU, which it is given or looks up."""
    return function.startswith("nvmlDevice") and "GetCount" not in function


def main_target(function: str) -> str:
    """Where the function is called on a healthy machine, so that all codes are tried there at every run."""
    if not takes_gpu(function):
        return "every"
    return "split" if re.search("Mig|Instance|Attributes", function) else "whole"


def cases(sources: Iterable[Path], known: Mapping[tuple[str, str], str]) -> list[Any]:
    """Parameters: function, target and codes; few codes where it is not the main target, and the rest for the matrix.

    known: why a function fails with a target, which is an issue's title.
    """
    found = []
    for function in functions(sources):
        for target in TARGETS if takes_gpu(function) else ("every",):
            marks = (
                [pytest.mark.xfail(strict=True, reason=known[function, target])] if (function, target) in known else []
            )
            name = f"{function}-{target}"
            if target == main_target(function):
                found.append(pytest.param(function, target, tuple(CODES), id=name, marks=marks))
                continue
            few = (4, 15, 999)
            found.append(pytest.param(function, target, few, id=name, marks=marks))
            rest = tuple(code for code in CODES if code not in few)
            marks = [*marks, pytest.mark.matrix]
            found.append(pytest.param(function, target, rest, id=f"{name}-rest", marks=marks))
    missing = set(known) - {tuple(case.values[:2]) for case in found}
    assert not missing, f"known faults of what is not called: {missing}"
    return found


class Worker:
    """A process that has the simulated library loaded and looks at a machine while functions fail.

    It gets a JSON list [function, target, codes] a line, and answers a JSON object of problems by code.
    """

    def __init__(self, module: str, folder: Path, library: Path) -> None:
        self.calls = folder / "calls"
        environment = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "NVML_SIM_STATE": str(folder / "state"),
            "NVML_SIM_CALLS": str(self.calls),
            "LD_LIBRARY_PATH": str(library),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "files/devplugin/src"), *sys.path]),
        }
        self._errors = (folder / "stderr").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=folder,
        )  # fmt: skip

    def ask(self, function: str, target: str, codes: Iterable[int]) -> dict[int, list[str]]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([function, target, list(codes)]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise AssertionError(f"{function}, {target}: the process ended:\n{self._errors.read()}")
        return {int(code): problems for code, problems in json.loads(line).items() if problems}

    def check(self, function: str, target: str, codes: Iterable[int]) -> None:
        """Fails with the problems that it sees while the function answers each code."""
        problems = self.ask(function, target, codes)
        assert not problems, shown(problems)

    def check_calls(self, known: Iterable[str], more_than: int) -> None:
        """Fails if it calls a function that is not among the known ones, or suspiciously few."""
        self.ask("nvmlDeviceGetName", "whole", [999])
        called = set(self.calls.read_text().split()) - {"nvmlErrorString"}
        assert called - set(known) == set()
        assert len(called) > more_than

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()


def shown(problems: dict[int, list[str]]) -> str:
    return "\n".join(f"{code} ({CODES[code]}): {text}" for code, texts in problems.items() for text in texts)
