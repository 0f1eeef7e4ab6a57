# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module containerd_runtime_config, really run: drop-ins, interrupted runs, and the layout of k3s and RKE2."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config import journal, process
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import (
    effective as containerd_effective,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from tests.engines import debian as engines
from tests.unit.plugins import containerds as real
from tests.unit.plugins.modules.killer import kill_at
from tests.unit.plugins.modules.runtime_config_helpers import run_module, tree

NAME = "containerd_runtime_config"
MAIN = """# ours
version = %d
imports = ["conf.d/*.toml"]
[plugins.'%s'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'%s'.containerd.runtimes.runc.options]
    SystemdCgroup = true
"""
PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}


def binary(series):
    try:
        return str(engines.containerd(series, fetch=False) / "containerd")
    except engines.EngineError as error:
        pytest.skip(str(error))


@pytest.fixture
def site(tmp_path):
    (tmp_path / "etc").mkdir()
    return {
        "config_path": str(tmp_path / "etc" / "config.toml"),
        "drop_in_path": str(tmp_path / "etc" / "conf.d" / "99-nvidia.toml"),
        "state_dir": str(tmp_path / "memory"),
        "socket": str(tmp_path / "containerd.sock"),
        "containerd": "no-such-containerd",
        "set_default": True,
    }


@pytest.mark.parametrize("version", [2, 3])
def test_drop_in_of_containerd_2(site, tmp_path, version):
    site["containerd"] = binary("2")
    main, drop_in = Path(site["config_path"]), Path(site["drop_in_path"])
    main.write_text(MAIN % (version, PLUGINS[version], PLUGINS[version]))
    drop_in.parent.mkdir()
    before = tree(tmp_path)
    dry = run_module(NAME, check=True, **site)
    assert (dry["changed"], dry["path"]) == (True, str(drop_in))
    assert tree(tmp_path) == before
    first = run_module(NAME, **site)
    assert first["files"] == [{"path": str(drop_in), "backup_file": None, "existed": False}]
    assert (first["config_version"], first["layout"]) == (version, "containerd")
    written = toml_text.to_python(toml_text.scan(drop_in.read_text()).root)
    assert written["version"] == version
    section = written["plugins"][PLUGINS[version]]["containerd"]
    assert section["default_runtime_name"] == "nvidia"
    assert list(section["runtimes"]) == ["nvidia"]
    assert section["runtimes"]["nvidia"]["options"]["SystemdCgroup"] is True
    assert main.read_text() == MAIN % (version, PLUGINS[version], PLUGINS[version])
    assert run_module(NAME, **site)["changed"] is False
    assert run_module(NAME, **dict(site, state="absent"))["changed"] is True
    assert not drop_in.exists()
    assert run_module(NAME, **dict(site, state="absent"))["changed"] is False


def test_drop_in_of_another_version_is_refused(site, tmp_path):
    site["containerd"] = binary("2")
    Path(site["config_path"]).write_text(MAIN % (2, PLUGINS[2], PLUGINS[2]))
    drop_in = Path(site["drop_in_path"])
    drop_in.parent.mkdir()
    drop_in.write_text("version = 3\n")
    before = tree(tmp_path)
    answer = run_module(NAME, **site)
    assert (
        f"{drop_in}, line 1, column 11: version = 3, but the file that imports this one has version = 2"
        in answer["msg"]
    )
    assert tree(tmp_path) == before


def test_containerd_1_gets_no_drop_in(site):
    site["containerd"] = binary("1.7")
    main = Path(site["config_path"])
    main.write_text(MAIN % (2, PLUGINS[2], PLUGINS[2]))
    assert run_module(NAME, check=True, **site)["path"] == str(main)
    answer = run_module(NAME, **dict(site, placement="drop_in"))
    assert "would not be right: it takes containerd 2.x (found: 1)" in answer["msg"]


def test_without_an_import_containerd_2_gets_its_main_file_edited(site):
    site["containerd"] = binary("2")
    main = Path(site["config_path"])
    main.write_text("version = 3\n")
    assert run_module(NAME, **site)["path"] == str(main)
    assert not Path(site["drop_in_path"]).exists()


def test_a_runtime_that_is_in_the_main_file_stays_there(site):
    site["containerd"] = binary("2")
    main = Path(site["config_path"])
    main.write_text(MAIN % (3, PLUGINS[3], PLUGINS[3]))
    assert run_module(NAME, **dict(site, placement="main"))["path"] == str(main)
    assert run_module(NAME, **site)["changed"] is False
    assert not Path(site["drop_in_path"]).exists()


def test_a_default_that_the_main_file_sets_cannot_be_taken_away_by_a_drop_in(site):
    site["containerd"] = binary("2")
    text = MAIN % (3, PLUGINS[3], PLUGINS[3])
    Path(site["config_path"]).write_text(
        text + f"[plugins.'{PLUGINS[3]}'.containerd]\n  default_runtime_name = \"nvidia\"\n"
    )
    answer = run_module(NAME, **dict(site, set_default=False))
    assert "default_runtime_name is still 'nvidia'" in answer["msg"]
    assert not Path(site["drop_in_path"]).exists()


@pytest.mark.parametrize(
    ("old", "state"),
    [(MAIN % (2, PLUGINS[2], PLUGINS[2]), "present"), (None, "absent"), (MAIN % (2, PLUGINS[2], PLUGINS[2]), "absent")],
    ids=["present", "removed", "put-back"],
)
def test_killed_at_any_moment_and_run_again(site, tmp_path, old, state):
    main = Path(site["config_path"])
    moments = 0
    while True:
        for leftover in main.parent.glob("*~"):
            leftover.unlink()
        if old is not None:
            main.write_text(old)
        if state == "absent":
            run_module(NAME, **site)
        whole = main.read_bytes() if main.exists() else None
        killed = kill_at(moments + 1, NAME, tmp_path, **dict(site, state=state))
        now = main.read_bytes() if main.exists() else None
        run_module(NAME, **dict(site, state=state))
        then = main.read_bytes() if main.exists() else None
        # before or after, and nothing between
        assert now in (whole, then)
        if state == "present":
            assert b'default_runtime_name = "nvidia"' in then
            run_module(NAME, **dict(site, state="absent"))
        assert (main.read_text() if main.exists() else None) == old
        if not killed:
            break
        moments += 1
    assert moments >= 4


def test_the_journal_knows_of_a_file_that_is_gone(tmp_path):
    folder, path = str(tmp_path / "memory"), "/etc/containerd/config.toml"
    assert journal.noted(folder, path) is None
    journal.note(folder, path)
    first = journal.noted(folder, path)
    assert abs(first - time.time()) < 60
    os.utime(journal.path_of(folder, path), (1, 1))
    journal.note(folder, path)
    assert journal.noted(folder, path) >= first
    assert journal.noted(folder, "/etc/containerd/other.toml") is None


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/containerd.service\n", "containerd.service"),
        ("12:pids:/system.slice/k3s.service\n0::/system.slice/k3s.service\n", "k3s.service"),
        ("0::/docker/abc/system.slice/rke2-agent.service/x\n", "rke2-agent.service"),
        ("0::/user.slice\n", None),
        ("", None),
    ],
)
def test_unit(cgroups, unit):
    assert process.unit_of(cgroups) == unit


# What k3s generates, of its tables those that matter here.
GENERATED = {
    2: """version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/rancher/k3s/agent/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_port = "10010"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
""",
    3: """version = 3
[plugins.'io.containerd.cri.v1.runtime']
  enable_unprivileged_ports = true
[plugins.'io.containerd.cri.v1.runtime'.containerd]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
""",
}
TEMPLATES = {2: "config.toml.tmpl", 3: "config-v3.toml.tmpl"}
DEFAULT_FILE = "config.yaml.d/99-kubegpu-default-runtime.yaml"
RUNTIME = "/usr/bin/nvidia-container-runtime"


class K3sSite:
    """The files of a k3s or RKE2 below a folder, and a program that tells its version."""

    def __init__(self, folder, monkeypatch, flavor="k3s", version=3, release="v1.31.6+k3s1"):
        self.folder, self.flavor, self.version = folder, flavor, version
        self.containerd = folder / "var/lib/rancher" / flavor / "agent/etc/containerd"
        self.containerd.mkdir(parents=True)
        self.generated = self.containerd / "config.toml"
        self.generated.write_text(GENERATED[version])
        self.template = self.containerd / TEMPLATES[version]
        self.default = folder / "etc/rancher" / flavor / DEFAULT_FILE
        tools = folder / "tools"
        tools.mkdir()
        (tools / flavor).write_text(f"#!/bin/sh\necho '{flavor} version {release} (abcdef01)'\n")
        (tools / flavor).chmod(0o755)
        monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
        self.arguments = {
            "layout": flavor,
            "root": str(folder),
            "state_dir": str(folder / "memory"),
            "socket": str(folder / "containerd.sock"),
            "backup": False,
        }

    def install(self, path=RUNTIME):
        program = self.folder / path.lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)

    def restart(self):
        """Add what k3s generates for what it finds, as its source has it (ExtraRuntimes)."""
        section = f"[plugins.'{PLUGINS[self.version]}'.containerd.runtimes.'nvidia'%s]\n"
        self.generated.write_text(
            GENERATED[self.version]
            + section % ""
            + '  runtime_type = "io.containerd.runc.v2"\n'
            + section % ".options"
            + f'  BinaryName = "{RUNTIME}"\n  SystemdCgroup = true\n'
        )

    def run(self, **more):
        return run_module(NAME, **dict(self.arguments, **more))


@pytest.mark.parametrize("flavor", ["k3s", "rke2"])
def test_k3s_finds_the_runtime_by_itself(tmp_path, monkeypatch, flavor):
    site = K3sSite(tmp_path, monkeypatch, flavor)
    site.install()
    before = tree(tmp_path)
    first = site.run()
    assert (first["changed"], first["layout"], first["config_version"]) == (False, flavor, 3)
    assert tree(tmp_path) == before
    site.restart()
    assert site.run()["changed"] is False


@pytest.mark.parametrize("version", [2, 3])
def test_k3s_gets_the_default_runtime_as_its_own_option(tmp_path, monkeypatch, version):
    site = K3sSite(tmp_path, monkeypatch, version=version)
    site.install()
    before = tree(tmp_path / "var")
    first = site.run(set_default=True)
    assert first["changed"] is True
    assert site.default.read_text() == 'default-runtime: "nvidia"\n'
    assert tree(tmp_path / "var") == before
    assert site.run(set_default=True)["changed"] is False
    assert site.run()["changed"] is False
    assert site.default.exists()
    assert site.run(set_default=False)["changed"] is True
    assert not site.default.exists()
    site.run(set_default=True)
    gone = site.run(state="absent")
    assert gone["changed"] is True
    assert gone["warnings"] == ["k3s finds the runtime nvidia by itself as long as its program is installed"]
    assert not site.default.exists()
    assert site.run(state="absent")["changed"] is False


@pytest.mark.parametrize(("version", "series"), [(2, "1.7"), (3, "2")])
def test_k3s_gets_a_template_for_another_runtime_and_containerd_takes_it(tmp_path, monkeypatch, version, series):
    site = K3sSite(tmp_path, monkeypatch, version=version)
    wanted = {"name": "nvidia-two", "path": "/opt/nvidia/bin/nvidia-container-runtime"}
    assert site.run(**wanted)["changed"] is True
    text = site.template.read_text()
    assert text.startswith('{{ template "base" . }}\n')
    assert site.run(**wanted)["changed"] is False
    # What k3s makes of it: its own text in the place of the base, and the cgroup driver that it found.
    rendered = text.replace('{{ template "base" . }}', GENERATED[version]).replace("{{ .SystemdCgroup }}", "true")
    file = tmp_path / "rendered.toml"
    file.write_text(rendered)
    site.run(**dict(wanted, path="/other"))
    assert "/other" in site.template.read_text()
    assert site.run(state="absent", name="nvidia-two")["changed"] is True
    assert not site.template.exists()
    done = subprocess.run([binary(series), "-c", file, "config", "dump"], capture_output=True, text=True, check=True)
    effective = containerd_effective.effective_of(toml_text.scan(done.stdout))
    runtimes = {name: toml_text.to_python(effective.runtime(name)) for name in ("runc", "nvidia-two")}
    assert runtimes["nvidia-two"]["options"]["BinaryName"] == wanted["path"]
    assert [item["options"]["SystemdCgroup"] for item in runtimes.values()] == [True, True]


def test_a_template_of_the_operator_keeps_every_byte(tmp_path, monkeypatch):
    site = K3sSite(tmp_path, monkeypatch)
    theirs = '# ours\n{{ template "base" . }}\n{{- if .NonrootDevices }}x{{ end }}\n[debug]\n  level = "debug"'
    site.template.write_text(theirs)
    wanted = {"name": "nvidia-two", "path": "/opt/x"}
    site.run(**wanted)
    assert site.template.read_text().startswith(theirs + "\n\n[plugins.'io.containerd.cri.v1.runtime'.containerd.")
    site.run(state="absent", name="nvidia-two")
    assert site.template.read_text() == theirs
    site.run(**wanted)
    site.template.write_text(site.template.read_text() + "# later\n")
    site.run(state="absent", name="nvidia-two")
    assert site.template.read_text() == theirs + "\n# later\n"


@pytest.mark.parametrize(
    ("release", "template", "installed", "wanted", "message"),
    [
        (
            "v1.24.16+k3s1",
            None,
            None,
            {"name": "two"},
            'k3s 1.24.16 does not have a template that takes over its own with {{ template "base" . }}, which came '
            "with 1.24.17, 1.25.13, 1.26.8, 1.27.5, 1.28.1; upgrade it",
        ),
        (
            "v1.28.4+k3s2",
            None,
            RUNTIME,
            {"set_default": True},
            "k3s 1.28.4 does not have the option default-runtime, which came with 1.26.12, 1.27.9, 1.28.5, 1.29.0; "
            "upgrade it",
        ),
        (
            "devel",
            None,
            RUNTIME,
            {"set_default": True},
            "it cannot be found out whether this k3s has the option default-runtime",
        ),
        (
            "v1.31.6+k3s1",
            None,
            "/usr/local/nvidia/toolkit/nvidia-container-runtime",
            {"on_conflict": "replace"},
            'k3s finds the runtime nvidia by itself, and its BinaryName is "/usr/local/nvidia/toolkit/nvidia-container-'
            'runtime", not "/usr/bin/nvidia-container-runtime". Nothing was changed. Name that program as the path, '
            "keep it (on_conflict), or take it away",
        ),
        (
            "v1.31.6+k3s1",
            "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n",
            None,
            {},
            "the template has the runtime nvidia already, and not with /usr/bin/nvidia-container-runtime; correct it "
            "by hand, since a template is no TOML that could be edited safely",
        ),
        (
            "v1.31.6+k3s1",
            "version = 3\n",
            None,
            {"set_default": True},
            "this template does not take over the option default-runtime; start it with "
            '{{ template "base" . }} instead of a copy of the whole configuration',
        ),
    ],
)
def test_what_k3s_cannot_do_is_refused(tmp_path, monkeypatch, release, template, installed, wanted, message):
    site = K3sSite(tmp_path, monkeypatch, release=release)
    if installed:
        site.install(installed)
    if template:
        site.template.write_text(template)
    before = tree(tmp_path)
    answer = site.run(**wanted)
    assert answer["msg"].endswith(": " + message)
    assert tree(tmp_path) == before


def test_k3s_that_was_never_started(tmp_path, monkeypatch):
    site = K3sSite(tmp_path, monkeypatch)
    site.generated.unlink()
    assert "k3s writes it when it starts. Start k3s once, then run this again" in site.run()["msg"]


IMPORTS = 'imports = ["/var/lib/rancher/%s/agent/etc/containerd/config-v3.toml.d/*.toml"]\n'
CDI = {"name": "nvidia-cdi", "path": "/usr/bin/nvidia-container-runtime.cdi"}


def generated(site, *runtimes, imports=True):
    """Write what a k3s writes that finds these runtimes (name -> program) by itself."""
    section = f"[plugins.'{PLUGINS[3]}'.containerd.runtimes.'%s'%s]\n"
    text = GENERATED[3].replace("version = 3\n", "version = 3\n" + (IMPORTS % site.flavor if imports else ""))
    for name, program in runtimes:
        text += section % (name, "") + '  runtime_type = "io.containerd.runc.v2"\n'
        text += section % (name, ".options") + f'  BinaryName = "{program}"\n  SystemdCgroup = true\n'
    site.generated.write_text(text)


def merged(site, drop_in):
    """What containerd makes of the generated file and the drop-in."""
    text = site.generated.read_text().replace("/var/lib", f"{site.folder}/var/lib")
    assert drop_in.exists()
    return real.dump("2.4", text)


@pytest.mark.parametrize("imports", [True, False])
def test_nvidia_cdi_is_left_to_a_k3s_that_finds_it(tmp_path, monkeypatch, imports):
    site = K3sSite(tmp_path, monkeypatch)
    site.install()
    site.install(CDI["path"])
    generated(site, ("nvidia", RUNTIME), ("nvidia-cdi", CDI["path"]), imports=imports)
    before = tree(tmp_path)
    answer = site.run(**CDI)
    assert (answer["changed"], answer["conflict"]) == (False, None)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("flavor", ["k3s", "rke2"])
def test_a_runtime_that_k3s_does_not_find_goes_into_a_file_that_it_imports(tmp_path, monkeypatch, flavor):
    site = K3sSite(tmp_path, monkeypatch, flavor)
    generated(site, ("nvidia", RUNTIME))
    drop_in = site.containerd / "config-v3.toml.d" / "99-nvidia.toml"
    before = tree(tmp_path / "var")
    first = site.run(**CDI)
    assert (first["changed"], first["files"][0]["path"]) == (True, str(drop_in))
    assert real.runs(merged(site, drop_in), "nvidia-cdi") == {
        "BinaryName": CDI["path"],
        "SystemdCgroup": True,
        "Root": None,
    }
    assert real.runs(merged(site, drop_in), "nvidia")["BinaryName"] == RUNTIME
    assert site.run(**CDI)["changed"] is False
    # k3s is updated and finds it as well: containerd takes both
    generated(site, ("nvidia", RUNTIME), ("nvidia-cdi", CDI["path"]))
    assert real.runs(merged(site, drop_in), "nvidia-cdi")["BinaryName"] == CDI["path"]
    assert site.run(**CDI)["changed"] is False
    generated(site, ("nvidia", RUNTIME))
    assert site.run(state="absent", **CDI)["changed"] is True
    assert {path: item for path, item in tree(tmp_path / "var").items() if "config.toml" not in path} == {
        path: item for path, item in before.items() if "config.toml" not in path
    }


def test_the_operators_program_that_k3s_found(tmp_path, monkeypatch):
    operators = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
    site = K3sSite(tmp_path, monkeypatch)
    generated(site, ("nvidia", operators))
    before = tree(tmp_path)
    kept = site.run()
    assert kept["changed"] is False
    assert kept["conflict"].startswith("the NVIDIA GPU operator made it, and its BinaryName is")
    assert tree(tmp_path) == before
    assert "Nothing was changed" in site.run(on_conflict="fail")["msg"]
    drop_in = site.containerd / "config-v3.toml.d" / "99-nvidia.toml"
    site.run(on_conflict="replace")
    assert real.runs(merged(site, drop_in), "nvidia")["BinaryName"] == RUNTIME
    assert site.run(on_conflict="replace")["changed"] is False
    site.run(state="absent")
    assert not drop_in.exists()


def test_a_version_that_no_k3s_is_known_to_write(tmp_path, monkeypatch):
    site = K3sSite(tmp_path, monkeypatch)
    site.generated.write_text("version = 4\n")
    assert "k3s writes config version 4, for which" in site.run()["msg"]
