"""The layouts of the C structures are those that NVIDIA's own Python binding declares."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pynvml
import pytest

from tests.unit.sim.conftest import NVML_SOURCES

STRUCTURES = {
    "nvmlMemory_t": pynvml.c_nvmlMemory_t,
    "nvmlMemory_v2_t": pynvml.c_nvmlMemory_v2_t,
    "nvmlBAR1Memory_t": pynvml.c_nvmlBAR1Memory_t,
    "nvmlPciInfo_t": pynvml.nvmlPciInfo_t,
    "nvmlPciInfo_v2_t": pynvml.nvmlPciInfo_v2_t,
    "nvmlPciInfoExt_v1_t": pynvml.nvmlPciInfoExt_v1_t,
    "nvmlUtilization_t": pynvml.c_nvmlUtilization_t,
    "nvmlProcessInfo_t": pynvml.c_nvmlProcessInfo_t,
    "nvmlEccErrorCounts_t": pynvml.c_nvmlEccErrorCounts_t,
    "nvmlRowRemapperHistogramValues_t": pynvml.c_nvmlRowRemapperHistogramValues,
    "nvmlTemperature_v1_t": pynvml.c_nvmlTemperature_v1_t,
    "nvmlFieldValue_t": pynvml.c_nvmlFieldValue_t,
    "nvmlEventData_t": pynvml.c_nvmlEventData_t,
    "nvmlGpuInstanceProfileInfo_t": pynvml.c_nvmlGpuInstanceProfileInfo_t,
    "nvmlGpuInstanceProfileInfo_v2_t": pynvml.c_nvmlGpuInstanceProfileInfo_v2_t,
    "nvmlGpuInstanceInfo_t": pynvml.c_nvmlGpuInstanceInfo_t,
    "nvmlComputeInstanceProfileInfo_t": pynvml.c_nvmlComputeInstanceProfileInfo_t,
    "nvmlComputeInstanceInfo_t": pynvml.c_nvmlComputeInstanceInfo_t,
    "nvmlDeviceAttributes_t": pynvml.c_nvmlDeviceAttributes,
    "nvmlGpuFabricInfo_t": pynvml.c_nvmlGpuFabricInfo_t,
    "nvmlGpuFabricInfo_v2_t": pynvml.c_nvmlGpuFabricInfo_v2_t,
}
SKIPPED_FIELDS = {"reserved0", "reserved1", "reserved2", "reserved3"}  # one array in C


def offsets(structure: type[ctypes.Structure]) -> dict[str, int]:
    names = [field[0] for field in structure._fields_ if field[0] not in SKIPPED_FIELDS]
    return {name: getattr(structure, name).offset for name in names}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, dict[str, int]]]:
    """Size and field offsets of every structure, as the C compiler sees them."""
    lines = []
    for name, structure in STRUCTURES.items():
        lines.append(f'printf("{name} size %zu\\n", sizeof({name}));')
        lines += [f'printf("{name} {field} %zu\\n", offsetof({name}, {field}));' for field in offsets(structure)]
    source = tmp_path_factory.mktemp("abi") / "layouts.c"
    source.write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include "nvml_abi.h"\nint main(void) {\n'
        + "\n".join(lines) + "\nreturn 0;\n}\n"
    )  # fmt: skip
    program = source.with_suffix("")
    subprocess.run(["cc", f"-I{NVML_SOURCES}", "-o", str(program), str(source)], check=True)
    found: dict[str, tuple[int, dict[str, int]]] = {}
    for line in subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines():
        name, field, value = line.split()
        if field == "size":
            found[name] = (int(value), {})
        else:
            found[name][1][field] = int(value)
    return found


@pytest.mark.parametrize("name", STRUCTURES)
def test_layout_is_that_of_the_binding(name: str, layouts: dict[str, tuple[int, dict[str, int]]]) -> None:
    structure = STRUCTURES[name]
    assert layouts[name] == (ctypes.sizeof(structure), offsets(structure))


def test_library_exports_nvml_and_nothing_else(nvml_library: Path) -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(nvml_library / "libnvidia-ml.so.1")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    names = [line.split()[-1] for line in listing.splitlines()]
    assert [name for name in names if not name.startswith("nvml")] == []
    assert {"nvmlInit_v2", "nvmlEventSetWait", "nvmlEventSetWait_v2"} <= set(names)


def test_soname(nvml_library: Path) -> None:
    dynamic = subprocess.run(
        ["readelf", "-d", str(nvml_library / "libnvidia-ml.so.1")], check=True, capture_output=True, text=True
    ).stdout
    assert "Library soname: [libnvidia-ml.so.1]" in dynamic
