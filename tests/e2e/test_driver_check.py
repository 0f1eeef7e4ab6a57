"""The role driver_check on a node whose simulated driver is changed under it: every check fails once, and says why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.nodes import fresh_cluster
from tests.sim.cluster import cluster, docker
from tests.sim.cluster.use import Handle, PlaybookRun

SPEC = cluster.Spec("drv", gpus=2, kubernetes=False)
PLAYBOOK = "../tests/e2e/driver_check.yml"
STATE = "/etc/nvml-sim/state"
VENV = "/opt/kubegpu/pynvml"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# What each test sets on the node is put back by `fresh`.
REFRESH = (
    "nvml-sim nodes; nvml-sim proc /proc/driver/nvidia; "
    "rm -rf /sys/bus/pci/devices/*; nvml-sim sysfs /sys/bus/pci/devices"
)


@pytest.fixture(scope="module")
def gpu_node() -> Iterator[Handle]:
    """A node with Docker and two simulated H100, without Kubernetes."""
    with fresh_cluster(SPEC) as handle:
        yield handle


def shell(node: Handle, script: str, timeout: float = 300) -> str:
    return node.execute("bash", "-c", script, timeout=timeout)


def describe(node: Handle, *init: str) -> None:
    """Makes the machine one with these GPUs and this driver, as after a boot."""
    shell(node, f"rm -f /dev/nvidia[0-9]*; nvml-sim init {' '.join(init)}; {REFRESH}")


@pytest.fixture
def fresh(gpu_node: Handle) -> Handle:
    describe(gpu_node, "--count", "2")
    return gpu_node


def check(node: Handle, *arguments: str, **variables: object) -> PlaybookRun:
    extra = {f"driver_check_{name}": value for name, value in variables.items()}
    return node.playbook(PLAYBOOK, "-e", json.dumps(extra), *arguments)


def words(run: PlaybookRun) -> str:
    """The output without the line breaks of the terminal."""
    return " ".join(run.output.split())


def test_a_good_machine_passes_every_check(fresh: Handle) -> None:
    run = check(fresh, persistenced=True, min_cuda_version="12.4", min_driver_version="550")
    assert run.returncode == 0, run.output
    assert run.changed == 0
    assert "STILL HERE with source nvidia-smi" in run.output


FAILURES = [
    pytest.param(
        "nvml-sim init --driver 390.157 --model V100",
        {},
        "Driver 390.157 is older than 418.81.07, the least that NVIDIA Container Toolkit supports. Update the driver.",
        "toolkit_driver",
        id="toolkit-driver",
    ),
    pytest.param(
        "nvml-sim init --driver 375.66 --model V100",
        {"toolkit_driver": False},
        "Driver 375.66 is older than 384.81, the least that the device plugin supports.",
        "plugin_driver",
        id="plugin-driver",
    ),
    pytest.param(
        "nvml-sim init --driver 535.183.01",
        {"min_cuda_version": "12.8"},
        "supports CUDA up to 12.2, wanted is 12.8 (driver_check_min_cuda_version). Update the driver to 570.26 or",
        None,
        id="cuda",
    ),
    pytest.param(
        "nvml-sim init --model V100; nvml-sim set 0 compute_capability 2.1; nvml-sim set 0 name 'Tesla M2090'",
        {},
        "GPU 0 (Tesla M2090) has compute capability 2.1: at least 3.0 is needed.",
        "compute_capability",
        id="old-model",
    ),
    pytest.param(
        "nvml-sim init; nvml-sim unload",
        {"device_nodes": False},
        "but the nvidia kernel module is not loaded. Install the NVIDIA driver, or load it with modprobe nvidia",
        "gpu",
        id="unloaded",
    ),
    pytest.param(
        "nvml-sim init; nvml-sim library-mismatch 550.90.07",
        {},
        "The loaded kernel module (550.54.15) and the driver's library",
        "module_match",
        id="mismatch",
    ),
    pytest.param(
        "nvml-sim init --count 2; nvml-sim lose 1",
        {},
        "1 of 2 GPUs no longer answer: GPU 1 at 0000:43:00.0",
        "gpu",
        id="lost",
    ),
    pytest.param(
        "nvml-sim init --count 0; rm -f /dev/nvidia[0-9]*",
        {},
        "The driver is loaded, but there is no NVIDIA GPU on the PCI bus.",
        "gpu",
        id="no-gpu",
    ),
    pytest.param(
        "nvml-sim init --count 8 --nvswitches 4",
        {},
        "connected by NVSwitches, but nv-fabricmanager is not installed: CUDA fails with error 802.",
        "fabric_manager",
        id="fabric-manager",
    ),
    pytest.param(
        "nvml-sim init --model RTX-4090",
        {"persistenced": True},
        "nvidia-persistenced is not installed, and not every GPU is in persistence mode",
        "persistenced",
        id="persistenced",
    ),
]


@pytest.mark.parametrize(("change", "variables", "message", "switch"), FAILURES)
def test_a_check_fails_and_says_what_to_do(
    fresh: Handle, change: str, variables: dict[str, object], message: str, switch: str | None
) -> None:
    shell(fresh, f"{change}; {REFRESH}")
    run = check(fresh, **variables)
    assert run.returncode != 0, run.output
    assert f"{fresh.node} is not ready for GPU containers." in words(run)
    assert message in words(run)
    if switch:
        # With its switch off this check is silent, whatever others say.
        assert message not in words(check(fresh, mode="warn", **{**variables, switch: False}))


def test_device_nodes_that_are_missing(fresh: Handle) -> None:
    # With device_nodes off the library answers for GPUs whose nodes are not there, as it does to root on a machine
    # where something removed them again.
    shell(fresh, "nvml-sim set system device_nodes off; rm /dev/nvidia1")
    run = check(fresh)
    assert 'The driver answers, but /dev/nvidia1 is missing. Run "nvidia-modprobe -c 0 -u"' in words(run)
    assert check(fresh, device_nodes=False).returncode == 0


def test_a_fabric_manager_that_runs_and_one_that_is_not_done(fresh: Handle) -> None:
    describe(fresh, "--count", "2", "--nvswitches", "4")
    shell(fresh, "cp /bin/sleep /usr/bin/nv-fabricmanager; systemd-run --unit=fabric /usr/bin/nv-fabricmanager 3600")
    try:
        assert check(fresh).returncode == 0
        shell(fresh, "nvml-sim set 1 fabric 'state=in-progress clique=0'")
        assert "has not registered all of them yet (state in_progress)" in words(check(fresh))
        shell(fresh, "nvml-sim set 1 fabric 'state=completed clique=0'; systemctl stop fabric")
        assert check(fresh).returncode == 0, "the fabric is complete, wherever its manager runs"
    finally:
        shell(fresh, "systemctl stop fabric || true; rm -f /usr/bin/nv-fabricmanager")


def test_modes_and_several_findings_in_one_message(fresh: Handle) -> None:
    shell(fresh, f"nvml-sim init --driver 375.66 --model V100; {REFRESH}")
    failing = check(fresh)
    assert failing.returncode != 0
    assert "Driver 375.66 is older than 418.81.07" in words(failing)
    assert "Driver 375.66 is older than 384.81" in words(failing)
    assert "STILL HERE" not in failing.output
    warning = check(fresh, mode="warn")
    assert warning.returncode == 0, warning.output
    assert f"WARNING: {fresh.node} is not ready" in words(warning)
    assert "STILL HERE" in warning.output
    assert "LEFT OUT: no" in warning.output
    skipping = check(fresh, mode="skip_host")
    assert skipping.returncode == 0, skipping.output
    assert "STILL HERE" not in skipping.output
    assert f"LEFT OUT: {fresh.node} is not ready for GPU containers. Driver 375.66" in words(skipping)
    assert warning.changed == skipping.changed == 0


DEBS = ("libnvidia-ml1", "nvidia-driver", "nvidia-container-toolkit-base", "libnvidia-container1", "unrelated")
BUILD_DEBS = r"""
set -e
for name in %s; do
  mkdir -p /tmp/debs/$name/DEBIAN
  cat > /tmp/debs/$name/DEBIAN/control <<END
Package: $name
Version: 550.54.15-1
Architecture: all
Maintainer: test <test@example.com>
Description: test
END
  dpkg-deb --build /tmp/debs/$name /tmp/debs/$name.deb >/dev/null
done
dpkg -i /tmp/debs/*.deb >/dev/null
"""


def test_apt_holds_and_releases_the_drivers_packages(fresh: Handle) -> None:
    shell(fresh, BUILD_DEBS % " ".join(DEBS))
    wanted = "libnvidia-ml1\nnvidia-driver"
    assert check(fresh, "--check", packages="held").changed == 1
    assert shell(fresh, "apt-mark showhold") == ""
    assert check(fresh, packages="held").changed == 1
    assert shell(fresh, "apt-mark showhold") == wanted
    assert check(fresh, packages="held").changed == 0
    assert check(fresh, "--check", packages="released").changed == 1
    assert shell(fresh, "apt-mark showhold") == wanted
    assert check(fresh, packages="released", packages_exclude=["nvidia-driver"]).changed == 1
    assert shell(fresh, "apt-mark showhold") == "nvidia-driver"
    assert check(fresh, "--tags", "driver_check", packages="released").changed == 1
    assert shell(fresh, "apt-mark showhold") == ""
    assert check(fresh, packages="released").changed == 0


BUILD_RPMS = r"""
set -e
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends rpm MANAGER >/dev/null
mkdir -p /tmp/rpms && cd /tmp/rpms
for name in nvidia-driver kmod-nvidia-open-dkms nvidia-container-toolkit unrelated; do
  cat > $name.spec <<END
Name: $name
Epoch: 3
Version: 550.54.15
Release: 1.el9
Summary: test
License: none
BuildArch: noarch
%description
test
%files
END
  rpmbuild --quiet -bb --define '_rpmdir /tmp/rpms' $name.spec
done
rpm -U --force --nodeps /tmp/rpms/noarch/*.rpm
"""


def test_dnf_locks_and_unlocks_the_drivers_packages(fresh: Handle) -> None:
    shell(fresh, BUILD_RPMS.replace("MANAGER", "dnf dnf-plugins-core"), timeout=600)

    def locked() -> list[str]:
        return sorted(re.findall(r"^(\S+)-3:", shell(fresh, "dnf --quiet --cacheonly versionlock list"), re.MULTILINE))

    wanted = ["kmod-nvidia-open-dkms", "nvidia-driver"]
    dnf = {"package_manager": "dnf"}
    assert check(fresh, "--check", packages="held", **dnf).changed == 1
    assert locked() == []
    run = check(fresh, packages="held", **dnf)
    assert (run.returncode, run.changed) == (0, 1), run.output
    assert locked() == wanted
    assert check(fresh, packages="held", **dnf).changed == 0
    assert check(fresh, packages="released", **dnf).changed == 1
    assert locked() == []
    assert check(fresh, packages="released", **dnf).changed == 0


def test_zypper_locks_and_unlocks_the_drivers_packages(fresh: Handle) -> None:
    # Debian's zypper and its plugins of dnf exclude each other: apt takes those away.
    shell(fresh, BUILD_RPMS.replace("MANAGER", "zypper"), timeout=600)

    def locked() -> list[str]:
        return sorted(
            re.findall(r"^solvable_name: (\S+)", shell(fresh, "cat /etc/zypp/locks 2>/dev/null || true"), re.MULTILINE)
        )

    others, ours = ["unrelated"], ["kmod-nvidia-open-dkms", "nvidia-driver"]
    zypper = {"package_manager": "zypper"}
    planned = check(fresh, "--check", packages="held", **zypper)
    assert (planned.returncode, planned.changed, locked()) == (0, 1, []), planned.output
    shell(fresh, "zypper --non-interactive addlock unrelated >/dev/null")
    run = check(fresh, packages="held", **zypper)
    assert (run.returncode, run.changed) == (0, 1), run.output
    assert locked() == sorted(others + ours)
    assert check(fresh, packages="held", **zypper).changed == 0
    run = check(fresh, packages="released", packages_exclude=["nvidia-driver"], **zypper)
    assert (run.returncode, run.changed, locked()) == (0, 1, ["nvidia-driver", "unrelated"]), run.output
    assert check(fresh, packages="released", **zypper).changed == 1
    assert locked() == others
    assert check(fresh, packages="released", **zypper).changed == 0


def test_pynvml_in_a_virtual_environment_of_our_own(fresh: Handle) -> None:
    if Path(CERTIFICATES).exists():
        docker.run("cp", CERTIFICATES, f"{fresh.node}:/var/tmp/ca.crt")
    assert shell(fresh, "ls /usr/lib/python3*/EXTERNALLY-MANAGED"), "this distribution forbids pip (PEP 668)"
    variables = {"pynvml": "venv", "pynvml_environment": {"PIP_CERT": "/var/tmp/ca.crt"}}
    planned = check(fresh, "--check", **variables)
    assert (planned.returncode, planned.changed > 0) == (0, True), planned.output
    assert shell(fresh, f"ls {VENV} 2>/dev/null || true") == ""
    made = check(fresh, **variables)
    assert made.returncode == 0, made.output
    assert "STILL HERE with source nvml" in made.output
    again = check(fresh, **variables)
    assert (again.returncode, again.changed) == (0, 0), again.output
    other = check(fresh, pynvml_version="12.560.30", **variables)
    assert (other.returncode, other.changed) == (0, 1), other.output
    assert "Version: 12.560.30" in shell(fresh, f"{VENV}/bin/python -m pip show nvidia-ml-py")
    # Without it the facts come from nvidia-smi, and the environment lies idle.
    assert "STILL HERE with source nvidia-smi" in check(fresh).output


def test_pynvml_from_the_distribution(fresh: Handle) -> None:
    shell(fresh, BUILD_DEBS % "libnvidia-ml1")  # Debian's package wants the driver's library as a package
    shell(
        fresh,
        "echo 'deb http://deb.debian.org/debian bookworm contrib' > /etc/apt/sources.list.d/contrib.list; "
        "apt-get -qq update",
    )
    planned = check(fresh, "--check", pynvml="package")
    assert (planned.returncode, planned.changed) == (0, 1), planned.output
    made = check(fresh, pynvml="package")
    assert (made.returncode, made.changed) == (0, 1), made.output
    assert "STILL HERE with source nvml" in made.output
    assert check(fresh, pynvml="package").changed == 0
    shell(fresh, "apt-get -qq purge -y python3-pynvml >/dev/null")
