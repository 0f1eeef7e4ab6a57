"""What the look of container_toolkit says of the machine, for distributions that the other tests have not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
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


@pytest.fixture
def cdi_unit(tmp_path):
    """The unit kubegpu-cdi-refresh.service as a file, and its lines."""
    variables = yaml.safe_load((ROOT / "roles/container_toolkit/vars/main/cdi.yml").read_text())
    template = (ROOT / "roles/container_toolkit/templates/cdi-refresh.service.j2").read_text()
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 no HTML
    environment.filters["dirname"] = os.path.dirname
    text = environment.from_string(template).render(
        ansible_managed="Ansible managed",
        container_toolkit_cdi_spec="/etc/cdi/nvidia.yaml",
        __container_toolkit_cdi_nodes=variables["__container_toolkit_cdi_nodes"],
        __container_toolkit_cdi_command=["/bin/true", "cdi", "generate"],
    )
    unit = tmp_path / "kubegpu-cdi-refresh.service"
    unit.write_text(text)
    return unit, text.splitlines()


def shell(lines, key, folder, **environment):
    """Runs what sh is given in a line of the unit, with programs of folder; returns what they were called with."""
    (line,) = [line for line in lines if line.startswith(f"{key}=-/bin/sh -c '")]
    script = line.split("'", 1)[1].rstrip("'").replace("/usr/bin/", "").replace("%n", "unit")
    for name in ("nvidia-smi", "nvidia-ctk", "systemd-run"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\ncase "$*" in *$FAIL*) exit 1 ;; esac\n')
        program.chmod(0o755)
    subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": f"{folder}:/usr/bin:/bin", "FAIL": "nothing", **environment},
        check=False,
    )
    calls = folder / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_the_cdi_unit_is_one_that_every_systemd_takes(cdi_unit):
    unit, lines = cdi_unit
    assert "Type=oneshot" in lines
    # refused for this type by systemd before 244
    assert not [line for line in lines if line.startswith("Restart=")]
    assert "Before=docker.service containerd.service crio.service" in lines
    if shutil.which("systemd-analyze"):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
        )
        assert [line for line in done.stderr.splitlines() if unit.name in line] == []


def test_the_cdi_unit_loads_the_driver_and_makes_its_nodes_first(cdi_unit, tmp_path):
    _unit, lines = cdi_unit
    keys = [line.partition("=")[0] for line in lines]
    assert keys.index("ExecStartPre") < keys.index("ExecStart")
    make = "nvidia-ctk system create-device-nodes --control-devices"
    assert shell(lines, "ExecStartPre", tmp_path) == ["nvidia-smi -L", f"{make} --load-kernel-modules"]
    (tmp_path / "calls").unlink()
    # modules that cannot be loaded: those that are loaded get their nodes
    calls = shell(lines, "ExecStartPre", tmp_path, FAIL="load-kernel-modules")
    assert calls == ["nvidia-smi -L", f"{make} --load-kernel-modules", make]


def test_the_cdi_unit_tries_again_where_it_failed(cdi_unit, tmp_path):
    _unit, lines = cdi_unit
    assert shell(lines, "ExecStopPost", tmp_path, SERVICE_RESULT="success") == []
    again = ["systemd-run --collect --on-active=10 systemctl start unit"]
    assert shell(lines, "ExecStopPost", tmp_path, SERVICE_RESULT="exit-code") == again


def test_missing_links_in_dev_char_are_seen_by_the_look_and_made(tmp_path):
    """Whatever the engine is: the look at the node and the tasks that follow, on a tree of its own."""
    root = tmp_path / "root"
    gpu = root / "proc/driver/nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (root / "etc/udev").mkdir(parents=True)
    (gpu / "information").write_text("Device Minor: \t 0\n")
    role = {"name": "kubegpu.nvidia.container_toolkit"}
    missing = {"ansible.builtin.debug": {"msg": "missing {{ __container_toolkit_dev_char_missing | length }}"}}
    look = [{"ansible.builtin.include_role": {**role, "tasks_from": "look", "public": True}}, missing]
    make = {"ansible.builtin.include_role": {**role, "tasks_from": "dev_char"}}
    remove = {**make, "vars": {"container_toolkit_state": "absent"}}
    off = [{**look[0], "vars": {"container_toolkit_dev_char": False}}, missing]
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
    }
    # A play each, since what a public include is given counts from then on.
    plays = [{**play, "tasks": off}, {**play, "tasks": [*look, make, *look, remove]}]
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps(plays))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(playbook)],
        cwd=ROOT, env={**os.environ,
                       "ANSIBLE_CONFIG": "ansible.cfg", "ANSIBLE_NOCOLOR": "1", "KUBEGPU_ROOT": str(root)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.findall(r"msg: missing (\d+)", done.stdout)
    # three links, the script and the rule
    assert counts == ["0", "5", "0"], done.stdout
    assert (root / "dev/char/195:0").readlink() == Path("../nvidia0")
    assert "removed: /etc/udev/rules.d/72-kubegpu-dev-char.rules" in done.stdout
    assert not (root / "etc/udev/rules.d/72-kubegpu-dev-char.rules").exists()
