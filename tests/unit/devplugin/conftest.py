"""The daemon's test bench: the simulated driver, the kubelet stub, and the daemon as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.sim.nvml import nvmlsim
from tests.unit import nvml_build
from tests.unit.devplugin.daemon_process import Daemon
from tests.unit.devplugin.kubelet_stub import KubeletStub

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def nvml_library() -> Path:
    """Directory with the simulated libnvidia-ml.so.1."""
    return nvml_build.library()


class Driver:
    """The simulated driver of one machine."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"

    def __call__(self, *arguments: object) -> None:
        command, *rest = (str(argument) for argument in arguments)
        status = nvmlsim.main(["--state", str(self.state), command, *rest])
        assert not status, f"nvml-sim {command} failed"


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """Two H100 in a simulated machine."""
    made = Driver(tmp_path)
    made("init", "--model", "H100", "--count", 2, "--device-nodes", "off", "--seed", "test")
    return made


@pytest.fixture
def socket_directory() -> Iterator[Path]:
    """A folder with a short name: a unix socket's path has at most 107 characters, and tmp_path takes most of them."""
    with tempfile.TemporaryDirectory(prefix="kubelet-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
async def kubelet(socket_directory: Path) -> AsyncIterator[KubeletStub]:
    """A kubelet that has not been started yet."""
    async with KubeletStub(socket_directory) as stub:
        yield stub


Start = Callable[..., "asyncio.Future[Daemon]"]


@pytest.fixture
async def start(driver: Driver, kubelet: KubeletStub, nvml_library: Path) -> AsyncIterator[Callable[..., object]]:
    """start(*flags, env={…}, program=[…]): a daemon on the simulated driver and the stub's directory."""
    started: list[Daemon] = []

    async def run(
        *flags: str, env: dict[str, str] | None = None, program: Sequence[str] = ("-m", "nvidia_devplugin")
    ) -> Daemon:
        inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program,
            "--kubelet-socket", str(kubelet.socket), "--http-address", "127.0.0.1:0", *flags,
            env={
                **inherited,
                "NVML_SIM_STATE": str(driver.state),
                "LD_LIBRARY_PATH": str(nvml_library),
                "PYTHONPATH": str(ROOT / "files/devplugin/src"),
                **(env or {}),
            },
            stderr=subprocess.PIPE,
        )  # fmt: skip
        daemon = Daemon(process)
        started.append(daemon)
        return daemon

    yield run
    for daemon in started:
        with contextlib.suppress(ProcessLookupError):
            daemon.process.kill()
        await daemon.exit()


@pytest.fixture(autouse=True)
def no_leaked_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the machine that runs the tests sets must not steer them."""
    for name in list(os.environ):
        if name.startswith(("DP_", "NVIDIA_", "NVML_SIM_")) or name in ("CONFIG_FILE", "KUBELET_SOCKET"):
            monkeypatch.delenv(name)
    yield
