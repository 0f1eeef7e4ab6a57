"""Which runtimes are installed, and which one an endpoint belongs to."""

import pytest

from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet import runtimes
from tests.unit.plugins.plugin_utils.kubelet.machines import Machine


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("unix:///run/containerd/containerd.sock", "containerd"),
        ("unix:///run/k3s/containerd/containerd.sock", "containerd"),
        ("unix:///var/snap/microk8s/common/run/containerd.sock", "containerd"),
        ("/run/crio/crio.sock", "crio"),
        ("unix:///var/run/dockershim.sock", "docker"),
        ("unix:///run/cri-dockerd.sock", "docker"),
        ("unix:///run/k3s/cri-dockerd/cri-dockerd.sock", "docker"),
        ("unix:///run/isulad.sock", None),
    ],
)
def test_of_endpoint(endpoint, expected):
    assert runtimes.of_endpoint(endpoint) == expected


def test_installed_by_socket_by_program_and_by_both(tmp_path):
    machine = Machine(tmp_path).socket("run/docker.sock").program("usr/bin/containerd")
    machine.socket("run/crio/crio.sock").program("usr/local/bin/crio")
    assert runtimes.installed(machine.look()) == {
        "docker": {"socket": "/run/docker.sock", "program": None, "version": None},
        "containerd": {"socket": None, "program": "/usr/bin/containerd", "version": None},
        "crio": {"socket": "/run/crio/crio.sock", "program": "/usr/local/bin/crio", "version": None},
    }


def test_a_file_in_the_place_of_a_socket_and_a_program_that_cannot_run(tmp_path):
    machine = Machine(tmp_path).file("run/docker.sock", "").file("usr/bin/crio", "")
    assert runtimes.installed(machine.look()) == {}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Docker version 20.10.24+dfsg1, build 297e128\n", "20.10.24"),
        ("Docker version 28.0.0-rc.1, build 1\n", "28.0.0-rc.1"),
        ("containerd github.com/containerd/containerd v1.7.22 7f7fdf5fed64eb6a7caf\n", "1.7.22"),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1\n", "1.6.20"),
        ("crio version 1.28.1\nVersion:        1.28.1\n", "1.28.1"),
        ("no number\n", None),
        (None, None),
    ],
)
def test_version(said, expected):
    assert runtimes.version(said) == expected


def test_the_first_program_is_asked_for_its_version(tmp_path):
    machine = Machine(tmp_path).program("usr/bin/crio", "crio version 1.28.1\nVersion: 9").program("bin/crio", "2.0")
    machine.program("usr/sbin/dockerd")
    installed = runtimes.installed(machine.look())
    assert {name: runtime["version"] for name, runtime in installed.items()} == {"crio": "1.28.1", "docker": None}
    assert runtimes.installed(machine.look(versions=False))["crio"]["version"] is None


ALL = {"docker", "containerd", "crio"}


@pytest.mark.parametrize(
    ("wanted", "kubelets", "installed", "expected"),
    [
        ("auto", "containerd", {"containerd"}, ["containerd"]),
        ("auto", "containerd", ALL, ["docker", "containerd"]),
        ("auto", "docker", {"docker", "containerd"}, ["docker"]),
        ("auto", "crio", {"crio", "containerd"}, ["crio"]),
        ("auto", None, {"containerd"}, ["containerd"]),
        ("auto", None, {"crio", "containerd"}, ["crio"]),
        ("auto", None, {"docker", "containerd"}, ["docker"]),
        ("auto", None, ALL, ["docker"]),
        ("auto", None, set(), []),
        ("docker", None, set(), ["docker"]),
        ("docker", "containerd", {"containerd"}, ["docker"]),
        ("containerd", "crio", ALL, ["docker", "containerd"]),
        ("crio", None, {"containerd"}, ["crio"]),
    ],
)
def test_to_set_up(wanted, kubelets, installed, expected):
    assert runtimes.to_set_up(wanted, kubelets, installed) == expected
