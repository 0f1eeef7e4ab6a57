# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CRI-O makes of several files, which runtime ours is modelled on, and whether CRI-O would start."""

from __future__ import annotations

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.crio import engine, merge
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.process import Daemon

PACKAGE = """[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/l/crun"
runtime_root = "/run/crun"
monitor_path = "/l/conmon"
monitor_cgroup = "system.slice"
allowed_annotations = ["a"]
privileged_without_host_devices = false
platform_runtime_paths = {"linux/amd64" = "/l/crun-amd64"}
[crio.runtime.runtimes.runc]
runtime_path = "/l/runc"
monitor_path = "/l/conmon"
"""


def test_a_later_file_replaces_a_runtime_as_a_whole_and_keys_have_no_case():
    later = '[Crio.Runtime]\nDefault_Runtime = "runc"\n[Crio.Runtime.Runtimes.runc]\nRuntime_Path = "/x"\n'
    config = merge.effective([PACKAGE, 'not = toml = "x"', later])
    assert config.defaults == ["crun", "runc"]
    assert config.default == "runc"
    assert config.runtimes["runc"] == {"runtime_path": "/x"}
    assert config.runtimes["crun"]["monitor_path"] == "/l/conmon"


def test_the_global_conmon_wins_over_those_of_the_runtimes():
    config = merge.effective(['[crio.runtime]\nconmon = "/g/conmon"\n', PACKAGE])
    assert {table["monitor_path"] for table in config.runtimes.values()} == {"/g/conmon"}


@pytest.mark.parametrize("texts", [[], ["crio = 1\n"], ["[crio]\nruntime = []\n"], ["[crio.runtime]\nruntimes = 1\n"]])
def test_files_without_runtimes(texts):
    config = merge.effective(texts)
    assert (config.runtimes, config.default) == ({}, None)
    assert merge.template(config, "nvidia") is None


def test_what_is_inherited():
    template = merge.template(merge.effective([PACKAGE]), "nvidia")
    assert template.name == "crun"
    # neither the program, also for a platform, nor what is not set, nor what CRI-O has by itself
    assert template.inherited() == {
        "runtime_root": "/run/crun",
        "monitor_path": "/l/conmon",
        "allowed_annotations": ["a"],
    }


TABLE = '[crio.runtime.runtimes.nvidia]\nruntime_path = "/usr/bin/nvidia-container-runtime"\n'
NVIDIA = '[crio.runtime]\ndefault_runtime = "nvidia"\n' + TABLE


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ('[crio.runtime]\ndefault_runtime = "runc"\n', "runc"),
        # that of NVIDIA is no model; the one that was the default before is
        (NVIDIA, "crun"),
        ('[crio.runtime]\ndefault_runtime = "runc"\n' + NVIDIA, None),
        (NVIDIA.replace("nvidia]", "other]").replace('"nvidia"', '"other"'), "crun"),
        ('[crio.runtime]\ndefault_runtime = "kata"\n[crio.runtime.runtimes.kata]\nruntime_type = "vm"\n', "crun"),
        ('[crio.runtime]\ndefault_runtime = "rs"\n[crio.runtime.runtimes.rs]\nruntime_type = "pod"\n', "crun"),
        ('[crio.runtime]\ndefault_runtime = "mine"\n[crio.runtime.runtimes.mine]\n', "mine"),
        ("[crio.runtime.runtimes.crun]\nruntime_path = 1\n", "crun"),
    ],
)
def test_whose_table_is_the_model(more, name):
    # None: TOML that names a table twice counts as nothing
    assert merge.template(merge.effective([PACKAGE, more]), "nvidia").name == (name or "crun")


def startup(*texts, missing=(), path=None, no_conmon=()):
    return merge.startup_problems(
        merge.effective([PACKAGE, *texts]),
        lambda program: program not in missing,
        (path or {}).get,
        lambda monitor: "is no conmon" if monitor in no_conmon else None,
    )


@pytest.mark.parametrize(
    ("texts", "settings", "problems"),
    [
        ([], {}, []),
        (
            [NVIDIA],
            {},
            ["the runtime nvidia has no monitor_path, and conmon is not in CRI-O's PATH"],
        ),
        ([NVIDIA], {"path": {"conmon": "/usr/bin/conmon"}}, []),
        ([NVIDIA], {"path": {"conmon": "/bin/x"}, "no_conmon": ["/bin/x"]},
         ["monitor_path of the runtime nvidia, /bin/x, is no conmon"]),
        # left out by CRI-O, with a warning
        ([TABLE], {"missing": ["/usr/bin/nvidia-container-runtime"]}, []),
        ([NVIDIA], {"missing": ["/usr/bin/nvidia-container-runtime"]},
         ["runtime_path of the default runtime nvidia, /usr/bin/nvidia-container-runtime, does not exist"]),
        (['[crio.runtime.runtimes.crun]\nmonitor_path = "/l/conmon"\n'], {},
         ["the default runtime crun has no runtime_path, and crun is not in CRI-O's PATH"]),
        (['[crio.runtime.runtimes.kata]\nruntime_type = "vm"\nruntime_path = "/l/kata"\n'], {}, []),
        ([], {"missing": ["/l/runc"], "no_conmon": ["/l/conmon"]},
         ["monitor_path of the runtime crun, /l/conmon, is no conmon"]),
    ],
)  # fmt: skip
def test_whether_crio_would_start(texts, settings, problems):
    assert startup(*texts, **settings) == problems


class Module:
    """What engine.find needs of AnsibleModule."""

    def __init__(self, **programs):
        self.programs = programs

    def get_bin_path(self, name):
        return self.programs.get(name)


def proc(tmp_path, exe, environ=b""):
    process = tmp_path / "7"
    process.mkdir()
    (process / "exe").symlink_to(exe)
    (process / "environ").write_bytes(environ)
    return str(tmp_path)


def test_the_running_crio_is_asked(tmp_path):
    program = tmp_path / "crio"
    program.touch(mode=0o755)
    environ = b"PATH=/p\0HOME=/root\0CONTAINER_CONMON=/c\0CONTAINER_LOG=/l\0CONTAINER_CONFIG=/e.conf\0"
    folder = proc(tmp_path, program, environ)
    daemon = Daemon(7, ["--log", "/l", "-c=/m.conf", "--config-dir", "/d", "--default-runtime", "runc"], None)
    found = engine.find(Module(crio="/usr/bin/crio"), daemon, None, None, folder)
    assert (found.binary, found.main, found.folder) == (str(program), "/m.conf", "/d")
    assert found.arguments == ["--default-runtime", "runc"]
    assert found.environment == {"PATH": "/p", "CONTAINER_CONMON": "/c", "CONTAINER_CONFIG": "/e.conf"}
    named = engine.find(Module(other="/o/crio"), daemon, "other", "/own.conf", folder)
    assert (named.binary, named.main) == ("/o/crio", "/own.conf")


def test_the_new_program_of_an_upgraded_package_is_asked(tmp_path):
    program = tmp_path / "crio"
    program.touch(mode=0o755)
    found = engine.find(Module(), Daemon(7, [], None), None, None, proc(tmp_path, f"{program} (deleted)"))
    assert found.binary == str(program)


def test_without_a_running_crio():
    found = engine.find(Module(crio="/usr/bin/crio"), None, None, None)
    assert (found.binary, found.arguments, found.main, found.folder) == ("/usr/bin/crio", [], engine.MAIN, None)
    assert found.environment == {"PATH": engine.SYSTEMD_PATH}
    assert engine.find(Module(), None, "no-such-crio", None).binary is None
