"""What a daemon that runs has not loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nvidia_devplugin

PROGRAM = """
import sys
from nvidia_devplugin import __main__, lean
lean.leave_out()
import asyncio, pynvml, nvidia_devplugin.app
__main__.parser()
unwanted = {"ssl", "shutil", "tempfile", "lzma", "yaml", "pickle", "google.protobuf.text_format"}
print(*sorted(unwanted & {name for name, made in sys.modules.items() if made}))
print(sys.modules["ctypes.util"].find_library("c"))
print("shutil" in sys.modules)
"""

MESSAGES = """
from nvidia_devplugin import lean
lean.leave_out()
from nvidia_devplugin.proto.deviceplugin_pb2 import Device
from google.protobuf.internal import api_implementation
print(api_implementation.Type(), Device.FromString(Device(ID="GPU-1").SerializeToString()).ID)
"""
# Without what has a process measure its coverage, and loads modules for that.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
ENVIRONMENT["PYTHONPATH"] = str(Path(nvidia_devplugin.__file__).parents[1])


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_messages_work_whatever_language_protobuf_has_them_in(implementation):
    environment = {**ENVIRONMENT, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    done = subprocess.run([sys.executable, "-c", MESSAGES], env=environment, capture_output=True, text=True)
    assert done.stdout == f"{implementation} GPU-1\n", done.stderr


def test_it_does_not_load_what_it_has_no_use_for_and_could():
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "\nlibc.so.6\nTrue\n", done.stderr
