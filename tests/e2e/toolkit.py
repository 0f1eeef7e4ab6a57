"""The role container_toolkit on machines without a network, for its tests; see tests/sim/toolkit/machines.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e import versions
from tests.sim.cluster import docker, names
from tests.sim.cluster.use import ROOT, PlaybookRun
from tests.sim.toolkit import aptrepo, machines

URL = machines.URL
PACKAGES = ("libnvidia-container-tools", "libnvidia-container1", "nvidia-container-toolkit",
            "nvidia-container-toolkit-base")  # fmt: skip


_PROXY = """
import base64, http.server, sys, urllib.parse
LOGIN = 'Basic ' + base64.b64encode(sys.argv[2].encode()).decode()
WANTED = [('Proxy-Authorization', 407, 'Proxy-Authenticate'), ('Authorization', 401, 'WWW-Authenticate')]
class Proxy(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *a):
        super().__init__(*a, directory='/srv')
    def translate_path(self, path):
        return super().translate_path(urllib.parse.urlsplit(path).path)
    def do_GET(self):
        for header, status, answer in WANTED if sys.argv[2] else ():
            if self.headers[header] != LOGIN:
                self.send_response(status)
                self.send_header(answer, 'Basic realm="x"')
                self.send_header('Content-Length', '0')
                return self.end_headers()
        super().do_GET()
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Proxy).serve_forever()
"""


@dataclass
class Machine:
    """A container, and the variables that every run of the role on it gets."""

    name: str
    work: Path
    variables: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    def execute(self, *command: str) -> str:
        return docker.run("exec", self.name, *command)

    def shell(self, script: str) -> str:
        return self.execute("sh", "-c", script)

    PROXY = "http://127.0.0.1:8081"

    def start_proxy(self) -> None:
        """A proxy at PROXY that gives what lies in /srv, whatever host is asked for, and says what was asked."""
        self._start("proxy", 8081)

    # Escaped, as addresses have it; as a proxy and as a mirror.
    LOGIN = "someone:s3cr3t%2B1"
    MARK = "s3cr3t"

    def _start(self, name: str, port: int, login: str = "") -> None:
        self.execute("sh", "-c", f"cat > /tmp/{name}.py <<'END'\n{_PROXY}END")
        self.shell(f"python3 /tmp/{name}.py {port} '{login}' >/tmp/{name}.log 2>&1 &")

    def keeps_secrets(self) -> None:
        """Passwords in the addresses of mirror and proxy are used, and neither shown nor left where others can read."""
        self._start("guarded", 8082, "someone:s3cr3t+1")
        addresses = {"repo_url": f"http://{self.LOGIN}@mirror.invalid/libnvidia-container",
                     "proxy": f"http://{self.LOGIN}@127.0.0.1:8082"}  # fmt: skip
        wrong = {key: value.replace(self.MARK, f"{self.MARK}-not") for key, value in addresses.items()}
        refused = self.role("--diff", "-vvv", **wrong)
        assert refused.returncode != 0
        assert "cannot be fetched from http://mirror.invalid/libnvidia-container/gpgkey" in " ".join(
            refused.output.split()
        )
        shown = [refused.output]
        shown += [self.works(*options, "-vvv", **addresses).output for options in (("--check", "--diff"), ("--diff",))]
        again = self.works("-vvv", **addresses)
        assert again.changed == 0, again.output
        assert self.MARK not in "".join([*shown, again.output])
        find = f"grep -rIl {self.MARK} /etc /root /tmp/.ansible /var/cache /var/lib /var/log 2>/dev/null"
        modes = self.shell(f"{find} | xargs -r stat -c '%a %U'").splitlines()
        assert modes
        assert set(modes) <= {"600 root", "640 root"}
        self.works(state="absent", **addresses)
        assert self.shell(f"grep -rIl {self.MARK} /etc || true") == ""

    def proxy_log(self) -> str:
        return self.execute("cat", "/tmp/proxy.log")

    def role(self, *options: str, **variables: Any) -> PlaybookRun:
        """Runs the role with variables of the role (without its prefix) on top of the machine's own."""
        options = (*self.options, *options)
        everything = {f"container_toolkit_{key}": value for key, value in {**self.variables, **variables}.items()}
        inventory = self.work / "inventory.json"
        host = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
        inventory.write_text(json.dumps({"all": {"hosts": {self.name: host}}}))
        play = self.work / "play.json"
        tasks = [{"ansible.builtin.import_role": {"name": "kubegpu.nvidia.container_toolkit"}}]
        play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": everything, "tasks": tasks}]))
        tools = Path(sys.executable).parent
        done = subprocess.run(
            [tools / "ansible-playbook", "-i", inventory, play, *options],
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        return PlaybookRun(done.returncode, done.stdout + done.stderr, 0)

    def works(self, *options: str, **variables: Any) -> PlaybookRun:
        run = self.role(*options, **variables)
        assert run.returncode == 0, run.output
        return run

    def settles(self, **variables: Any) -> None:
        """The role works, and a second run has nothing to do."""
        self.works(**variables)
        again = self.works(**variables)
        assert again.changed == 0, again.output

    def refuses(self, *words: str, options: tuple[str, ...] = (), **variables: Any) -> str:
        """The role fails and says these words, among others that are returned."""
        run = self.role(*options, **variables)
        assert run.returncode != 0, run.output
        said = " ".join(run.output.split())
        assert [word for word in words if word not in said] == [], run.output
        return said

    DOCKER_CONFIG = "/etc/docker/daemon.json"

    def migrates(self, installed: Callable[[], str], guide: str | None = None) -> None:
        """nvidia-docker2 is there, and Docker's configuration has been changed since; installed: names of packages,
        guide: a file of the old repository."""
        mine = '{"data-root": "/srv/mine", "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}'
        self.shell(f"chmod 600 {self.DOCKER_CONFIG}; echo '{mine}' > {self.DOCKER_CONFIG}")
        if guide:
            old = r"[nvidia-docker]\nname=old\nbaseurl=https://nvidia.github.io/nvidia-docker\nenabled=0\n"
            self.shell(f"mkdir -p {Path(guide).parent}; printf '{old}' > {guide}")
        self.settles()
        assert "nvidia-docker2" in installed()
        assert "nvidia-container-runtime" in installed().split()
        planned = self.works("--check", "--diff", old_repository="migrate")
        assert planned.changed > 0, planned.output
        assert "nvidia-docker2" in installed()
        assert self.execute("cat", self.DOCKER_CONFIG) == mine
        if guide:
            self.execute("test", "-e", guide)
        self.settles(old_repository="migrate")
        if guide:
            self.execute("test", "!", "-e", guide)
        left = installed()
        assert "nvidia-docker2" not in left
        assert "nvidia-container-runtime" not in left.split()
        assert set(PACKAGES) <= set(left.split())
        assert self.execute("cat", self.DOCKER_CONFIG) == mine
        assert self.shell(f"stat -c %a {self.DOCKER_CONFIG}; ls /etc/docker").split() == ["600", "daemon.json"]

    def follows_a_mirror(self, repository: Path, places: str) -> None:
        """A mirror with a name of its own, then one behind a proxy, whose host name is the proxy's business alone.

        The key comes from the machine that runs Ansible. places: files in which no proxy must stay behind."""
        key = self.work / "key.asc"
        key.write_bytes((repository / "libnvidia-container/gpgkey").read_bytes())
        (self.work / "srv/libnvidia-container/gpgkey").unlink()
        (self.work / "srv/mirror").symlink_to("libnvidia-container")
        self.works(repo_url=URL.replace("libnvidia-container", "mirror"), repo_key_file=str(key), version="1.17.8")
        assert rpm_versions(self) == all_of("1.17.8-1")
        self.start_proxy()
        through = {"repo_url": "http://mirror.invalid/mirror", "repo_key_file": str(key)}
        self.refuses("The repository cannot be reached from the node", **through)
        self.settles(**through, proxy=self.PROXY)
        assert rpm_versions(self) == all_of("1.20.2-1")
        assert "GET http://mirror.invalid/mirror/stable/rpm/" in self.proxy_log()
        self.works(state="absent")
        assert "mirror.invalid" not in self.shell(f"cat {places} 2>/dev/null || true")

    def files(self, *places: str) -> str:
        """All files below the places, with their content's digest."""
        return self.shell(
            f"find {' '.join(places)} -type f -print0 2>/dev/null | sort -z | xargs -0r sha256sum;"
            f" find {' '.join(places)} -type l -print 2>/dev/null | sort"
        )


_recorded: set[str] = set()
"""Images whose versions were noted."""


@contextmanager
def machine(image: str, served: Path, work: Path, system: bool = True) -> Iterator[Machine]:
    """system: whether its package manager is its distribution's own, so that it counts as a system that was tested."""
    name = f"{names.PREFIX}-tk-{uuid.uuid4().hex[:8]}"
    machines.start(name, image, served)
    try:
        if image not in _recorded:
            _recorded.add(image)
            versions.record(name, system)
        yield Machine(name, work)
    finally:
        docker.run("rm", "--force", name)


@contextmanager
def expired_keyring() -> Iterator[dict[str, str]]:
    """An environment whose gpg lives in 2020 and has a key that was good for a year."""
    with made_key(validity="1y", configuration="faked-system-time 20200601T000000!\n") as environment:
        yield environment


@contextmanager
def made_key(*options: str, validity: str = "never", configuration: str = "") -> Iterator[dict[str, str]]:
    """An environment whose gpg has a key of its own, made with these options."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        environment = {**os.environ, "GNUPGHOME": home}
        Path(home, "gpg.conf").write_text(configuration)
        gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *options]
        try:
            aptrepo.run([*gpg, "--quick-generate-key", aptrepo.KEY_NAME, "rsa3072", "sign", validity], env=environment)
            yield environment
        finally:
            subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=environment, check=False)


@contextmanager
def rpm_machine(image: str, package_manager: str, repository: Path, work: Path) -> Iterator[Machine]:
    """A machine with rpm, and a copy of the repository of its own."""
    served = work / "srv"
    shutil.copytree(repository, served)
    with machine(image, served, work, system=False) as node:
        machines.prepare_rpm(node.name, package_manager)
        fingerprint = (repository / "libnvidia-container/gpgkey.fingerprint").read_text().strip()
        node.variables = {"repo_url": URL, "repo_key_fingerprint": fingerprint, "apt_lock_timeout": 5}
        # Ansible takes the package manager from the distribution, and this machine's distribution has another.
        node.options = ("-e", f"__container_toolkit_given_manager={package_manager}")
        machines.serve(node.name)
        yield node


def rpm_versions(node: Machine) -> dict[str, str]:
    """Installed packages of the toolkit and their versions."""
    rows = node.shell("rpm -qa --queryformat '%{NAME} %{VERSION}-%{RELEASE}\\n'").splitlines()
    return {name: version for name, version in map(str.split, rows) if name not in ("gpg-pubkey", "bystander")}


def all_of(version: str) -> dict[str, str]:
    """The four packages in one version."""
    return dict.fromkeys(PACKAGES, version)
