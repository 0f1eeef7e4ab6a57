#!/usr/bin/env python3
"""How long site.yml takes on the nodes, first and again, over several numbers of simulated hosts.

A host is a container with systemd, the simulated driver, and Docker and containerd that do not run: what is
measured is Ansible, its connections and our modules, not how fast a dockerd restarts. The cluster part is left out.

Prints a Markdown table. ``floor`` is a play with as many tasks of the same kinds: one ping for every time the roles ask
the host, one debug for every task that the control host answers by itself, as many skipped tasks, and as many debugs on
localhost. ``ratio`` is run by floor; wanted for a run without changes are at most 30 tasks a host and 1.5. Runs and
floors take turns, so that what else the machine does falls on both, and medians are compared. ``CPU ratio`` compares
what ansible-playbook and its children took of the control host's processors, which other work disturbs less. Below the
table stands what took longest.

With ``--settled`` hosts are copies of one on which site.yml ran, and only the run without changes is measured: the
first run on 50 hosts installs packages for a quarter of an hour. They do without systemd, of which so many would use
up the machine's inotify instances (fs.inotify.max_user_instances, often 128) and keep other nodes from starting.

Needs what `tests/demo/prepare.sh python engine` prepares. Each number of hosts gets hosts of its own, which are removed
before the next; a run of one playbook is bounded by --limit-seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.sim.cluster import cluster, docker, images, names  # noqa: E402
from tests.sim.cluster.wait import wait_for  # noqa: E402

SITE = REPOSITORY / "playbooks/site.yml"
SPEC = cluster.Spec("bench", gpus=2, kubernetes=False)
SETTLED = f"{names.PREFIX}-bench/settled"
# systemd starts on so many hosts at a time
BATCH = 5
# Actions that never leave the control host.
AT_HOME = {
    "assert",
    "debug",
    "set_fact",
    "fail",
    "include_tasks",
    "include_role",
    "include_vars",
    "meta",
    "validate_argument_spec",
}
WITHOUT_DAEMONS = (
    "rm -f /etc/systemd/system/multi-user.target.wants/* /etc/systemd/system/sockets.target.wants/docker.socket; "
    "exec /entry.sh"
)
# The node's own preparations all the same, among them the simulated driver.
WITHOUT_SYSTEMD = "sed 's,^exec .*systemd.*,exec sleep infinity,' /entry.sh > /tmp/entry; exec bash /tmp/entry"


@dataclass
class Run:
    """One ansible-playbook.

    Counts are of the host with the fewest tasks: what each host costs. ``once`` is what the host with the most has
    more, which are the tasks that run once for all; ``local`` are tasks of localhost. ``remote`` counts each item of a
    loop: each asks the host. ``cpu`` is in seconds.
    """

    seconds: float
    cpu: float = 0.0
    remote: int = 0
    home: int = 0
    skipped: int = 0
    changed: int = 0
    tasks: int = 0
    once: int = 0
    local: int = 0
    slowest: list[tuple[float, str]] = field(default_factory=list)


def host(number: int) -> str:
    return f"{names.PREFIX}-{SPEC.name}-h{number}"


def start(number: int, image: str, privileges: list[str]) -> None:
    """Starts one host: a simulated node with systemd, or settled and without it, in any case without the daemons."""
    settings = {"GPU_MODEL": SPEC.model, "GPU_COUNT": str(SPEC.gpus), "GPU_DRIVER": SPEC.driver}
    name = host(number)
    docker.run(
        "run", "-d", "--name", name, "--hostname", name, "--label", f"{cluster.LABEL}={SPEC.name}",
        "--network", SPEC.network, "--runtime", "runc", "--cgroupns", "private",
        "--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec",
        *(item for key, value in settings.items() for item in ("-e", f"{key}={value}")),
        "--entrypoint", "/bin/bash", *privileges, image, "-c", WITHOUT_SYSTEMD if image == SETTLED else WITHOUT_DAEMONS,
    )  # fmt: skip
    if image == SETTLED:
        wait_for(f"{name}'s driver", lambda: docker.succeeds("exec", name, "nvidia-smi"), 180)
        return
    wait_for(f"systemd in {name}", lambda: cluster._systemd_up(name), 180)


@contextmanager
def fleet(count: int, folder: Path, image: str = images.NODE) -> Iterator[Path]:
    """Hosts and the package repository that they install from; the inventory. All of it is removed in the end."""
    images.ensure(lambda message: print(message, file=sys.stderr))
    cluster.down(SPEC.name)
    try:
        docker.run("network", "create", "--label", f"{cluster.LABEL}={SPEC.name}", SPEC.network)
        docker.run(
            "run", "-d", "--init", "--name", SPEC.repository, "--label", f"{cluster.LABEL}={SPEC.name}",
            "--network", SPEC.network, images.REPO,
        )  # fmt: skip
        privileges = cluster._privileges()
        with ThreadPoolExecutor(BATCH) as pool:
            list(pool.map(lambda number: start(number, image, privileges), range(1, count + 1)))
        key = docker.run("exec", SPEC.repository, "cat", "/repo/libnvidia-container/gpgkey.fingerprint").strip()
        inventory = folder / "inventory.json"
        variables = {
            "ansible_connection": "community.docker.docker",
            "ansible_python_interpreter": "/usr/bin/python3",
            "container_toolkit_repo_url": f"http://{SPEC.repository}/libnvidia-container",
            "container_toolkit_repo_key_fingerprint": key,
            "kubegpu_cluster": False,
            # no kubelet says which runtime it uses: both are set up, as on a node where it uses containerd
            "kubegpu_runtime": "containerd",
        }
        hosts = {host(number): {} for number in range(1, count + 1)}
        inventory.write_text(json.dumps({"all": {"children": {"gpu_nodes": {"hosts": hosts, "vars": variables}}}}))
        yield inventory
    finally:
        cluster.down(SPEC.name)


def play(playbook: Path, inventory: Path, hosts: list[str], forks: int, limit: float) -> Run:
    """Runs a playbook on some hosts and counts what it did. Raises SystemExit when it fails or takes too long."""
    chosen = inventory.with_name("chosen.json")
    document = json.loads(inventory.read_text())
    document["all"]["children"]["gpu_nodes"]["hosts"] = {name: {} for name in hosts}
    chosen.write_text(json.dumps(document))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORKS": str(forks),
    }
    program = str(Path(sys.executable).parent / "ansible-playbook")
    started, spent = time.monotonic(), processor_seconds()
    done = subprocess.run(
        [program, "-i", str(chosen), str(playbook)],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{playbook.name} failed:\n{failures(done.stdout)}\n{done.stderr[-2000:]}")
    run = count_tasks(json.loads(done.stdout[done.stdout.index("{") :]), seconds)
    run.cpu = processor_seconds() - spent
    return run


def processor_seconds() -> float:
    """What ended children of this process have had of the processors."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def failures(output: str) -> str:
    """What failed, of a run that the callback ansible.posix.json told; its end if it told nothing."""
    try:
        plays = json.loads(output[output.index("{") :])["plays"]
    except ValueError:
        return output[-3000:]
    results = ((task["task"]["name"], task["hosts"]) for one_play in plays for task in one_play["tasks"])
    lines = [
        f"{who}: {name}: {result.get('msg')} {result.get('stderr', '')}"
        for name, hosts in results
        for who, result in hosts.items()
        if result.get("failed") or result.get("unreachable")
    ]
    return "\n".join(lines[:10])


def count_tasks(answer: dict, seconds: float) -> Run:
    """What the callback ansible.posix.json told of a run."""
    run = Run(seconds)
    counts: dict[str, dict[str, int]] = {}
    took: dict[str, float] = {}
    for one_play in answer["plays"]:
        for task in one_play["tasks"]:
            name = task["task"]["name"]
            duration = task["task"]["duration"]
            if "end" in duration:
                took[name] = took.get(name, 0.0) + _seconds(duration["end"]) - _seconds(duration["start"])
            for who, result in task["hosts"].items():
                if who == "localhost":
                    run.local += not result.get("skipped")
                    continue
                mine = counts.setdefault(who, {"remote": 0, "home": 0, "skipped": 0, "changed": 0, "tasks": 0})
                action = str(result.get("action", "")).rpartition(".")[2]
                if result.get("skipped"):
                    mine["skipped"] += 1
                    continue
                mine["tasks"] += 1
                items = [item for item in result.get("results", [{}]) if not item.get("skipped")]
                if action in AT_HOME:
                    mine["home"] += 1
                else:
                    mine["remote"] += max(len(items), 1)
                mine["changed"] += bool(result.get("changed"))
    least = min(counts.values(), key=lambda mine: mine["tasks"])
    run.remote, run.home, run.skipped, run.tasks = (least[key] for key in ("remote", "home", "skipped", "tasks"))
    run.changed = max(mine["changed"] for mine in counts.values())
    run.once = max(mine["tasks"] for mine in counts.values()) - run.tasks
    run.slowest = sorted(((value, name) for name, value in took.items()), reverse=True)
    return run


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def floor(run: Run, folder: Path) -> Path:
    """A playbook with as many tasks of the same kinds as a run had, each of which does nothing."""
    tasks: list[dict[str, object]] = []
    for number in range(max(run.remote, run.home, run.skipped)):
        if number < run.remote:
            tasks.append({"name": f"Ask {number}", "ansible.builtin.ping": None})
        if number < run.home:
            tasks.append({"name": f"Say {number}", "ansible.builtin.debug": {"msg": "{{ inventory_hostname }}"}})
        if number < run.skipped:
            tasks.append({"name": f"Skip {number}", "ansible.builtin.ping": None, "when": "inventory_hostname == ''"})
    local = [{"name": f"Say {number} at home", "ansible.builtin.debug": None} for number in range(run.local)]
    plays: list[dict[str, object]] = [{"name": "Floor", "hosts": "gpu_nodes", "gather_facts": False, "tasks": tasks}]
    if local:
        home = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": local}
        plays.insert(0, {"name": "Floor at home", **home})
    path = folder / "floor.json"
    path.write_text(json.dumps(plays))
    return path


HEAD = (
    *("hosts", "run", "tasks/host", "once", "asking the host", "changed"),
    *("seconds", "s/host", "floor s", "ratio", "CPU ratio"),
)


def row(count: int, label: str, runs: list[Run], floors: list[Run]) -> str:
    """A line of the table: medians of some runs, and of the floors that took turns with them."""
    seconds, least = (statistics.median(run.seconds for run in some) for some in (runs, floors))
    cpu, least_cpu = (statistics.median(run.cpu for run in some) for some in (runs, floors))
    counts = (runs[0].tasks, runs[0].once, runs[0].remote, runs[0].changed)
    times = (seconds, seconds / count, least, seconds / least, cpu / least_cpu)
    return "| " + " | ".join([str(count), label, *map(str, counts), *(f"{value:.2f}" for value in times)]) + " |"


@contextmanager
def settled(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """An image of a host on which site.yml has nothing to do."""
    try:
        with fleet(1, folder) as inventory:
            play(SITE, inventory, [host(1)], options.forks, options.limit_seconds)
            docker.run("commit", host(1), SETTLED)
        yield SETTLED
    finally:
        if docker.inspect("image", SETTLED):
            docker.run("rmi", SETTLED)


def measure(count: int, inventory: Path, options: argparse.Namespace) -> Run:
    """Prints the lines for a number of hosts; returns the last run without changes."""
    hosts = [host(number) for number in range(1, count + 1)]

    def run(playbook: Path) -> Run:
        return play(playbook, inventory, hosts, options.forks, options.limit_seconds)

    if not options.settled:
        first = run(SITE)
        print(row(count, "first", [first], [run(floor(first, inventory.parent))]), flush=True)
    runs, floors = [], []
    for _ in range(options.repetitions):
        runs.append(run(SITE))
        floors.append(run(floor(runs[-1], inventory.parent)))
    print(row(count, "no change", runs, floors), flush=True)
    return runs[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10], help="numbers of hosts (1 10)")
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=3, help="runs without changes, and floors (3)")
    parser.add_argument("--settled", action="store_true", help="no first runs: hosts are copies of one that is set up")
    parser.add_argument("--limit-seconds", type=float, default=900, help="how long one run may take (900)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the hosts are removed then too
    print(f"forks {options.forks}, {os.cpu_count()} cores, median of {options.repetitions} runs without changes\n")
    print("| " + " | ".join(HEAD) + " |")
    print("| ---: | --- |" + " ---: |" * (len(HEAD) - 2), flush=True)
    last = None
    with tempfile.TemporaryDirectory(prefix="kubegpu-bench-") as name:
        folder = Path(name)
        with settled(folder, options) if options.settled else nullcontext(images.NODE) as image:
            for count in options.hosts:
                with fleet(count, folder, image) as inventory:
                    last = measure(count, inventory, options)
    if last:
        print(
            f"\nwhat took longest in the last run ({last.seconds:.1f} s, {last.skipped} tasks skipped on each host):\n"
        )
        for seconds, task in last.slowest[:10]:
            print(f"{seconds:7.2f} s  {task}")


if __name__ == "__main__":
    main()
