"""What a machine's shell is asked, and what becomes of its answers."""

import contextlib
import shutil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.plugin_utils.kubelet import machine
from tests.unit.plugins.plugin_utils.kubelet import machines
from tests.unit.plugins.plugin_utils.kubelet.machines import Machine


@pytest.fixture(params=[["sh", "-c"], ["bash", "--posix", "-c"], ["busybox", "sh", "-c"]], ids=lambda words: words[0])
def shell(request, monkeypatch):
    if not shutil.which(request.param[0]):
        pytest.skip(f"no {request.param[0]} here")
    monkeypatch.setattr(machines, "SHELL", request.param)


def test_what_every_shell_finds(shell, tmp_path):
    recorded = Machine(tmp_path / "it's a root").process(30, "/x y/kubelet", "--a=1\n2").process(7, "vi", "kubelet.go")
    recorded.process(8, "kubelet", nested=True).socket("/run/crio/crio.sock").program("/usr/bin/crio", "1.2")
    looked = recorded.look()
    assert sorted(looked.processes, key=lambda process: process.pid) == [
        machine.Process(8, b"kubelet\0", nested=True),
        machine.Process(30, b"/x y/kubelet\0--a=1\n2\0", nested=False),
    ]
    assert (looked.sockets, looked.programs) == ({"/run/crio/crio.sock"}, ["/usr/bin/crio"])
    assert looked.version("/usr/bin/crio") == "1.2"


def test_a_file_is_asked_for_once(tmp_path):
    recorded = (
        Machine(tmp_path).file("/a/b", "text\n").file("/var/lib/kubelet/config.yaml", "k: \xff\n".encode("latin-1"))
    )
    looked = recorded.look()
    assert looked.text("/var/lib/kubelet/config.yaml") == "k: \ufffd\n"
    assert looked.text("/var/lib/kubelet/kubeadm-flags.env") is None
    assert len(recorded.scripts) == 1
    assert [looked.text(path) for path in ("/a/b", "a//b", "/a/c", "/a/c")] == ["text\n", "text\n", None, None]
    assert len(recorded.scripts) == 3
    assert looked.names("/a/") == ["b"]
    assert looked.text("/a/d") is None
    assert len(recorded.scripts) == 4


def test_an_empty_file_and_a_very_long_one(tmp_path):
    looked = Machine(tmp_path).file("/empty", "").file("/long", "x" * 3_000_000).look()
    assert looked.text("/empty") == ""
    assert looked.text("/long") == "x" * 1_000_000


def test_what_else_a_terminal_shows_does_no_harm(tmp_path):
    recorded = Machine(tmp_path).socket("/run/docker.sock").look()

    def ask(script):
        status, output, errors = recorded.ask(script)
        return status, "Welcome = to this = machine\r\n" + output.replace("\n", "\r\n"), errors

    assert machine.Machine(ask, str(tmp_path)).sockets == {"/run/docker.sock"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((127, "", "sh: not found\n"), "exit status 127.*sh: not found"),
        ((0, "socket = /run/docker.sock\n", ""), "exit status 0"),
        ((1, "", ""), "nothing"),
        ((0, "process =YQ one\nend\n", ""), "makes no sense.*process =YQ one"),
        ((0, "process =YQ== one\nend\n", ""), "makes no sense.*process =YQ== one"),
    ],
)
def test_a_shell_that_does_not_answer_is_an_error(answer, said):
    with pytest.raises(machine.LookError, match=said):
        machine.Machine(lambda script: answer)


LINES = st.lists(
    st.builds(
        "{} ={} {}".format, st.sampled_from(["process", "file", "version", "x"]), st.text("YQ=", max_size=5), st.text()
    ),
    max_size=4,
)


@given(LINES)
@example(["process =YQ== "])
@example(["process =YQ== ²"])
def test_no_answer_makes_it_fail_otherwise(lines):
    with contextlib.suppress(machine.LookError):
        machine.Machine(lambda script: (0, "\n".join([*lines, "end"]), ""))
