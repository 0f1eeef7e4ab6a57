"""Which runtime the kubelet uses, on machines of every kind."""

import pytest

from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet import facts
from tests.unit.plugins.plugin_utils.kubelet.machines import Machine

CONTAINERD = "unix:///run/containerd/containerd.sock"
K3S = "unix:///run/k3s/containerd/containerd.sock"
KEY = "containerRuntimeEndpoint"


def decide(machine):
    """What is decided, and how many questions the machine was asked."""
    gathered = facts.gather(machine.look(versions=False))
    return (gathered["endpoint"], gathered["runtime"], gathered["source"]), len(machine.scripts)


def kubelet(tmp_path, *arguments):
    return Machine(tmp_path).process(42, "/usr/bin/kubelet", *arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            [f"--container-runtime-endpoint={CONTAINERD}"], (CONTAINERD, "containerd", "command line"), id="one-word"
        ),
        pytest.param(
            ["--container-runtime-endpoint", "/run/crio/crio.sock", "--v=2"],
            ("unix:///run/crio/crio.sock", "crio", "command line"),
            id="two-words-without-scheme",
        ),
        pytest.param(
            ["--container-runtime=remote", f"--container-runtime-endpoint={CONTAINERD}"],
            (CONTAINERD, "containerd", "command line"),
            id="remote",
        ),
        pytest.param(["--container-runtime=docker"], (None, "docker", "command line"), id="docker"),
        pytest.param(
            ["--container-runtime=docker", f"--container-runtime-endpoint={CONTAINERD}"],
            (None, "docker", "command line"),
            id="docker-ignores-the-endpoint",
        ),
        pytest.param(
            ["--container-runtime-endpoint=unix:///run/cri-dockerd.sock"],
            ("unix:///run/cri-dockerd.sock", "docker", "command line"),
            id="cri-dockerd",
        ),
        pytest.param(
            ["--container-runtime-endpoint=unix:///run/isulad.sock"],
            ("unix:///run/isulad.sock", None, "command line"),
            id="a-runtime-that-we-do-not-know",
        ),
    ],
)
def test_the_command_line_tells(tmp_path, arguments, expected):
    machine = kubelet(tmp_path, *arguments).file("/k.yaml", f"{KEY}: unix:///run/never.sock")
    assert decide(machine) == (expected, 1)


def test_the_config_file_tells(tmp_path):
    machine = kubelet(tmp_path, "--config=/var/lib/kubelet/config.yaml")
    machine.file("/var/lib/kubelet/config.yaml", f"kind: KubeletConfiguration\n{KEY}: {CONTAINERD}\n")
    assert decide(machine) == ((CONTAINERD, "containerd", "config file"), 1)


def test_files_in_unusual_places_are_asked_for(tmp_path):
    machine = kubelet(tmp_path, "--config=/my files/it's.yaml", "--config-dir=/my files/d/")
    machine.file("/my files/it's.yaml", f"{KEY}: {CONTAINERD}\n")
    assert decide(machine) == ((CONTAINERD, "containerd", "config file"), 3)


def test_the_config_directory_overrides_the_file(tmp_path):
    machine = kubelet(tmp_path, "--config", "/k.yaml", "--config-dir=/k.d")
    machine.file("/k.yaml", f"{KEY}: {CONTAINERD}").file("/k.d/10.conf", f"{KEY}: unix:///run/crio/crio.sock")
    assert decide(machine) == (("unix:///run/crio/crio.sock", "crio", "config directory"), 2)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v1.20.2", (None, "docker", "default")),
        ("v1.23.17", (None, "docker", "default")),
        ("v1.24.0", (CONTAINERD, "containerd", "default")),
        ("v1.35.0-alpha.1", (CONTAINERD, "containerd", "default")),
    ],
)
def test_the_version_tells_the_default(tmp_path, version, expected):
    machine = kubelet(tmp_path).program("/proc/42/exe", f"Kubernetes {version}")
    assert decide(machine) == (expected, 2)


@pytest.mark.parametrize("option", ["--network-plugin=cni", "--cni-bin-dir=/opt/cni/bin"])
def test_options_of_dockershim_tell_without_asking(tmp_path, option):
    assert decide(kubelet(tmp_path, option)) == ((None, "docker", "default"), 1)


def test_the_socket_of_dockershim_tells_without_asking(tmp_path):
    assert decide(kubelet(tmp_path).socket("/var/run/dockershim.sock")) == ((None, "docker", "default"), 1)


def test_sockets_tell_when_the_version_does_not(tmp_path):
    machine = kubelet(tmp_path).socket("/run/containerd/containerd.sock")
    assert decide(machine)[0] == (None, "containerd", "sockets")


@pytest.mark.parametrize(
    ("files", "sockets", "expected"),
    [
        pytest.param({}, [], (K3S, "containerd", "default"), id="plain"),
        pytest.param(
            {"/etc/rancher/k3s/config.yaml": "docker: true\n"},
            [],
            ("unix:///run/k3s/cri-dockerd/cri-dockerd.sock", "docker", "config file"),
            id="docker-in-its-file",
        ),
        pytest.param(
            {},
            ["/run/k3s/cri-dockerd/cri-dockerd.sock"],
            ("unix:///run/k3s/cri-dockerd/cri-dockerd.sock", "docker", "sockets"),
            id="docker-by-an-option-that-k3s-hides",
        ),
        pytest.param(
            {"/etc/rancher/k3s/config.yaml.d/a.yaml": "container-runtime-endpoint: /run/containerd/containerd.sock\n"},
            [],
            (CONTAINERD, "containerd", "config file"),
            id="its-own-endpoint",
        ),
        pytest.param(
            {"/var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00-k3s-defaults.conf": f"{KEY}: {K3S}\n"},
            [],
            (K3S, "containerd", "config directory"),
            id="as-k3s-writes-it-from-1.32",
        ),
    ],
)
def test_k3s(tmp_path, files, sockets, expected):
    machine = Machine(tmp_path).process(7, "/usr/local/bin/k3s server")
    for path, text in files.items():
        machine.file(path, text)
    for path in sockets:
        machine.socket(path)
    assert decide(machine) == (expected, 1)


def test_of_k3s_files_the_clusters_secrets_stay_on_the_machine(tmp_path):
    machine = Machine(tmp_path).process(7, "k3s", "server")
    for path in ("/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/config.yaml.d/a.yaml"):
        machine.file(path, "token: s3cret\ndatastore-endpoint: mysql://u:s3cret@db\n'docker': true\n")
    looked = machine.look()
    assert facts.gather(looked)["runtime"] == "docker"
    assert "s3cret" not in repr(looked)


def test_microk8s(tmp_path):
    machine = Machine(tmp_path).process(7, "/snap/microk8s/6532/kubelite", "--kubelet-args-file=/args/kubelet")
    machine.file(
        "/args/kubelet",
        '--kubeconfig="${SNAP_DATA}/x"\n--container-runtime-endpoint="${SNAP_COMMON}/run/containerd.sock"\n',
    )
    assert decide(machine)[0] == (
        "unix:///var/snap/microk8s/common/run/containerd.sock",
        "containerd",
        "command line",
    )


def test_rke2(tmp_path):
    machine = Machine(tmp_path).process(
        7, "kubelet", f"--container-runtime-endpoint={K3S}", "--root-dir=/var/lib/rancher/rke2/x"
    )
    gathered = facts.gather(machine.look())
    assert (gathered["flavor"], gathered["runtime"], gathered["endpoint"]) == ("rke2", "containerd", K3S)


@pytest.mark.parametrize(
    ("sockets", "expected"),
    [
        (["/run/docker.sock", "/run/containerd/containerd.sock"], (None, "docker", "sockets")),
        (["/run/containerd/containerd.sock"], (None, "containerd", "sockets")),
        (["/run/crio/crio.sock", "/run/docker.sock"], (None, "crio", "sockets")),
        (["/run/cri-dockerd.sock", "/run/crio/crio.sock"], (None, "docker", "sockets")),
        ([], (None, None, None)),
    ],
)
def test_without_a_kubelet(tmp_path, sockets, expected):
    machine = Machine(tmp_path)
    for path in sockets:
        machine.socket(path)
    assert decide(machine)[0] == expected


def test_a_kubelet_that_kubeadm_has_set_up_and_that_does_not_run(tmp_path):
    machine = Machine(tmp_path).socket("/run/docker.sock")
    machine.file(
        "/var/lib/kubelet/kubeadm-flags.env",
        f'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint={CONTAINERD} --pod-infra-container-image=x"\n',
    )
    assert decide(machine)[0] == (CONTAINERD, "containerd", "config file")


def test_all_keys_of_a_bare_machine(tmp_path):
    assert facts.gather(Machine(tmp_path).look()) == {
        "kubelet_running": False,
        "kubelet_pid": None,
        "endpoint": None,
        "runtime": None,
        "source": None,
        "flavor": None,
        "installed": {},
        "to_set_up": [],
    }
