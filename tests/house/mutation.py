"""Changes a room of pure code in one small way after the other, and looks whether its tests notice.

usage: python -m tests.house.mutation [ROOM …]

Works on a copy of the checkout in .cache/mutation, one for each room, and ends with the survivors: changes that no test
noticed. A survivor is a test to be written, or code that means the same either way.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.house.repository import ROOT

DAEMON = "files/devplugin/src/nvidia_devplugin"
UTILS = "plugins/module_utils"
CONFIGS = f"{UTILS}/runtime_config"


@dataclass(frozen=True)
class Room:
    """A file with decisions, and the tests nearest to it."""

    path: str
    tests: tuple[str, ...]


ROOMS = {
    "allocation": Room(
        f"{DAEMON}/devices/allocation.py",
        ("devplugin/devices/test_allocation.py", "devplugin/devices/test_resources.py"),
    ),
    "chain": Room("plugins/filter/verify_chain.py", ("plugins/filter/test_verify_chain.py",)),
    "containerd": Room(
        f"{CONFIGS}/containerd/config.py",
        (f"{CONFIGS}/test_containerd_effective.py", f"{CONFIGS}/test_containerd_config.py"),
    ),
    "docker": Room(
        f"{CONFIGS}/docker/config.py",
        (f"{CONFIGS}/test_docker_daemon.py", f"{CONFIGS}/test_flags_pending_memory.py"),
    ),
    "health": Room(
        f"{DAEMON}/health/state.py",
        ("devplugin/health/test_state.py", "devplugin/health/test_recovery.py", "devplugin/devices/test_resources.py"),
    ),
    "json": Room(f"{CONFIGS}/text/json_text.py", (f"{CONFIGS}/test_docker_daemon.py",)),
    "kubelet": Room("plugins/plugin_utils/kubelet/facts.py", ("plugins/plugin_utils/kubelet/test_facts.py",)),
    "labels": Room(f"{DAEMON}/labels/feature_labels.py", ("devplugin/labels/test_feature_labels.py",)),
    "plan": Room("plugins/filter/device_plugin_plan.py", ("plugins/filter/test_device_plugin_plan.py",)),
    "pods": Room(f"{UTILS}/kubernetes/pods.py", ("plugins/module_utils/kubernetes", "plugins/filter")),
    "policy": Room(
        f"{DAEMON}/health/policy.py", ("devplugin/health/test_recovery.py", "devplugin/health/test_state.py")
    ),
    "preference": Room(f"{DAEMON}/devices/placement.py", ("devplugin/devices/test_placement.py",)),
    "recovery": Room(
        f"{DAEMON}/health/recovery.py", ("devplugin/health/test_recovery.py", "devplugin/health/test_state.py")
    ),
    "resources": Room(f"{DAEMON}/devices/resources.py", ("devplugin/devices/test_resources.py",)),
    "shape": Room(f"{UTILS}/gpu/shape.py", ("plugins/module_utils/gpu/test_shape.py",)),
    "toml": Room(
        f"{CONFIGS}/text/toml_text.py", (f"{CONFIGS}/test_containerd_config.py", f"{CONFIGS}/test_crio_config.py")
    ),
}


WITHOUT = ["core/ReplaceBinaryOperator_BitOr_.*", "core/ReplaceComparisonOperator_(Eq_Is|NotEq_IsNot)"]


@dataclass(frozen=True)
class Survivor:
    """A change that no test noticed: where it was made, and the change as a diff."""

    place: str
    diff: str


@dataclass(frozen=True)
class Outcome:
    """What became of a room's changes."""

    changes: int
    survivors: tuple[Survivor, ...]


def outcome(lines: Sequence[str]) -> Outcome:
    """From what `cosmic-ray dump` prints: a line of JSON for each change, [what was done, what came of it]."""
    changes, survivors = 0, []
    for line in lines:
        item, result = json.loads(line)
        if result is None:
            raise ValueError(f"a change was not tried: {item}")
        if result["worker_outcome"] == "skipped":
            continue
        changes += 1
        if result["test_outcome"] == "survived":
            (change,) = item["mutations"]
            survivors.append(Survivor(f"{change['module_path']}:{change['start_pos'][0]}", result["diff"]))
    return Outcome(changes, tuple(survivors))


def copy(place: Path) -> None:
    """The checkout's files, and the link by which its tests find the collection."""
    shutil.rmtree(place, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    namespace = place / ".cache/collections/ansible_collections/kubegpu"
    namespace.mkdir(parents=True)
    (namespace / "__init__.py").touch()
    (namespace / "nvidia").symlink_to("../../../..")


def settings(room: Room) -> str:
    """Cosmic Ray's, in TOML."""
    tests = " ".join(f"tests/unit/{test}" for test in room.tests)
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider --hypothesis-profile quick {tests}"
    return "\n".join(
        (
            "[cosmic-ray]",
            f"module-path = {json.dumps(room.path)}",
            "timeout = 60.0",
            "excluded-modules = []",
            f"test-command = {json.dumps(command)}",
            "[cosmic-ray.distributor]",
            'name = "local"',
            # the | of annotations, and `is` and `is not` where text is compared, mean the same to every test
            "[cosmic-ray.filters.operators-filter]",
            f"exclude-operators = {json.dumps(WITHOUT)}",
            "",
        )
    )


def run(name: str) -> Outcome:
    """Raises subprocess.CalledProcessError when the tests fail on unchanged code, or Cosmic Ray does."""
    place = ROOT / ".cache/mutation" / name
    copy(place)
    (place / "mutation.toml").write_text(settings(ROOMS[name]))
    tools = Path(sys.executable).parent
    for step in (
        ["cosmic-ray", "baseline", "mutation.toml"],
        ["cosmic-ray", "init", "mutation.toml", "mutation.sqlite"],
        ["cr-filter-operators", "mutation.sqlite", "mutation.toml"],
        ["cosmic-ray", "exec", "mutation.toml", "mutation.sqlite"],
    ):
        subprocess.run([tools / step[0], *step[1:]], cwd=place, check=True, stdout=subprocess.DEVNULL)
    dump = subprocess.run(
        [tools / "cosmic-ray", "dump", "mutation.sqlite"], cwd=place, check=True, capture_output=True, text=True
    )
    return outcome(dump.stdout.splitlines())


def report(name: str, found: Outcome) -> Iterator[str]:
    for survivor in found.survivors:
        yield f"{survivor.place}\n{survivor.diff}\n"
    noticed = found.changes - len(found.survivors)
    yield f"{name:<12}{noticed} of {found.changes} changes noticed ({100 * noticed // max(found.changes, 1)} %)"


def main(arguments: Sequence[str]) -> int:
    unknown = sorted(set(arguments) - set(ROOMS))
    if unknown:
        print(f"no such room: {', '.join(unknown)}; there are {', '.join(ROOMS)}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(2) as pool:
        names = list(arguments) or list(ROOMS)
        for name, found in zip(names, pool.map(run, names), strict=True):
            print("\n".join(report(name, found)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
