"""What a daemon that runs has not loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nvidia_devplugin

PROGRAM = """
import sys
from nvidia_devplugin import __main__, lean
lean.leave_out()
import asyncio, pynvml, nvidia_devplugin.app
__main__.parser()
print(*sorted({"ssl", "shutil", "tempfile", "lzma", "yaml"} & {name for name, made in sys.modules.items() if made}))
print(sys.modules["ctypes.util"].find_library("c"))
print("shutil" in sys.modules)
"""


def test_it_does_not_load_what_it_has_no_use_for_and_could():
    environment = {**os.environ, "PYTHONPATH": str(Path(nvidia_devplugin.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.stdout == "\nlibc.so.6\nTrue\n", done.stderr
