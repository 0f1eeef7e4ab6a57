"""``ansible-test sanity`` on what the collection's tarball holds, without an ignore list.

``python -m tests.house.sanity`` runs it with the ansible-core of the virtual environment, ``--all`` with every series
that the collection supports and a Python of this machine can run. Everything it needs is kept in .cache/sanity.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.house import dependencies, tarball
from tests.house.repository import ROOT

HOME = ROOT / ".cache" / "sanity"

CORES = {
    "2.17": ("3.10", "3.11", "3.12"),
    "2.18": ("3.11", "3.12", "3.13"),
    "2.19": ("3.11", "3.12", "3.13"),
    "2.20": ("3.12", "3.13", "3.14"),
    "2.21": ("3.12", "3.13", "3.14"),
}
"""Series of ansible-core from meta/runtime.yml on -> the Pythons that its controller runs on (its release notes)."""

GET_PIP = '''\
"""In place of get-pip.py, which ansible-test would download: the pip that Python ships fetches the wanted one."""
import os, re, runpy, subprocess, sys
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
wanted = [argument for argument in sys.argv[1:] if not argument.startswith("--no-")]
here = re.search(r"get_pip_([0-9_]+)[.]py", os.environ.get("GET_PIP", ""))
if here and not any(argument.startswith("pip") for argument in wanted):
    wanted.append("pip==" + here.group(1).replace("_", "."))
sys.argv = ["pip", "install"] + wanted
runpy.run_module("pip", run_name="__main__")
'''


@dataclass(frozen=True)
class Core:
    """One ansible-core to test with: its series and the Python that runs it."""

    series: str
    python: Path


def pythons() -> dict[str, Path]:
    """The Pythons of this machine by minor version: from PATH, and those that pyenv keeps."""
    found: dict[str, Path] = {}
    kept = sorted((Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions").glob("*/bin/python3"))
    for minor in [f"3.{number}" for number in range(7, 15)]:
        candidates = [Path(path) for path in [shutil.which(f"python{minor}")] if path]
        candidates += [path for path in kept if path.parts[-3].startswith(f"{minor}.")]
        for candidate in candidates:
            answer = subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True, check=False)
            if answer.returncode == 0:
                found[minor] = candidate
                break
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {running: Path(sys._base_executable), **found} if hasattr(sys, "_base_executable") else found


def choose(available: dict[str, Path]) -> tuple[list[Core], list[str]]:
    """(what can be tested here, the series that cannot, each with the reason)."""
    chosen, skipped = [], []
    for series, supported in CORES.items():
        python = next((available[minor] for minor in reversed(supported) if minor in available), None)
        if python is None:
            skipped.append(f"ansible-core {series}: needs Python {', '.join(supported)}")
        else:
            chosen.append(Core(series, python))
    return chosen, skipped


def tools(core: Core) -> Path:
    """The folder with a series' ansible-test, installed into an environment of its own."""
    place = HOME / f"core-{core.series}"
    if not (place / "bin" / "ansible-test").exists():
        print(f"installing ansible-core {core.series}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([core.python, "-m", "venv", place], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"ansible-core~={core.series}.0"], check=True)
    return place / "bin"


def offer_pip(bin_folder: Path, home: Path) -> None:
    """Puts GET_PIP where this ansible-test looks for a get-pip.py that it has downloaded before."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (installed,) = (bin_folder.parent / "lib").glob("python3*/site-packages/ansible_test")
    sources = (installed / "_internal" / "python_requirements.py", installed / "_util/target/setup/requirements.py")
    for text in [source.read_text() for source in sources if source.exists()]:
        for version in re.findall(r"['\"](\d+\.\d+(?:\.\d+)?)['\"]", text):
            (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)


def run(bin_folder: Path, collection: Path, interpreters: dict[str, Path], only: list[str]) -> int:
    """Runs the sanity tests in the unpacked collection; the exit status."""
    home = HOME / "home"
    offer_pip(bin_folder, home)
    links = HOME / "pythons"
    links.mkdir(parents=True, exist_ok=True)
    for minor, python in interpreters.items():
        link = links / f"python{minor}"
        link.unlink(missing_ok=True)
        link.symlink_to(python)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHON"))}
    environment |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config"),
        # the series' own Python first: ansible-test runs on the interpreter that its environment has
        "PATH": f"{bin_folder}:{links}:{os.environ['PATH']}",
    }
    selected = [word for name in only for word in ("--test", name)]
    command = [str(bin_folder / "ansible-test"), "sanity", "--local", "--color", "no", *selected]
    return subprocess.run(command, cwd=collection, env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every supported series of ansible-core")
    parser.add_argument("--core", action="append", default=[], help="this series; can be given several times")
    parser.add_argument("--test", action="append", default=[], help="only this sanity test")
    options = parser.parse_args()

    collection = tarball.unpack(HOME / "work")
    dependencies.offer(HOME / "work")
    # a repository of its own: to the one around it, everything in .cache is ignored
    if shutil.which("git"):
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", collection], check=True)
    interpreters = pythons()
    lines, worst = [], 0
    plan: list[tuple[str, Core | None]]
    skipped: list[str] = []
    if options.all or options.core:
        cores, skipped = choose(interpreters)
        cores = [core for core in cores if not options.core or core.series in options.core]
        plan = [(f"ansible-core {core.series} on {core.python.name}", core) for core in cores]
    else:
        plan = [("ansible-core of the virtual environment", None)]
    for name, core in plan:
        started = time.monotonic()
        status = run(tools(core) if core else Path(sys.executable).parent, collection, interpreters, options.test)
        lines.append(f"{name}: {'ok' if status == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s")
        worst = max(worst, status)
    print("\n".join([*lines, *(f"skipped {reason}" for reason in skipped)]))
    return worst


if __name__ == "__main__":
    sys.exit(main())
