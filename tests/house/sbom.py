"""What the daemon's image holds beside its base: a bill of materials in CycloneDX 1.5 (JSON), from the pinned versions.

https://cyclonedx.org/docs/1.5/json/
"""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

from tests.house.repository import ROOT, version

REQUIREMENTS = ROOT / "files" / "devplugin" / "requirements.txt"

LICENSES = {
    "grpcio": "Apache-2.0",
    "nvidia-ml-py": "BSD-3-Clause",
    "prometheus-client": "Apache-2.0 AND BSD-2-Clause",
    "protobuf": "BSD-3-Clause",
    "pyyaml": "MIT",
    "typing-extensions": "PSF-2.0",
}
"""SPDX expressions for what the packages' metadata say; a package without an entry stops the release."""

NEEDS = {
    "grpcio": ["typing-extensions"],
    "nvidia-devplugin": ["grpcio", "nvidia-ml-py", "prometheus-client", "protobuf", "pyyaml"],
}
"""Which package needs which."""


def normalized(name: str) -> str:
    """A package's name as the package index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path = REQUIREMENTS) -> dict[str, str]:
    """Normalized names of the packages of a requirements file with hashes -> their versions."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalized(name): number for name, number in found}


def reference(name: str, number: str) -> str:
    return f"pkg:pypi/{name}@{number}"


def document() -> dict[str, Any]:
    """The bill of materials. Its serial number comes from its content, so the same pins give the same document."""
    pinned = pins()
    numbers = {"nvidia-devplugin": version(), **pinned}
    components = [
        {
            "type": "library",
            "bom-ref": reference(name, number),
            "name": name,
            "version": number,
            "purl": reference(name, number),
            "licenses": [{"expression": LICENSES[name]}],
        }
        for name, number in sorted(pinned.items())
    ]
    dependencies = [
        {
            "ref": reference(name, number),
            "dependsOn": [reference(needed, numbers[needed]) for needed in NEEDS.get(name, [])],
        }
        for name, number in sorted(numbers.items())
    ]
    content: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference("nvidia-devplugin", version()),
                "name": "nvidia-devplugin",
                "version": version(),
                "licenses": [{"license": {"id": "GPL-3.0-or-later"}}],
            }
        },
        "components": components,
        "dependencies": dependencies,
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {**content, "serialNumber": f"urn:uuid:{serial}"}
