"""What the machine says of itself beside the driver: its product name, and the PCI side of its GPUs."""

from __future__ import annotations

from pathlib import Path

from ..log import Logger
from .feature_labels import Machine

log = Logger("machine")

_PCI_DEVICES = Path("/sys/bus/pci/devices")

# PCI local bus specification 3.0, chapter 6: the configuration space
_STATUS, _HAS_CAPABILITIES, _CAPABILITIES = 0x06, 0x10, 0x34
_VENDOR_SPECIFIC = 0x09
_WHOLE_CONFIG = 256

# NVIDIA's vendor-specific capability of a vGPU: id, next, length, "VF", then records of id, length and data
_SIGNATURE, _RECORDS, _VERSION_BYTES = b"VF", 5, 10


def read(product_file: Path | None, bus_ids: list[str], pci_devices: Path = _PCI_DEVICES) -> Machine:
    """bus_ids: the GPUs' as NVML has them, in the order of their indices. What cannot be read is left out."""
    product = None
    if product_file is not None:
        try:
            product = product_file.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            log.warning("machine_type_unknown", file=product_file, error=error)
    devices = [pci_devices / sysfs_name(bus_id) for bus_id in bus_ids]
    hosts = [host for host in map(_vgpu_host_of, devices) if host is not None]
    return Machine(product, _class_of(devices[0]) if devices else None, hosts[-1] if hosts else None)


def sysfs_name(bus_id: str) -> str:
    """NVML's bus id (8-digit domain) as the kernel writes it (4-digit, lower case)."""
    domain, _colon, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _class_of(device: Path) -> int | None:
    try:
        return int((device / "class").read_text(), 16)
    except (OSError, ValueError):
        return None


def _vgpu_host_of(device: Path) -> tuple[str, str] | None:
    try:
        return vgpu_host((device / "config").read_bytes())
    except OSError:
        return None


def vgpu_host(config: bytes) -> tuple[str, str] | None:
    """Version and branch of the hypervisor's driver, from the PCI configuration of a vGPU; None for any other GPU.

    The kernel shows all 256 bytes to root alone; with fewer it cannot be told.
    """
    if len(config) < _WHOLE_CONFIG or not config[_STATUS] & _HAS_CAPABILITIES:
        return None
    at, seen = config[_CAPABILITIES], set()
    while at and at not in seen and at + 3 <= len(config) and config[at] != 0xFF:
        seen.add(at)
        if config[at] == _VENDOR_SPECIFIC:
            return _host_record(config[at : at + config[at + 2]])
        at = config[at + 1]
    return None


def _host_record(capability: bytes) -> tuple[str, str] | None:
    """The record with id 0: ten bytes each of version and branch, filled up with zeros."""
    if capability[3:_RECORDS] != _SIGNATURE:
        return None
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
