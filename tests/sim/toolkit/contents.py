"""What NVIDIA's packages hold, series by series: files, places, relations and what they do when they are installed.

Taken from packaging/debian and packaging/rpm of nvidia-container-toolkit v1.17.8 and v1.20.2 and from pkg/ of
libnvidia-container. The programs are NVIDIA's own; of libnvidia-container, which is C, the command alone is there, as
a stand-in. packages.py and rpmrepo.py build from this.
"""

from __future__ import annotations

from packages import Package

CHANNELS = {"stable": ("1.17.8-1", "1.20.2-1"), "experimental": ("1.21.0~rc.1-1",)}
"""Versions of each channel. Those that PROGRAMS does not name are packages without any file."""

PROGRAMS = ("1.17.8-1", "1.20.2-1")

UNITS = {
    "{lib}/systemd/system/nvidia-cdi-refresh.service": "nvidia-cdi-refresh.service",
    "{lib}/systemd/system/nvidia-cdi-refresh.path": "nvidia-cdi-refresh.path",
    "{lib}/systemd/system/nvidia-cdi-refresh.service.d/10-container-engines.conf": "10-container-engines.conf",
    "{lib}/udev/rules.d/99-nvidia-cdi-refresh.rules": "99-nvidia-cdi-refresh.rules",
    "etc/nvidia-container-toolkit/nvidia-cdi-refresh.env": "nvidia-cdi-refresh.env",
}
PRESET = {"{lib}/systemd/system-preset/90-nvidia-container-toolkit.preset": "90-nvidia-container-toolkit.preset"}

_OLD_RUNTIME = "nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook"
_OLD_RUNTIME_RPM = "Obsoletes: nvidia-container-runtime <= 3.5.0-1, nvidia-container-runtime-hook <= 1.4.0-2"


def of(version: str) -> tuple[Package, ...]:
    """The four packages of a version (1.20.2-1)."""
    pinned = tuple(map(int, version.split(".")[:2])) >= (1, 18)  # since then all four must be of one version
    units = pinned and version in PROGRAMS
    packages = (_library(), _tools(), _base(units), _toolkit(pinned))
    return packages if version in PROGRAMS else tuple(package.without_files() for package in packages)


def _library() -> Package:
    return Package("libnvidia-container1", "NVIDIA container runtime library (without the library)")


def _tools() -> Package:
    return Package(
        "libnvidia-container-tools",
        "NVIDIA container runtime library, command-line tools (stand-in)",
        # the real one has python3 no use for
        relations={"Depends": "libnvidia-container1 (>= {v}), python3"},
        tags=("Requires: libnvidia-container1 >= {v}",),
        files={"usr/bin/nvidia-container-cli": "nvidia-container-cli"},
    )


def _base(units: bool) -> Package:
    return Package(
        "nvidia-container-toolkit-base",
        "NVIDIA Container Toolkit Base",
        relations={
            "Breaks": f"{_OLD_RUNTIME}, nvidia-container-toolkit (<= 1.10.0-1)",
            "Replaces": _OLD_RUNTIME,
        },
        tags=(
            _OLD_RUNTIME_RPM,
            "Provides: nvidia-container-runtime",
            "Conflicts: nvidia-container-toolkit <= 1.10.0-1",
        ),
        files={
            "usr/bin/nvidia-container-runtime": "nvidia-container-runtime",
            "usr/bin/nvidia-ctk": "nvidia-ctk",
            "usr/bin/nvidia-cdi-hook": "nvidia-cdi-hook",
            **(UNITS if units else {}),
        },
        rpm_files=PRESET if units else {},
        conffiles=("/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env",) if units else (),
        scripts={"postinst": "base.postinst", "prerm": "base.prerm", "postrm": "base.postrm"}
        if units
        else {"postinst": "base-1.17.postinst"},
        scriptlets="base.spec" if units else "",
    )


def _toolkit(pinned: bool) -> Package:
    equal = "=" if pinned else ">="
    return Package(
        "nvidia-container-toolkit",
        "NVIDIA Container toolkit",
        relations={
            "Depends": f"nvidia-container-toolkit-base (= {{v}}), libnvidia-container-tools ({equal} {{v}}), "
            "libnvidia-container-tools (<< 2.0.0)",
            "Breaks": _OLD_RUNTIME,
            "Replaces": _OLD_RUNTIME,
        },
        tags=(
            _OLD_RUNTIME_RPM,
            "Provides: nvidia-container-runtime",
            "Provides: nvidia-container-runtime-hook",
            f"Requires: libnvidia-container-tools {equal} {{v}}, libnvidia-container-tools < 2.0.0",
            "Requires: nvidia-container-toolkit-base = {v}",
        ),
        files={"usr/bin/nvidia-container-runtime-hook": "nvidia-container-runtime-hook"},
        scripts={"postinst": "toolkit.postinst", "postrm": "toolkit.postrm"},
        scriptlets="toolkit.spec" if pinned else "toolkit-1.17.spec",
    )


# What machines of nvidia-docker's time have; in no index of the repository.
OLD_PACKAGES = {
    "3.14.0-1": Package(
        "nvidia-container-runtime",
        "NVIDIA Container Toolkit meta-package (stand-in)",
        relations={"Depends": "nvidia-container-toolkit (>= 1.14.0), nvidia-container-toolkit (<< 2.0.0)"},
        tags=("Requires: nvidia-container-toolkit >= 1.14.0, nvidia-container-toolkit < 2.0.0",),
    ),
    "2.14.0-1": Package(
        "nvidia-docker2",
        "NVIDIA Container Toolkit meta-package (stand-in)",
        relations={"Depends": "nvidia-container-toolkit (>= 1.10.0), nvidia-container-toolkit (<< 2.0.0)"},
        tags=("Requires: nvidia-container-toolkit >= 1.10.0, nvidia-container-toolkit < 2.0.0",),
        files={"etc/docker/daemon.json": "daemon.json", "usr/bin/nvidia-docker": "nvidia-docker"},
        conffiles=("/etc/docker/daemon.json",),
    ),
}
