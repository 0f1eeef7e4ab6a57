"""Facts about the machine that NVML does not have: its product name, and the PCI side of its GPUs."""

from __future__ import annotations

from pathlib import Path

from ..log import Logger
from ..model import sysfs_name
from .feature_labels import Machine

log = Logger("machine")

_PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"

# PCI local bus specification 3.0, chapter 6: the configuration space
_STATUS, _HAS_CAPABILITIES, _CAPABILITIES = 0x06, 0x10, 0x34
_VENDOR_SPECIFIC = 0x09
_WHOLE_CONFIG = 256

# NVIDIA's vendor-specific capability of a vGPU: id, next, length, "VF", then records of id, length and data
_SIGNATURE, _RECORDS, _VERSION_BYTES = b"VF", 5, 10


def read(product_file: Path | None, bus_ids: list[str], pci_devices: Path = _PCI_DEVICES) -> Machine:
    """The facts for the GPUs with these bus ids of NVML. Facts that cannot be read are left out."""
    product = None
    if product_file is not None:
        try:
            product = product_file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            log.warning("machine_type_unknown", file=product_file, error=error)
    classes = {bus_id: _class_of(pci_devices / sysfs_name(bus_id)) for bus_id in bus_ids}
    known = {bus_id: number for bus_id, number in classes.items() if number is not None}
    try:
        return Machine(product, known, *_vgpu(pci_devices))
    except OSError as error:
        log.counted("vgpu_unknown", error=error)
        return Machine(product, known)


def _class_of(device: Path) -> int | None:
    try:
        return int((device / "class").read_text(), 16)
    except (OSError, ValueError):
        return None


def _vgpu(pci_devices: Path) -> tuple[bool, tuple[str, str] | None]:
    """Whether one of NVIDIA's PCI devices is a vGPU, and the hypervisor's driver. Raises OSError."""
    present, host = False, None
    for device in sorted(pci_devices.iterdir()):
        if (device / "vendor").read_text().strip() != _NVIDIA:
            continue
        config = (device / "config").read_bytes()
        if len(config) < _WHOLE_CONFIG:
            raise PermissionError(f"the kernel shows {len(config)} bytes of {device}/config; CAP_SYS_ADMIN shows all")
        capability = vgpu_capability(config)
        if capability is not None:
            present, host = True, host_driver(capability) or host
    return present, host


def vgpu_capability(config: bytes) -> bytes | None:
    """NVIDIA's capability of a vGPU in all 256 bytes of PCI configuration; None for any other device."""
    if not config[_STATUS] & _HAS_CAPABILITIES:
        return None
    at, seen = config[_CAPABILITIES], set()
    while at and at not in seen and at + 3 <= len(config) and config[at] != 0xFF:
        seen.add(at)
        if config[at] == _VENDOR_SPECIFIC:
            capability = config[at : at + config[at + 2]]
            return capability if capability[3:_RECORDS] == _SIGNATURE else None
        at = config[at + 1]
    return None


def host_driver(capability: bytes) -> tuple[str, str] | None:
    """Version and branch of the hypervisor's driver: the record with id 0, ten bytes each, padded with zeros."""
    at = _RECORDS
    while at + 2 <= len(capability) and capability[at] != 0:
        if capability[at + 1] == 0:
            return None
        at += capability[at + 1]
    data = capability[at + 2 : at + 2 + 2 * _VERSION_BYTES]
    if len(data) < 2 * _VERSION_BYTES:
        return None
    version, branch = data[:_VERSION_BYTES], data[_VERSION_BYTES:]
    return version.strip(b"\0").decode("ascii", "replace"), branch.strip(b"\0").decode("ascii", "replace")
