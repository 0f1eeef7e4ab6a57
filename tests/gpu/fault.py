"""A program with a fault of the commonest kind: its kernel writes to an address that is not its own.

usage: python -m tests.gpu.fault INDEX        INDEX as CUDA counts: in the order of the PCI addresses

The driver ends the program and reports an XID; the GPU and all other programs go on. It needs the driver's libcuda and
no toolkit: the kernel is PTX, which the driver translates. It prints what CUDA answered, and ends with 0 if the fault
was made, with 3 where there is no libcuda, or one that runs no programs.
"""

from __future__ import annotations

import ctypes
import os
import sys

NO_CUDA = 3
ILLEGAL_ADDRESS = 700  # CUDA_ERROR_ILLEGAL_ADDRESS

# 4.0 and sm_30: the oldest that a supported GPU has, and each newer driver reads.
PTX = b"""
.version 4.0
.target sm_30
.address_size 64
.visible .entry stray()
{
    .reg .u64 %rd<2>;
    .reg .u32 %r<2>;
    mov.u64 %rd1, 64;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
"""


def main(index: int) -> int:
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        print(error)
        return NO_CUDA

    def call(name: str, *arguments: object) -> None:
        try:
            function = getattr(cuda, name)
        except AttributeError as error:
            print(error)
            raise SystemExit(NO_CUDA) from error
        if status := function(*arguments):
            raise SystemExit(f"{name} answered {status}")

    device, context, module, kernel = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuModuleLoadData", ctypes.byref(module), PTX)
    call("cuModuleGetFunction", ctypes.byref(kernel), module, b"stray")
    call("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None)
    status = cuda.cuCtxSynchronize()
    print(f"the kernel ended with {status}")
    return int(status != ILLEGAL_ADDRESS)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
