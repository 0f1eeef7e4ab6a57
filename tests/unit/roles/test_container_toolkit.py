"""What the look of container_toolkit says of the machine, for distributions that the other tests have not."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from tests.house.repository import ROOT

VARIABLES = yaml.safe_load((ROOT / "roles/container_toolkit/vars/main/look.yml").read_text())

# case -> (ID, VERSION_ID and ID_LIKE of /etc/os-release, programs and what they link to, what is said)
CASES = {
    "Debian": (("debian", "12", ""), {"apt-get": ""}, "apt debian 12"),
    "Debian testing": (("debian", "", ""), {"apt-get": ""}, "apt debian 99"),
    "Ubuntu": (("ubuntu", "24.04", "debian"), {"apt-get": ""}, "apt ubuntu 24.04"),
    "dnf beside apt": (("debian", "12", ""), {"apt-get": "", "dnf-3": "", "dnf": "dnf-3"}, "apt debian 12"),
    "Rocky": (("rocky", "9.4", "rhel centos fedora"), {"dnf-3": "", "dnf": "dnf-3"}, "dnf rocky 9.4"),
    "Fedora": (("fedora", "41", ""), {"dnf5": "", "dnf": "dnf5"}, "dnf5 fedora 41"),
    "CentOS with yum": (("centos", "7", "rhel fedora"), {"yum": ""}, "unknown centos 7"),
    "Leap": (("opensuse-leap", "15.6", "suse opensuse"), {"zypper": ""}, "zypper opensuse-leap 15.6"),
    "SLES": (("sles", "15.6", "suse"), {"zypper": ""}, "zypper sles 15.6"),
    "Alpine": (("alpine", "3.20.1", ""), {"apk": ""}, "unknown alpine 3.20.1"),
    "without os-release": (None, {}, "unknown unknown 0"),
}


@pytest.fixture
def look(tmp_path):
    """Runs the script with a folder in place of the root directory."""

    def run(release, programs, manager="", ostree=False):
        for folder in ("etc", "usr/bin", "run"):
            (tmp_path / folder).mkdir(parents=True)
        if release is not None:
            lines = [f'{key}="{value}"\n' for key, value in zip(("ID", "VERSION_ID", "ID_LIKE"), release, strict=True)]
            (tmp_path / "etc/os-release").write_text("".join(lines))
        for name, target in programs.items():
            program = tmp_path / "usr/bin" / name
            if target:
                program.symlink_to(target)
            else:
                program.touch(mode=0o755)
        if ostree:
            (tmp_path / "run/ostree-booted").touch()
        script = VARIABLES["__container_toolkit_machine_script"]
        for path in ("/etc/", "/usr/bin/", "/run/"):
            script = script.replace(path, f"{tmp_path}{path}")
        done = subprocess.run(
            ["sh", "-c", script], env={"PATH": "/usr/bin:/bin", "MANAGER": manager},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        word, architecture, rest = done.stdout.strip().split(" ", 2)
        assert word == "machine:"
        assert (
            architecture == subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
        )
        return rest

    return run


@pytest.mark.parametrize("case", CASES)
def test_the_package_manager_is_the_distributions(look, case):
    release, programs, said = CASES[case]
    assert look(release, programs) == said


def test_what_ansible_found_counts(look):
    assert look(CASES["Debian"][0], {"apt-get": ""}, manager="zypper") == "zypper debian 12"


def test_a_system_made_of_images_is_left_to_ansible(look):
    assert look(*CASES["Fedora"][:2], ostree=True) == "unknown fedora 41"
