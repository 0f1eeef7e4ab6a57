"""Finding the kubelet in /proc, and reading its command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet import process
from tests.unit.plugins.plugin_utils.kubelet.machines import Machine

KUBEADM = ("/usr/bin/kubelet", "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf", "--v=2")


@pytest.mark.parametrize(
    ("arguments", "kind", "flavor"),
    [
        pytest.param(KUBEADM, "kubelet", "kubeadm", id="kubeadm"),
        pytest.param(("kubelet", "--hostname-override=a"), "kubelet", None, id="by-hand"),
        pytest.param(
            ("kubelet", "--kubeconfig=/var/lib/rancher/rke2/agent/kubelet.kubeconfig"), "kubelet", "rke2", id="rke2"
        ),
        pytest.param(("/var/lib/k0s/bin/kubelet", "--v=1"), "kubelet", "k0s", id="k0s"),
        pytest.param(("/usr/local/bin/k3s server",), "k3s", "k3s", id="k3s-title"),
        pytest.param(("/usr/local/bin/k3s", "agent", "--docker"), "k3s", "k3s", id="k3s-words"),
        pytest.param(("/snap/microk8s/1/kubelite", "--x=1"), "kubelite", "microk8s", id="microk8s"),
    ],
)
def test_what_counts_as_a_kubelet(tmp_path, arguments, kind, flavor):
    found = process.find(Machine(tmp_path).process(1, "/sbin/init").process(42, *arguments).look())
    assert (found["pid"], found["kind"], found["flavor"]) == (42, kind, flavor)


@pytest.mark.parametrize(
    "arguments",
    [
        ("vi", "/usr/bin/kubelet"),
        ("kubelet-csr-approver",),
        ("/usr/local/bin/k3s", "kubectl", "get", "pods"),
        ("rke2 server",),
        (),
    ],
)
def test_what_does_not(tmp_path, arguments):
    assert process.find(Machine(tmp_path).process(42, *arguments).look()) is None


def test_kubelets_in_containers_belong_to_other_machines(tmp_path):
    machine = Machine(tmp_path).process(30, *KUBEADM, nested=True).process(40, *KUBEADM)
    assert process.find(machine.look())["pid"] == 40


def test_a_kubelet_of_its_own_is_preferred(tmp_path):
    machine = Machine(tmp_path).process(10, "k3s", "server").process(20, "kubelet").process(30, "kubelet")
    assert process.find(machine.look())["pid"] == 20


def test_no_proc_at_all(tmp_path):
    assert process.find(Machine(tmp_path).look()) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["--endpoint=unix:///a"], "unix:///a", id="one-word"),
        pytest.param(["--endpoint", "unix:///a"], "unix:///a", id="two-words"),
        pytest.param(["-endpoint=a"], "a", id="one-dash"),
        pytest.param(["--endpoint=a", "--endpoint", "b"], "b", id="the-last-wins"),
        pytest.param(["--endpoint"], "true", id="at-the-end"),
        pytest.param(["--endpoint", "--v=2"], "true", id="without-value"),
        pytest.param(["--endpoint="], "", id="empty"),
        pytest.param(["--endpoint=a=b"], "a=b", id="with-equals-sign"),
        pytest.param(["--endpoints=a", "endpoint=b"], None, id="others"),
        pytest.param(["--", "--endpoint=a"], None, id="after-the-end"),
        pytest.param([], None, id="none"),
    ],
)
def test_option(arguments, expected):
    assert process.option(["kubelet", *arguments], "endpoint") == expected


def test_the_program_itself_is_no_option():
    assert process.option(["--endpoint=a"], "endpoint") is None


WORDS = st.lists(
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1), min_size=2
)


@given(WORDS)
def test_split_takes_apart_what_the_kernel_joined(arguments):
    assert process.split("".join(word + "\0" for word in arguments).encode()) == arguments


def test_split_of_a_title_with_padding():
    assert process.split(b"/usr/local/bin/k3s server\0\0\0\0") == ["/usr/local/bin/k3s", "server"]


def test_split_of_nothing():
    assert process.split(b"") == []
