# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Edited files as real containerds of four series would run them; no daemon is started."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd import keys
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd.config import (
    ContainerdRuntime,
    ensure_absent,
    ensure_present,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.containerd.effective import (
    effective_of,
    missing_default,
    side_effects,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text import toml_text
from ansible_collections.kubegpu.nvidia.plugins.module_utils.runtime_config.text.lines import ConfigError
from tests.unit.plugins import containerds as real

PATH = "/usr/bin/nvidia-container-runtime"
NVIDIA = ContainerdRuntime("nvidia", PATH)
DEFAULT = ContainerdRuntime("nvidia", PATH, set_default=True)
VERSIONS = {"1.6": (2,), "1.7": (2,), "2.1": (2, 3), "2.4": (2, 3, 4)}
CELLS = [(series, version) for series, versions in VERSIONS.items() for version in versions]
slow = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def major(series):
    return int(series[0])


def section(version):
    return f'plugins."{keys.PREFIXES[version][1]}".containerd'


def dump(series, text):
    return real.dump(series, text.replace("\ufeff", ""))


def scanned(series, text):
    return keys.read(real.dump_text(series, text))


def apply(series, text, wanted, memory=None):
    """ensure_present as the module calls it: with what containerd makes of the text."""
    return ensure_present(text, wanted, memory, effective_of(scanned(series, text)), major(series))


def spellings(name):
    """Spellings of a key that both generations of containerd know."""
    return st.sampled_from([name, name.lower(), name[0].lower() + name[1:]])


@st.composite
def kubespray(draw, version):
    """kubespray's file: nested tables, all options of runc with the spelling of its defaults."""
    binary, cgroup = draw(spellings("BinaryName")), draw(spellings("SystemdCgroup"))
    runc = draw(st.sampled_from(["/usr/local/bin/runc", "/usr/bin/runc"]))
    driver = draw(st.booleans())
    nvidia = draw(st.booleans())
    name = section(version)
    text = f"""version = {version}
root = "/var/lib/containerd"
oom_score = 0

[plugins]
  [plugins."{keys.PREFIXES[version][1]}"]
    max_container_log_line_size = 16384

    [{name}]
      default_runtime_name = "runc"
      [{name}.runtimes]
        [{name}.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          runtime_root = ""
          base_runtime_spec = "/etc/containerd/cri-base.json"

          [{name}.runtimes.runc.options]
            {binary} = "{runc}"
            {cgroup} = {str(driver).lower()}
            Root = ""
"""
    if nvidia:
        text += f"""        [{name}.runtimes.nvidia]
          runtime_type = "io.containerd.runc.v2"
          [{name}.runtimes.nvidia.options]
            {binary} = "{draw(st.sampled_from([PATH, "nvidia-container-runtime"]))}"
            {cgroup} = {str(driver).lower()}
"""
    return text, driver


@pytest.mark.slow
@pytest.mark.parametrize(("series", "version"), CELLS)
@given(st.data())
@slow
def test_the_runtime_that_pods_get_whatever_the_keys_look_like(series, version, data):
    old, driver = data.draw(kubespray(version))
    before = dump(series, old)
    edit = apply(series, old, DEFAULT)
    after = dump(series, edit.text)
    wanted = real.runs(after)
    assert wanted["BinaryName"] in (PATH, "nvidia-container-runtime")
    assert wanted == real.runs(after, "nvidia")
    assert bool(wanted["SystemdCgroup"]) is driver
    assert real.runs(after, "runc") == real.runs(before, "runc")
    assert real.cri(after)["runtimes"]["nvidia"]["base_runtime_spec"] == (
        "" if "nvidia" in old else "/etc/containerd/cri-base.json"
    )
    assert apply(series, edit.text, DEFAULT, edit.memory).text == edit.text
    assert ensure_absent(edit.text, "nvidia", edit.memory, engine=major(series)).text == old


@pytest.mark.parametrize("series", real.SERIES)
@pytest.mark.parametrize("order", [("SystemdCgroup", "systemdCgroup"), ("systemdCgroup", "SystemdCgroup")])
def test_two_spellings_of_one_key(series, order):
    """In each generation another of them counts; all of them are set, so that an upgrade changes nothing."""
    name = section(2)
    old = f"""version = 2
[{name}.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{name}.runtimes.runc.options]
{order[0]} = true
{order[1]} = false
[{name}.runtimes.nvidia]
Runtime_Type = "io.containerd.runc.v2"
runtime_type = "io.containerd.runc.v2"
[{name}.runtimes.nvidia.options]
BinaryName = "/old"
binaryName = "/older"
"""
    edit = apply(series, old, ContainerdRuntime("nvidia", PATH, True, "replace"))
    after = dump(series, edit.text)
    assert real.runs(after)["BinaryName"] == PATH
    assert real.runs(after)["SystemdCgroup"] is real.runs(after, "runc")["SystemdCgroup"]
    assert edit.text.count(PATH) == 2
    assert ensure_absent(edit.text, "nvidia", edit.memory, engine=major(series)).text == old
    edited = edit.text + "# edited\n"
    back = ensure_absent(edited, "nvidia", edit.memory, PATH, "keep", major(series)).text
    assert real.runs(dump(series, back), "nvidia")["BinaryName"] == real.runs(dump(series, old), "nvidia")["BinaryName"]


@pytest.mark.parametrize("series", ["2.1", "2.4"])
def test_keys_of_tables_in_other_spellings(series):
    old = """Version = 3
Imports = []
[Plugins."io.containerd.cri.v1.runtime".Containerd]
Default_Runtime_Name = "runc"
[Plugins."io.containerd.cri.v1.runtime".Containerd.Runtimes.runc.Options]
systemdcgroup = true
"""
    edit = apply(series, old, DEFAULT)
    after = dump(series, edit.text)
    assert real.runs(after) == {"BinaryName": PATH, "SystemdCgroup": True, "Root": None}
    assert [line for line in edit.text.splitlines() if line in old.splitlines()] == [
        line for line in old.splitlines() if "Default" not in line
    ]
    assert apply(series, edit.text, ContainerdRuntime("nvidia", PATH, False), edit.memory).text.count('"nvidia"') == 0
    assert ensure_absent(edit.text, "nvidia", edit.memory).text == old


def test_a_table_in_two_spellings_is_refused():
    text = f"version = 3\n[{section(3)}.runtimes.runc.options]\n[{section(3)}.runtimes.runc.Options]\n"
    with pytest.raises(ConfigError) as caught:
        ensure_present(text, DEFAULT, engine=2)
    assert caught.value.describe("f") == (
        "f, line 3, column 1: options and Options are one key to containerd; write this table once"
    )


@st.composite
def working_nvidia(draw, version):
    """A file in which nvidia is the default and works with the kubelet's systemd cgroups, as EKS's images, nvidia-ctk
    and operators write it."""
    name = section(version)
    runc = draw(
        st.sampled_from(
            [
                "",
                f'[{name}.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n',
                f'[{name}.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n[{name}.runtimes.runc.options]\n',
                f'[{name}.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
                f"[{name}.runtimes.runc.options]\nSystemdCgroup = false\n",
            ]
        )
    )
    path = draw(st.sampled_from([PATH, "nvidia-container-runtime"]))
    cgroup = draw(spellings("SystemdCgroup"))
    nvidia = (
        f'[{name}.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n'
        f'[{name}.runtimes.nvidia.options]\nBinaryName = "{path}"\n{cgroup} = true\n'
    )
    pieces = draw(st.permutations([piece for piece in (runc, nvidia) if piece]))
    return f'version = {version}\n[{name}]\ndefault_runtime_name = "nvidia"\n' + "".join(pieces)


@pytest.mark.slow
@pytest.mark.parametrize(("series", "version"), CELLS)
@given(st.data())
@slow
def test_what_works_goes_on_to_work_and_absent_leaves_a_cri_that_starts(series, version, data):
    old = data.draw(working_nvidia(version))
    before = scanned(series, old)
    wanted = data.draw(st.sampled_from([DEFAULT, NVIDIA]))
    edit = apply(series, old, wanted)
    assert edit.text == old, "nothing is to be done"
    assert real.runs(dump(series, edit.text))["SystemdCgroup"] is True

    # somebody else's, noted by present: it stays
    assert ensure_absent(old, "nvidia", edit.memory, PATH, "keep", major(series)).text == old
    edited = old + "\n# edited\n"
    assert ensure_absent(edited, "nvidia", edit.memory, PATH, "keep", major(series)).text == edited

    # without a memory it goes, and the pods' next runtime has the kubelet's cgroup driver
    for gone in (
        ensure_absent(old, "nvidia", None, PATH, "keep", major(series), effective_of(before)),
        apply(series, old, ContainerdRuntime("nvidia", PATH, set_default=False)),
    ):
        after = dump(series, gone.text)
        assert real.cri(after)["default_runtime_name"] == "runc"
        explicit = re.search("runc.options]\nSystemdCgroup = false", old)
        assert bool(real.runs(after)["SystemdCgroup"]) is (
            not explicit and ("runtimes.runc]" not in old or bool(gone.runc))
        )
        found = scanned(series, gone.text)
        assert missing_default(effective_of(found)) is None
        assert side_effects(before, found, ("nvidia", "runc")) == []
    assert "nvidia-container-runtime" not in ensure_absent(old, "nvidia", None, PATH, "keep", major(series)).text


@pytest.mark.parametrize(("series", "version"), CELLS)
@pytest.mark.parametrize(
    "table", ["", "[%s.runtimes]\n", "[%s.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\n"]
)
def test_cri_starts_after_absent_whatever_is_left(series, version, table):
    old = f"version = {version}\n" + (table and table % section(version))
    edit = apply(series, old, DEFAULT)
    edited = edit.text + "# edited\n"
    effective = effective_of(scanned(series, edited))
    gone = ensure_absent(edited, "nvidia", edit.memory, PATH, "keep", major(series), effective)
    missing = [missing_default(effective_of(scanned(series, text))) for text in (old, gone.text)]
    assert missing[1] == missing[0], "no worse than before us"
    theirs = edit.text.replace("# Written", "# By hand, written")
    lost = ensure_absent(theirs, "nvidia", None, PATH, "keep", major(series), effective_of(scanned(series, theirs)))
    assert missing_default(effective_of(scanned(series, lost.text))) is None


def test_the_default_file_of_containerd_itself():
    """containerd 2.3 and later writes version 4; each series' own default file is taken and given back."""
    for series in real.SERIES:
        old = real.default(series)
        edit = apply(series, old, DEFAULT)
        assert edit.version == toml_text.to_python(toml_text.scan(old).find(("version",)))
        assert real.runs(dump(series, edit.text))["BinaryName"] == PATH
        assert side_effects(scanned(series, old), scanned(series, edit.text), ("nvidia",)) == []
        assert ensure_absent(edit.text, "nvidia", edit.memory, engine=major(series)).text == old
