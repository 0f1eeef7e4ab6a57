"""What Ansible Galaxy says of the tarball when it is uploaded: its own importer, run here, without a warning.

``python -m tests.house.importer`` keeps the importer in an environment of its own in .cache/importer, since it wants
versions of ansible-core and ansible-lint that are not ours. Its calls of ansible-lint and ansible-test are left out:
the stages lint and sanity make both, and more strictly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.house import dependencies, tarball
from tests.house.repository import ROOT

HOME = ROOT / ".cache" / "importer"
WANTED = "galaxy-importer>=0.4.31,<0.5"
LEFT_OUT = {"GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false", "GALAXY_IMPORTER_RUN_ANSIBLE_TEST": "false"}


def tools() -> Path:
    """The environment's folder with the importer and the ansible-doc that it calls; made on the first call."""
    stamp = HOME / "venv" / ".wanted"
    if not stamp.exists() or stamp.read_text() != WANTED:
        print(f"installing {WANTED}", flush=True)
        shutil.rmtree(HOME / "venv", ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", HOME / "venv"], check=True)
        pip = [str(HOME / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, WANTED], check=True)
        stamp.write_text(WANTED)
    (packages,) = (HOME / "venv" / "lib").glob("python3*/site-packages")
    dependencies.offer(packages)
    return HOME / "venv" / "bin"


def complaints(log: str) -> list[str]:
    """The importer's lines that are warnings or errors."""
    return [line for line in log.splitlines() if line.startswith(("WARNING", "ERROR", "CRITICAL"))]


def main() -> int:
    bin_folder = tools()
    work = HOME / "work"
    shutil.rmtree(work, ignore_errors=True)
    archive = tarball.build(work)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHON"))}
    environment |= {"PATH": f"{bin_folder}:{os.environ['PATH']}", **LEFT_OUT}
    command = [str(bin_folder / "python"), "-m", "galaxy_importer.main", str(archive)]
    done = subprocess.run(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    found = complaints(done.stdout)
    if done.returncode != 0 or found:
        print("\n".join(found) or done.stdout)
        return 1
    print(f"galaxy-importer takes {archive.name} without a warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
