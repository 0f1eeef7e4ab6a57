#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_runtime_facts
short_description: Tells which container runtime the kubelet of a machine uses
version_added: 0.1.0
author:
  - The kubegpu.nvidia authors (@kubegpu)
description:
  - Returns as C(ansible_facts.kubelet_runtime) which container runtime this machine's kubelet talks to, and which
    ones are installed.
  - The kubelet is found among the running processes, also inside of k3s, RKE2, k0s and MicroK8s. Kubelets in
    containers, like the nodes of kind, belong to other machines and are left out.
  - Its endpoint is taken from its command line, its C(--config-dir), its C(--config) file, the default of its version
    (a kubelet before 1.24 without endpoint uses Docker), and at last from the sockets that exist.
  - A machine without a kubelet or without a runtime is a fact and not a failure.
  - The machine is looked at by its shell, in one go where the kubelet is set up as usual. It needs no Python for that.
options:
  host_root:
    description:
      - Directory below which C(/proc), C(/run), C(/usr) and configuration files are looked for.
      - Set it when the target is a container that has the machine's root mounted somewhere, like C(/host).
    type: str
    default: /
  runtime:
    description:
      - Which runtime is to be set up for GPUs, for C(to_set_up). V(auto) is the kubelet's.
    type: str
    choices: [auto, docker, containerd, crio]
    default: auto
    version_added: 0.1.0
  versions:
    description:
      - Whether to ask each runtime's program for its version. That starts a large program for each of them, and takes
        most of the module's time.
    type: bool
    default: true
    version_added: 0.1.0
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.facts
  - ansible.builtin.action_common_attributes.flow
attributes:
  action:
    support: full
  async:
    support: none
  bypass_host_loop:
    support: none
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The module changes nothing.
  facts:
    support: full
  platform:
    platforms: linux
seealso:
  - module: kubegpu.nvidia.nvidia_gpu_facts
  - name: Container runtimes
    description: Which endpoints runtimes have.
    link: https://kubernetes.io/docs/setup/production-environment/container-runtimes/
"""

EXAMPLES = r"""
- name: Find out which container runtime the kubelet uses
  kubegpu.nvidia.kubelet_runtime_facts:

- name: Configure containerd where the kubelet uses it
  kubegpu.nvidia.containerd_runtime_config:
    set_default: true
  when: ansible_facts.kubelet_runtime.runtime == 'containerd'

- name: Configure Docker wherever it is installed
  kubegpu.nvidia.docker_runtime_config:
    set_default: true
  when: "'docker' in ansible_facts.kubelet_runtime.to_set_up"
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to ansible_facts.
  returned: always
  type: dict
  contains:
    kubelet_runtime:
      description: The kubelet's container runtime.
      returned: always
      type: dict
      contains:
        kubelet_running:
          description: Whether a kubelet runs on this machine.
          type: bool
          returned: always
          sample: true
        kubelet_pid:
          description: Its process id. V(null) when none runs.
          type: int
          returned: always
          sample: 1234
        flavor:
          description: The distribution that started it, V(kubeadm), V(k3s), V(rke2), V(k0s) or V(microk8s). V(null)
            if it is none of these.
          type: str
          returned: always
          sample: kubeadm
        endpoint:
          description: The CRI endpoint. V(null) for a kubelet that talks to Docker by itself (before 1.24), and when
            none is known.
          type: str
          returned: always
          sample: unix:///run/containerd/containerd.sock
        runtime:
          description: V(docker), V(containerd) or V(crio). V(null) when unknown.
          type: str
          returned: always
          sample: containerd
        source:
          description:
            - From where the runtime is known, V(command line), V(config directory), V(config file), V(default) (of
              this kubelet's version or distribution) or V(sockets). V(null) when it is not known.
            - V(sockets) is a guess when no kubelet runs. Docker brings a containerd with it, so Docker is named first.
          type: str
          returned: always
          sample: command line
        to_set_up:
          description:
            - The runtimes to set up for GPUs. The one that O(runtime) names, or with V(auto) the kubelet's; where
              neither is known, the only one that is installed, or CRI-O beside a containerd.
            - Docker is among them wherever it is installed, since people use it beside Kubernetes too.
          type: list
          elements: str
          returned: always
          sample: [docker, containerd]
        installed:
          description: The runtimes on this machine by name, V(docker), V(containerd) and V(crio). One that is not
            installed has no key. A runtime counts as installed when its socket or its program exists.
          type: dict
          returned: always
          contains:
            docker:
              description: Docker Engine. The same keys for C(containerd) and C(crio).
              type: dict
              returned: when installed
              contains:
                socket:
                  description: Path of its socket. V(null) when there is none, so it does not run.
                  type: str
                  returned: always
                program:
                  description: Path of its daemon. V(null) when only the socket was found.
                  type: str
                  returned: always
                version:
                  description: Version that the program prints. V(null) where O(versions=false).
                  type: str
                  returned: always
          sample:
            containerd: {program: /usr/bin/containerd, socket: /run/containerd/containerd.sock, version: 1.6.20}
            docker: {program: /usr/sbin/dockerd, socket: /run/docker.sock, version: 20.10.24}
"""
