# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running programs and library calls under a deadline: a GPU that hangs must not hang the play."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from typing import Any, Callable

from .errors import SourceError

# Facts run under whatever PATH the connection gives; NVIDIA's tools are in one of these.
_SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/wsl/lib")


def find(name: str) -> str | None:
    """The full path of a program in PATH and the usual directories; None where there is none."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SEARCH_PATH]))


def shared(seconds: float) -> Callable[..., tuple[int, str, str]]:
    """``run`` for several programs that may take so long together.

    Args:
        seconds (float): how long they may take, from now on.

    Returns:
        Callable[[list[str]], tuple[int, str, str]]: ``run`` without its ``seconds``.
    """
    end = time.monotonic() + seconds
    return lambda arguments: run(arguments, seconds, max(end - time.monotonic(), 0))


def run(arguments: list[str], seconds: float, left: float | None = None) -> tuple[int, str, str]:
    """Runs a program without a shell.

    Args:
        arguments (list[str]): program and arguments.
        seconds (float): how long it may take.
        left (float | None): how much of that is left; None: all.

    Returns:
        tuple[int, str, str]: exit status, standard output, standard error.

    Raises:
        SourceError: ``unavailable`` when it cannot be started, ``timeout`` when it takes too long.
    """
    message = f"{arguments[0]} did not end within {seconds:g} s"
    if left is not None and left <= 0:
        raise SourceError("timeout", message)
    try:
        # AnsibleModule.run_command knows no timeout, and waits for what it kills
        # pylint: disable-next=ansible-bad-function
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise SourceError("unavailable", f"{arguments[0]} cannot be started: {error.strerror}") from error
    try:
        output, errors = process.communicate(timeout=seconds if left is None else left)
    except subprocess.TimeoutExpired as error:
        # Killed, but not waited for: a process inside a hanging driver dies when the driver lets it go.
        process.kill()
        raise SourceError("timeout", message) from error
    return process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


def call(function: Callable[[], Any], seconds: float, what: str) -> Any:
    """Calls a function in a child process, so that a driver that hangs or crashes costs only the child.

    Args:
        function (Callable[[], object]): what it returns must fit into JSON; it may raise SourceError.
        seconds (float): how long it may take.
        what (str): its name in messages.

    Returns:
        object: what the function returned.

    Raises:
        SourceError: the function's own; ``timeout``; ``unknown`` when the child died or raised something else.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing but _exit may end the child: it must not run the parent's exit handlers.
        status = 1
        try:
            os.close(reading)
            _write(writing, json.dumps(_answer(function, what)).encode("utf-8"))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    try:
        content = _read(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
    if content is None:
        os.kill(child, signal.SIGKILL)
        # A process inside a hanging driver dies when the driver lets it go: do not wait for that.
        os.waitpid(child, os.WNOHANG)
        raise SourceError("timeout", f"{what} did not answer within {seconds:g} s")
    status = os.waitpid(child, 0)[1]
    if not content:
        cause = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"
        raise SourceError("unknown", f"{what} ended with {cause}")
    answer = json.loads(content.decode("utf-8"))
    if "error" in answer:
        raise SourceError(answer["error"]["kind"], answer["error"]["detail"])
    return answer["result"]


def _answer(function: Callable[[], Any], what: str) -> Any:
    try:
        return {"result": function()}
    except SourceError as error:
        return {"error": {"kind": error.kind, "detail": error.detail}}
    except Exception as error:  # whatever a foreign binding raises, the facts go on without it
        return {"error": {"kind": "unknown", "detail": f"{what}: {type(error).__name__}: {error}"}}


def _write(descriptor: int, content: Any) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _read(descriptor: int, deadline: float) -> bytes | None:
    """All that comes until the other side closes; None when the deadline comes first."""
    chunks: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
