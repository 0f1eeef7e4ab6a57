"""The main job on a simulated GPU node: bring the node up, run site.yml against it, show what came of it."""

from __future__ import annotations

import sys
import textwrap

from tests.demo import pods
from tests.engines import EngineError
from tests.sim.cluster import binaries, cluster, docker, progress, wait
from tests.sim.cluster.use import Handle, wait_for

SPEC = cluster.Spec("demo", gpus=2)
RULE = "─" * 100
say = progress.timed(sys.stdout)


def show(title: str, command: str, output: str) -> None:
    print(f"\n{RULE}\n{title}\n  $ {command}\n{RULE}\n{output.strip()}", flush=True)


def excerpt(description: str) -> str:
    """What ``kubectl describe node`` says of GPUs in the sections Capacity and Allocatable."""
    section, lines = "", []
    for line in description.splitlines():
        if not line.startswith(" "):
            section = line
            lines += [line] if section in ("Capacity:", "Allocatable:") else []
        elif section in ("Capacity:", "Allocatable:") and "nvidia.com/" in line:
            lines.append(line)
    return "\n".join(lines)


def show_result(handle: Handle) -> None:
    """What a person would check by hand, each with the command that shows it."""
    description = handle.kubectl("describe", "node", handle.node)
    show("The GPUs are schedulable", f"kubectl describe node {handle.node}", excerpt(description))

    handle.kubectl("delete", "pod", "demo", "--ignore-not-found")
    handle.apply(pods.gpu_pod("demo", "nvidia-smi -L; env | grep ^NVIDIA_VISIBLE; ls /dev/nvidia*"))
    wait_for("the pod's end", lambda: handle.get("pod", "demo")["status"]["phase"] == "Succeeded")
    show("A pod with limits {nvidia.com/gpu: 1} sees one GPU", "kubectl logs demo", handle.kubectl("logs", "demo"))

    image = pods.IMAGE.removeprefix("docker.io/")
    for options in (["--gpus", "all"], ["--runtime=nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=0"]):
        command = ["docker", "run", "--rm", *options, image, "nvidia-smi", "-L"]
        show("Docker on the node hands GPUs to containers", " ".join(command), handle.execute(*command))

    print(f"\n{RULE}\nLook around\n{RULE}")
    print(
        textwrap.dedent(f"""\
            a shell on the node          docker exec -it {handle.node} bash
            the cluster from here        kubectl --kubeconfig {handle.folder}/kubeconfig get pods -A
              or on the node             docker exec {handle.node} kubectl get pods -A
            break a GPU                  docker exec {handle.node} nvml-sim xid 0 79
              and watch it go            docker exec {handle.node} kubectl describe node
            run the playbook again       .venv/bin/ansible-playbook -i {handle.inventory} playbooks/site.yml
            take all of it away          make demo-clean
        """),
    )


def main() -> int:
    try:
        handle = Handle(cluster.up(SPEC, say), SPEC.node_name(1))
        say("ansible-playbook playbooks/site.yml")
        run = handle.playbook("site.yml", show=True)
        if run.returncode != 0:
            print("error: site.yml failed; what it says is above", file=sys.stderr)
            return run.returncode
        say(f"site.yml: {run.seconds:.0f} s, changed={run.changed}")
        show_result(handle)
    except (docker.DockerError, binaries.BinariesError, EngineError, wait.NotReadyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
