"""The toolkit's versions, from what its tools print."""

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import toolkit
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError

CTK = "NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80a9b9d0db00d9b1d73c0128c8962c55f4d\n"
CLI = "cli-version: 1.17.8\nlib-version: 1.17.8\nbuild date: 2025-05-30T13:47+00:00\nbuild revision: 6eda4d7\n"
OLD_CLI = "version: 1.0.7\nbuild date: 2020-01-07T09:15+0000\n"


def read(outputs):
    def run(arguments):
        assert arguments[1:] == ["--version"]
        answer = outputs[arguments[0].rpartition("/")[2]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return toolkit.read(lambda name: f"/usr/bin/{name}" if name in outputs else None, run)


def test_a_whole_toolkit():
    programs = {
        "nvidia-ctk": (0, CTK, ""),
        "nvidia-container-cli": (0, CLI, ""),
        "nvidia-container-runtime": (0, "", ""),
        "nvidia-container-runtime-hook": (0, "", ""),
    }
    assert read(programs) == {
        "version": "1.17.8",
        "cli_version": "1.17.8",
        "libnvidia_container_version": "1.17.8",
        "ctk_path": "/usr/bin/nvidia-ctk",
        "cli_path": "/usr/bin/nvidia-container-cli",
        "runtime_path": "/usr/bin/nvidia-container-runtime",
        "hook_path": "/usr/bin/nvidia-container-runtime-hook",
    }


def test_one_from_before_nvidia_ctk():
    facts = read({"nvidia-container-cli": (0, OLD_CLI, "")})
    assert (facts["version"], facts["ctk_path"]) == ("1.0.7", None)


def test_none():
    assert set(read({}).values()) == {None}


def test_a_broken_one_is_there_without_version():
    facts = read({"nvidia-ctk": (127, "", "not found"), "nvidia-container-cli": SourceError("timeout", "hangs")})
    assert (facts["version"], facts["cli_path"]) == (None, "/usr/bin/nvidia-container-cli")
