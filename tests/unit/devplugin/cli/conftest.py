from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.unit.devplugin.conftest import ROOT, Driver

Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def command(driver: Driver, nvml_library: Path) -> Command:
    """One run of the command line on the simulated driver: exit status, standard output, standard error."""

    async def run(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nvidia_devplugin", *arguments,
            env={
                "PATH": os.environ["PATH"],
                "NVML_SIM_STATE": str(driver.state),
                "LD_LIBRARY_PATH": str(nvml_library),
                "PYTHONPATH": str(ROOT / "files/devplugin/src"),
            },
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    return run
