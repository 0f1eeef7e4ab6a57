"""The daemon and a newer kubelet's side of the API: the generated code of k8s.io/kubelet on today's gRPC for Go."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.newer import golang
from tests.sim.cluster.use import ROOT
from tests.sim.nvml import nvmlsim
from tests.unit import nvml_build


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: object, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [str(word) for word in command], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def test_the_daemon_and_todays_generated_client_and_server(tmp_path: Path) -> None:
    state, port = tmp_path / "state", free_port()

    def driver(*arguments: str) -> None:
        assert not nvmlsim.main(["--state", str(state), *arguments])

    driver("init", "--model", "H100", "--count", "2", "--device-nodes", "off", "--seed", "newer")
    environment = {
        **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        "NVML_SIM_STATE": str(state),
        "LD_LIBRARY_PATH": str(nvml_build.library()),
        "PYTHONPATH": str(ROOT / "files/devplugin/src"),
    }
    # a unix socket's path has 107 characters at most
    with (
        tempfile.TemporaryDirectory(prefix="kubelet-") as folder,
        process(golang.program("kubelet"), folder) as kubelet,
    ):

        def step(name: str) -> dict[str, Any]:
            assert kubelet.stdout is not None
            line = json.loads(kubelet.stdout.readline() or '{"step": "the kubelet ended"}')
            assert line["step"] == name, line
            return {key: value for key, value in line.items() if key != "step"}

        def go_on() -> None:
            assert kubelet.stdin is not None
            kubelet.stdin.write("\n")
            kubelet.stdin.flush()

        step("listening")
        flags = ("--kubelet-socket", f"{folder}/kubelet.sock", "--http-address", f"127.0.0.1:{port}")
        pods = ("--pod-resources-socket", f"{folder}/pods.sock")
        with process(sys.executable, "-m", "nvidia_devplugin", *flags, *pods, env=environment):
            registered = {"version": "v1beta1", "resource": "nvidia.com/gpu", "preferred": True, "pre_start": False}
            assert step("registered") == registered
            by_path, by_unix = step("by path"), step("by unix")
            assert by_path == by_unix
            assert len(set(by_unix["devices"])) == 2 and by_unix["unhealthy"] == []
            (given,) = by_unix["preferred"]
            assert by_unix["envs"] == {"NVIDIA_VISIBLE_DEVICES": given}
            assert by_unix["refusal"] == "NotFound"

            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                metrics = answer.read().decode()
            held = [line for line in metrics.splitlines() if 'pod="trainer"' in line]
            assert held and all(given in line for line in held), metrics

            go_on()
            step("watching")
            driver("xid", "1", "79")
            assert len(step("update")["unhealthy"]) == 1
            go_on()
            assert step("registered again") == registered
