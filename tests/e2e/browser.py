"""A real Chromium without a window, driven through its DevTools protocol over a pipe: no driver program is needed.

Protocol: https://chromedevtools.github.io/devtools-protocol/; with ``--remote-debugging-pipe`` the browser reads JSON
messages from file descriptor 3 and writes them to 4, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of an installed browser."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class BrowserError(Exception):
    """The browser did not do what it was asked for."""


class Browser:
    """One tab. ``events`` holds what the browser reported by itself: (method, parameters)."""

    def __init__(self, program: str, profile: Path):
        command_read, self._write = os.pipe()
        self._read, answer_write = os.pipe()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._buffer = b""
        self._number = 0
        self._session = ""
        options = ["--headless", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # Chromium refuses root otherwise
        # the shell moves the pipes to the numbers that Chromium expects
        self._process = subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                f'exec "$0" "$@" 3</proc/self/fd/{command_read} 4>/proc/self/fd/{answer_write}',
                program,
                *options,
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            pass_fds=(command_read, answer_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser, by force if it does not go by itself."""
        with contextlib.suppress(BrowserError, OSError):
            self._session = ""
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its result. Raises BrowserError."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _next(self, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise BrowserError("no answer in time")
            piece = os.read(self._read, 1 << 16)
            if not piece:
                raise BrowserError("the browser ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = dict(json.loads(line))
        if "method" in message:
            self.events.append((message["method"], message.get("params", {})))
        return message

    def open(self, path: Path) -> None:
        """Loads a file and waits until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._next(60)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def media(self, scheme: str = "light", kind: str = "screen") -> None:
        """What the page is shown for: ``light`` or ``dark``, ``screen`` or ``print``."""
        self.call(
            "Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def size(self, width: int, height: int) -> None:
        """Size of the window in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key of the keyboard, by its name and its virtual key code."""
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path: Path, whole: bool = False) -> bytes:
        """Writes what is seen, or the whole page, as PNG."""
        data = base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        path.write_bytes(data)
        return data

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
