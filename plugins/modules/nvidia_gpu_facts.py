#!/usr/bin/python
# Copyright: (c) 2026, the kubegpu.nvidia authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_gpu_facts
short_description: Gathers facts about NVIDIA GPUs and their driver
version_added: 0.1.0
author:
  - The kubegpu.nvidia authors (@kubegpu)
description:
  - Returns what the driver says about this machine's GPUs as C(ansible_facts.nvidia_gpu), and names the problem when
    the driver does not answer.
  - A machine without a GPU or without a driver is a fact and not a failure. Compare
    C(ansible_facts.nvidia_gpu.problem.code) to tell the cases apart.
  - NVML is asked first, through the Python module C(pynvml). Where the target's Python does not have it,
    C(nvidia-smi -q -x) is read, and where that is missing too, sysfs and /proc alone. The keys are the same in every
    case. What a source, a GPU or a driver does not know is V(null).
options:
  gather_subset:
    description:
      - The facts to gather, with the rules of M(ansible.builtin.setup). Names add facts, names after V(!) take them
        away, V(all) is everything, V(min) is V(driver), which is always gathered unless V(!min) is there.
      - V(driver) is the driver, its versions and what is wrong; V(gpus) who the GPUs are, their memory, PCI links and
        modes. V(mig), V(ecc) (with retired pages and remapped rows), V(power), V(clocks), V(temperature),
        V(utilization), V(processes), V(nvlink) and V(topology) include V(gpus), and V(!gpus) takes them away.
      - V(services) is the persistence daemon and the fabric manager, V(toolkit) the NVIDIA Container Toolkit, V(host)
        the kernel, control groups and Secure Boot.
      - Neither NVML nor C(nvidia-smi) is asked when only V(services), V(toolkit) and V(host) are left.
    type: list
    elements: str
    default: [all]
    version_added: 0.1.0
  sources:
    description:
      - The sources to try, in this order. sysfs and /proc are always read.
      - An empty list asks neither the library nor C(nvidia-smi).
    type: list
    elements: str
    choices: [nvml, nvidia-smi]
    default: [nvml, nvidia-smi]
  gather_timeout:
    description:
      - How many seconds a source may take. A GPU that hangs then costs this time, and not the play.
      - C(nvidia-smi) is called several times, which share these seconds. What the calls after C(nvidia-smi -q -x) would
        add is V(null) when the time is over, and a warning names them.
      - Without persistence mode each GPU can take seconds to wake up.
    type: float
    default: 30
  host_root:
    description:
      - Directory below which C(/proc), C(/sys), C(/dev) and the driver's library are looked for.
      - Set it when the target is a container that has the machine's root mounted somewhere, like C(/host).
      - It does not change where NVML and C(nvidia-smi) are found.
    type: path
    default: /
  virtualenv:
    description:
      - Virtual environment in which C(pynvml) is looked for first, before the target's Python.
      - The role P(kubegpu.nvidia.driver_check#role) makes one with C(driver_check_pynvml=venv), on distributions that
        forbid C(pip) in the system's Python.
    type: path
    version_added: 0.1.0
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.facts
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The module changes nothing.
  facts:
    support: full
  platform:
    platforms: linux
requirements:
  - The Python module C(pynvml) on the target (PyPI package C(nvidia-ml-py), Debian and Ubuntu package
    C(python3-pynvml)), or C(nvidia-smi), for more than what the kernel tells.
seealso:
  - name: NVML API reference
    description: What the fields mean.
    link: https://docs.nvidia.com/deploy/nvml-api/
  - module: kubegpu.nvidia.kubelet_runtime_facts
"""

EXAMPLES = r"""
- name: Gather facts about the GPUs
  kubegpu.nvidia.nvidia_gpu_facts:

- name: Stop where a GPU cannot be used, with the cause and the cure
  ansible.builtin.assert:
    that: ansible_facts.nvidia_gpu.problem is none
    fail_msg: "{{ ansible_facts.nvidia_gpu.problem.message }} {{ ansible_facts.nvidia_gpu.problem.hint }}"
  when: ansible_facts.nvidia_gpu.present

- name: Gather what changes while GPUs work, and nothing else
  kubegpu.nvidia.nvidia_gpu_facts:
    gather_subset: ["!all", power, clocks, temperature, utilization, processes]

- name: Gather everything but the links
  kubegpu.nvidia.nvidia_gpu_facts:
    gather_subset: ["!nvlink", "!topology"]

- name: Use the virtual environment that the role driver_check made
  kubegpu.nvidia.nvidia_gpu_facts:
    virtualenv: /opt/kubegpu/pynvml

- name: Refuse a machine with a GPU that must not get work
  ansible.builtin.assert:
    that: ansible_facts.nvidia_gpu.gpus | selectattr('health.state', 'equalto', 'unhealthy') | length == 0
    fail_msg: "{{ ansible_facts.nvidia_gpu.gpus | map(attribute='health') | map(attribute='reasons') | flatten }}"

- name: Leave nodes without a GPU out of the rest of the play
  ansible.builtin.meta: end_host
  when: not ansible_facts.nvidia_gpu.present

- name: Require a driver for CUDA 12.4
  ansible.builtin.assert:
    that: ansible_facts.nvidia_gpu.cuda_version is version('12.4', '>=')

- name: Show the GPUs that can be split with MIG
  ansible.builtin.debug:
    msg: "{{ ansible_facts.nvidia_gpu.gpus | selectattr('mig.capable') | map(attribute='name') }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to ansible_facts.
  returned: always
  type: dict
  contains:
    nvidia_gpu:
      description: GPUs and driver of this machine.
      returned: always
      type: dict
      contains:
        gather_subset:
          description: The subsets that were gathered.
          type: list
          elements: str
          returned: always
          sample: ["driver", "gpus", "mig"]
        present:
          description: Whether an NVIDIA GPU is on the PCI bus or known to the driver.
          type: bool
          returned: always
          sample: true
        source:
          description: Who described the GPUs, V(nvml), V(nvidia-smi) or V(sysfs).
          type: str
          returned: always
          sample: nvml
        driver_loaded:
          description: Whether the nvidia kernel module is loaded.
          type: bool
          returned: always
          sample: true
        driver_version:
          description: Version of the driver. V(null) when it is not loaded.
          type: str
          returned: always
          sample: 550.54.15
        cuda_version:
          description: The newest CUDA version that the driver supports. V(null) from drivers that do not tell.
          type: str
          returned: always
          sample: "12.4"
        nvml_version:
          description: Version of NVML, which starts with CUDA's major version.
          type: str
          returned: always
          sample: 12.550.54.15
        kernel_module:
          description: The loaded kernel module, from C(/proc/driver/nvidia/version).
          type: dict
          returned: always
          contains:
            version:
              description: Its version.
              type: str
              returned: always
              sample: 550.54.15
            flavor:
              description: V(open) or V(proprietary).
              type: str
              returned: always
              sample: open
        library:
          description: The library C(libnvidia-ml.so.1) on disk.
          type: dict
          returned: always
          sample: {path: /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1, version: 550.54.15}
        device_nodes:
          description: The driver's device nodes below C(/dev), after the driver was asked.
          type: dict
          returned: always
          contains:
            control:
              description: Whether C(/dev/nvidiactl) is there.
              type: bool
              returned: always
              sample: true
            uvm:
              description: Whether C(/dev/nvidia-uvm) is there, which CUDA needs.
              type: bool
              returned: always
              sample: true
            minors:
              description: Numbers of the GPUs' nodes, C(/dev/nvidiaN).
              type: list
              elements: int
              returned: always
              sample: [0, 1, 2, 3]
        reboot_required:
          description: Whether loaded kernel module and library differ, as after an upgrade of a driver in use.
          type: bool
          returned: always
          sample: false
        problem:
          description: What is wrong. V(null) when nothing is.
          type: dict
          returned: always
          contains:
            code:
              description:
                - V(no_device) - no GPU on the PCI bus, or none that the driver can use.
                - V(driver_not_loaded) - a GPU is there, but no nvidia kernel module that answers.
                - V(library_missing) - the module is loaded, but C(libnvidia-ml.so.1) was not found.
                - V(version_mismatch) - kernel module and library differ.
                - V(gpu_lost) - a GPU no longer answers.
                - V(no_permission) - the user may not talk to the driver.
                - V(device_nodes_missing) - the module is loaded, but C(/dev/nvidiactl) is not there.
                - V(timeout) - the driver did not answer within O(gather_timeout).
                - V(unknown) - the driver is loaded, and could not be asked for another reason.
              type: str
              returned: when there is a problem
              sample: version_mismatch
            message:
              description: What was found, with the driver's own words.
              type: str
              returned: when there is a problem
              sample: >-
                The driver's kernel module and its library differ: the loaded kernel module is 550.54.14, the library
                550.54.15 (NVML: RM has detected an NVML/RM version mismatch.).
            hint:
              description: What to do.
              type: str
              returned: when there is a problem
              sample: >-
                The driver was upgraded while it was in use. Drain the node and reboot it, or unload and reload the
                nvidia modules; hold the driver's packages against unattended upgrades.
        count:
          description: >-
            Number of GPUs that the driver has, also where O(gather_subset) leaves out
            RV(ansible_facts.nvidia_gpu.gpus).
          type: int
          returned: always
          sample: 8
        gpus:
          description:
            - The GPUs that the driver has, in the order of the PCI bus, which is also that of C(nvidia-smi).
            - What O(gather_subset) leaves out is V(null), or empty for lists.
          type: list
          elements: dict
          returned: always
          contains:
            index:
              description: NVML's index, which is also that of C(nvidia-smi).
              type: int
              returned: always
              sample: 0
            minor_number:
              description: The number in C(/dev/nvidiaN), which can differ from the index.
              type: int
              returned: always
              sample: 0
            uuid:
              description: The GPU's UUID.
              type: str
              returned: always
              sample: "GPU-39a655a8-123a-55d3-9076-d917e43bd52d"
            name:
              description: Product name.
              type: str
              returned: always
              sample: "NVIDIA A100-SXM4-40GB"
            brand:
              description: Brand, as C(nvidia-smi) prints it.
              type: str
              returned: always
              sample: "NVIDIA"
            architecture:
              description: Architecture, as C(nvidia-smi) prints it.
              type: str
              returned: always
              sample: "Ampere"
            compute_capability:
              description: CUDA compute capability.
              type: str
              returned: always
              sample: "8.0"
            serial:
              description: Serial number of the board, where it has one.
              type: str
              returned: always
              sample: "1650967202216"
            vbios_version:
              description: Version of the video BIOS.
              type: str
              returned: always
              sample: "92.00.45.00.03"
            board_part_number:
              description: Part number of the board, where it has one.
              type: str
              returned: always
              sample: "692-2G506-0200-002"
            gsp_firmware_version:
              description: Version of the GPU System Processor's firmware, where one is in use.
              type: str
              returned: always
              sample: "570.86.15"
            memory_total_bytes:
              description: Memory of the GPU. C(nvidia-smi) cuts it to whole MiB.
              type: int
              returned: always
              sample: 42949672960
            memory_used_bytes:
              description: Memory in use, without what the driver keeps for itself.
              type: int
              returned: always
              sample: 0
            memory_free_bytes:
              description: Memory that is free.
              type: int
              returned: always
              sample: 42320527360
            memory_reserved_bytes:
              description: Memory that the driver keeps for itself.
              type: int
              returned: always
              sample: 629145600
            bar1_total_bytes:
              description: Size of the window through which the PCI bus sees the GPU's memory (BAR1).
              type: int
              returned: always
              sample: 68719476736
            bar1_used_bytes:
              description: How much of that window is in use.
              type: int
              returned: always
              sample: 1048576
            pci:
              description: The GPU on the PCI bus. GPUs that idle lower the link's current generation, not its width.
              type: dict
              returned: always
              contains:
                bus_id:
                  description: PCI address, written as in C(/sys/bus/pci/devices).
                  type: str
                  returned: always
                  sample: "0000:1b:00.0"
                vendor_id:
                  description: PCI vendor.
                  type: str
                  returned: always
                  sample: "0x10de"
                device_id:
                  description: PCI device.
                  type: str
                  returned: always
                  sample: "0x20b0"
                subsystem_vendor_id:
                  description: Vendor of the board.
                  type: str
                  returned: always
                  sample: "0x10de"
                subsystem_device_id:
                  description: Board.
                  type: str
                  returned: always
                  sample: "0x134f"
                numa_node:
                  description: NUMA node that the GPU is near to. V(null) where the kernel knows of none.
                  type: int
                  returned: always
                  sample: 0
                link_generation_current:
                  description: Generation of PCI Express at this moment.
                  type: int
                  returned: always
                  sample: 4
                link_generation_max:
                  description: The highest generation that GPU and slot can do.
                  type: int
                  returned: always
                  sample: 4
                link_width_current:
                  description: Lanes at this moment.
                  type: int
                  returned: always
                  sample: 16
                link_width_max:
                  description: Lanes that GPU and slot have.
                  type: int
                  returned: always
                  sample: 16
            mig:
              description: Multi-Instance GPU.
              type: dict
              returned: always
              contains:
                capable:
                  description: Whether the GPU can be split. V(null) for a GPU that is lost.
                  type: bool
                  returned: always
                  sample: true
                mode:
                  description: V(enabled) or V(disabled). V(null) where the GPU cannot.
                  type: str
                  returned: always
                  sample: "enabled"
                pending_mode:
                  description: The mode after the next reset.
                  type: str
                  returned: always
                  sample: "enabled"
                instances:
                  description: MIG compute instances.
                  type: list
                  elements: dict
                  returned: always
                  contains:
                    index:
                      description: Place among the GPU's instances; places can be empty.
                      type: int
                      returned: always
                      sample: 0
                    uuid:
                      description: The instance's UUID.
                      type: str
                      returned: always
                      sample: "MIG-d2bbe15c-c800-506e-8a7b-afdcbdb9ddae"
                    profile:
                      description: Profile, as in the MIG user guide.
                      type: str
                      returned: always
                      sample: "1g.5gb"
                    gpu_instance_id:
                      description: GPU instance.
                      type: int
                      returned: always
                      sample: 7
                    compute_instance_id:
                      description: Compute instance in it.
                      type: int
                      returned: always
                      sample: 0
                    memory_total_bytes:
                      description: Memory of the instance.
                      type: int
                      returned: always
                      sample: 5100273664
            ecc:
              description: Error correction of the memory. Counts are V(null) unless the mode is V(enabled).
              type: dict
              returned: always
              contains:
                mode:
                  description: V(enabled) or V(disabled). V(null) where the GPU cannot.
                  type: str
                  returned: always
                  sample: "enabled"
                pending_mode:
                  description: The mode after the next reset.
                  type: str
                  returned: always
                  sample: "enabled"
                volatile:
                  description: Errors since the driver was loaded.
                  type: dict
                  returned: always
                  contains:
                    corrected:
                      description: Errors that were corrected.
                      type: int
                      returned: always
                      sample: 0
                    uncorrected:
                      description: Errors that were not.
                      type: int
                      returned: always
                      sample: 0
                aggregate:
                  description: Errors in the life of the board.
                  type: dict
                  returned: always
                  contains:
                    corrected:
                      description: Errors that were corrected.
                      type: int
                      returned: always
                      sample: 0
                    uncorrected:
                      description: Errors that were not.
                      type: int
                      returned: always
                      sample: 0
            retired_pages:
              description: Pages of memory that are no longer used (before Ampere).
              type: dict
              returned: always
              contains:
                single_bit:
                  description: Pages retired for repeated single bit errors.
                  type: int
                  returned: always
                  sample: null
                double_bit:
                  description: Pages retired for double bit errors.
                  type: int
                  returned: always
                  sample: null
                pending:
                  description: Whether pages wait for a reset to be retired.
                  type: bool
                  returned: always
                  sample: null
            remapped_rows:
              description: Rows of memory that were replaced by spare ones (Ampere and later).
              type: dict
              returned: always
              contains:
                correctable:
                  description: Rows replaced for correctable errors.
                  type: int
                  returned: always
                  sample: 0
                uncorrectable:
                  description: Rows replaced for uncorrectable errors.
                  type: int
                  returned: always
                  sample: 0
                pending:
                  description: Whether rows wait for a reset to be replaced.
                  type: bool
                  returned: always
                  sample: false
                failed:
                  description: Whether replacing a row failed. Then the board should be replaced.
                  type: bool
                  returned: always
                  sample: false
                spare_rows_banks:
                  description: How many banks of memory have how many spare rows left.
                  type: dict
                  returned: always
                  contains:
                    max:
                      description: Banks with all of them.
                      type: int
                      returned: always
                      sample: 2560
                    high:
                      description: Banks with many.
                      type: int
                      returned: always
                      sample: 0
                    partial:
                      description: Banks with some.
                      type: int
                      returned: always
                      sample: 0
                    low:
                      description: Banks with few.
                      type: int
                      returned: always
                      sample: 0
                    none:
                      description: Banks with none.
                      type: int
                      returned: always
                      sample: 0
            persistence_mode:
              description: V(enabled) or V(disabled).
              type: str
              returned: always
              sample: "enabled"
            compute_mode:
              description: V(default), V(exclusive_process), V(exclusive_thread) or V(prohibited).
              type: str
              returned: always
              sample: "default"
            performance_state:
              description: From V(P0), the fastest, to V(P15).
              type: str
              returned: always
              sample: "P0"
            virtualization_mode:
              description: V(none), V(pass_through), V(vgpu), V(host_vgpu) or V(host_vsga).
              type: str
              returned: always
              sample: "none"
            power:
              description: Power.
              type: dict
              returned: always
              contains:
                draw_watts:
                  description: What the board draws.
                  type: float
                  returned: always
                  sample: 40.0
                limit_watts:
                  description: The limit that is enforced.
                  type: float
                  returned: always
                  sample: 400.0
                limit_default_watts:
                  description: The limit after the driver was loaded.
                  type: float
                  returned: always
                  sample: 400.0
                limit_min_watts:
                  description: The lowest limit that can be set.
                  type: float
                  returned: always
                  sample: 100.0
                limit_max_watts:
                  description: The highest limit that can be set.
                  type: float
                  returned: always
                  sample: 400.0
            clocks:
              description: Clocks at this moment, and the highest ones.
              type: dict
              returned: always
              contains:
                graphics_mhz:
                  description: Clock of the graphics engine.
                  type: int
                  returned: always
                  sample: 345
                sm_mhz:
                  description: Clock of the multiprocessors.
                  type: int
                  returned: always
                  sample: 345
                memory_mhz:
                  description: Clock of the memory.
                  type: int
                  returned: always
                  sample: 1215
                video_mhz:
                  description: Clock of the video engines.
                  type: int
                  returned: always
                  sample: 765
                graphics_max_mhz:
                  description: The highest clock of the graphics engine.
                  type: int
                  returned: always
                  sample: 1410
                sm_max_mhz:
                  description: The highest clock of the multiprocessors.
                  type: int
                  returned: always
                  sample: 1410
                memory_max_mhz:
                  description: The highest clock of the memory.
                  type: int
                  returned: always
                  sample: 1215
                video_max_mhz:
                  description: The highest clock of the video engines.
                  type: int
                  returned: always
                  sample: 1290
                event_reasons:
                  description: >-
                    Why clocks are lower than they could be, any of V(gpu_idle), V(applications_clocks_setting),
                    V(sw_power_cap), V(hw_slowdown), V(sync_boost), V(sw_thermal_slowdown), V(hw_thermal_slowdown),
                    V(hw_power_brake_slowdown), V(display_clocks_setting).
                  type: list
                  elements: str
                  returned: always
                  sample: ["gpu_idle"]
            temperature:
              description: Temperatures. Thresholds are V(null) on boards that tell only how far they are from them.
              type: dict
              returned: always
              contains:
                gpu_celsius:
                  description: Temperature of the GPU.
                  type: int
                  returned: always
                  sample: 31
                memory_celsius:
                  description: Temperature of its memory.
                  type: int
                  returned: always
                  sample: 40
                gpu_max_celsius:
                  description: Up to this the GPU holds its clocks.
                  type: int
                  returned: always
                  sample: 87
                memory_max_celsius:
                  description: The same for the memory. V(null) from nvidia-smi for Ada and newer GPUs.
                  type: int
                  returned: always
                  sample: 95
                slowdown_celsius:
                  description: From here on the hardware slows down.
                  type: int
                  returned: always
                  sample: 89
                shutdown_celsius:
                  description: From here on it switches itself off.
                  type: int
                  returned: always
                  sample: 92
            fan_speed_percent:
              description: Speed of the fan that the board wants. V(null) on boards without fans.
              type: int
              returned: always
              sample: null
            utilization:
              description: How busy the GPU was in the last moments. V(null) with MIG.
              type: dict
              returned: always
              contains:
                gpu_percent:
                  description: Time in which the GPU worked.
                  type: int
                  returned: always
                  sample: null
                memory_percent:
                  description: Time in which its memory was read or written.
                  type: int
                  returned: always
                  sample: null
            nvlink:
              description: NVLinks. V(null) where the GPU has none.
              type: dict
              returned: always
              contains:
                links_total:
                  description: Links that the GPU has.
                  type: int
                  returned: always
                  sample: 12
                links_up:
                  description: Links that are up.
                  type: int
                  returned: always
                  sample: 12
                link_megabytes_per_second:
                  description: What one link carries in one direction.
                  type: int
                  returned: always
                  sample: 25781
                peers:
                  description: Where links that are up lead.
                  type: list
                  elements: dict
                  returned: always
                  contains:
                    bus_id:
                      description: PCI address of the other end.
                      type: str
                      returned: always
                      sample: "0000:05:00.0"
                    kind:
                      description: V(gpu), or V(switch) for whatever else links lead to.
                      type: str
                      returned: always
                      sample: "switch"
                    links:
                      description: Number of links to it.
                      type: int
                      returned: always
                      sample: 12
            fabric:
              description: >-
                The GPU's registration with the NVLink fabric, which the fabric manager makes. V(null) where there is
                none.
              type: dict
              returned: always
              contains:
                state:
                  description: V(not_started), V(in_progress) or V(completed).
                  type: str
                  returned: always
                  sample: null
                clique_id:
                  description: GPUs of one clique reach each other.
                  type: int
                  returned: always
                  sample: null
                cluster_uuid:
                  description: UUID of the fabric, all zero within one machine.
                  type: str
                  returned: always
                  sample: null
            process_count:
              description: Number of processes that use the GPU.
              type: int
              returned: always
              sample: 1
            processes:
              description: Those processes. Their names are left out, since command lines can hold secrets.
              type: list
              elements: dict
              returned: always
              contains:
                pid:
                  description: Process number, as the driver sees it.
                  type: int
                  returned: always
                  sample: 48151
                type:
                  description: V(C) compute, V(G) graphics, V(C+G), or V(M+C) compute through MPS.
                  type: str
                  returned: always
                  sample: "C"
                memory_used_bytes:
                  description: Memory of the GPU that it uses.
                  type: int
                  returned: always
                  sample: 1073741824
                gpu_instance_id:
                  description: MIG GPU instance.
                  type: int
                  returned: always
                  sample: 7
                compute_instance_id:
                  description: MIG compute instance.
                  type: int
                  returned: always
                  sample: 0
            recovery_action:
              description: >-
                What the driver wants to be done with the GPU, V(none), V(reset), V(reboot), V(drain_p2p),
                V(drain_and_reset), V(recover_imex_domain), V(bus_reset) or V(system_reboot). V(null) from drivers
                that do not tell.
              type: str
              returned: always
              sample: "none"
            health:
              description: One word on the GPU at this moment, from the facts that were gathered.
              type: dict
              returned: always
              contains:
                state:
                  description: >-
                    V(healthy), V(degraded) (works, but somebody should look), or V(unhealthy) (must not get work).
                  type: str
                  returned: always
                  sample: "healthy"
                reasons:
                  description: >-
                    Why it is not healthy, each with a C(code) and a C(message). Codes of unhealthy GPUs are
                    V(gpu_lost), V(not_readable), V(row_remap_failed), V(recovery_needed). Codes of degraded ones are
                    V(row_remap_pending), V(page_retirement_pending), V(uncorrected_ecc_errors), V(nvlink_down),
                    V(fabric_not_ready), V(hardware_slowdown), V(too_hot), V(pcie_link_narrow).
                  type: list
                  elements: dict
                  returned: always
                  sample: []
            lost:
              description: Whether the GPU no longer answers.
              type: bool
              returned: always
              sample: false
            error:
              description: The driver's words when the GPU does not answer.
              type: str
              returned: always
              sample: null
          sample:
            - index: 0
              minor_number: 0
              uuid: GPU-39a655a8-123a-55d3-9076-d917e43bd52d
              name: NVIDIA A100-SXM4-40GB
              brand: NVIDIA
              architecture: Ampere
              compute_capability: '8.0'
              serial: '1650967202216'
              vbios_version: 92.00.45.00.03
              board_part_number: 692-2G506-0200-002
              gsp_firmware_version: 570.86.15
              memory_total_bytes: 42949672960
              memory_used_bytes: 0
              memory_free_bytes: 42320527360
              memory_reserved_bytes: 629145600
              bar1_total_bytes: 68719476736
              bar1_used_bytes: 1048576
              pci:
                bus_id: 0000:1b:00.0
                vendor_id: '0x10de'
                device_id: '0x20b0'
                subsystem_vendor_id: '0x10de'
                subsystem_device_id: '0x134f'
                numa_node: 0
                link_generation_current: 4
                link_generation_max: 4
                link_width_current: 16
                link_width_max: 16
              mig:
                capable: true
                mode: enabled
                pending_mode: enabled
                instances:
                  - index: 0
                    uuid: MIG-d2bbe15c-c800-506e-8a7b-afdcbdb9ddae
                    profile: 1g.5gb
                    gpu_instance_id: 7
                    compute_instance_id: 0
                    memory_total_bytes: 5100273664
              ecc:
                mode: enabled
                pending_mode: enabled
                volatile:
                  corrected: 0
                  uncorrected: 0
                aggregate:
                  corrected: 0
                  uncorrected: 0
              retired_pages:
                single_bit: null
                double_bit: null
                pending: null
              remapped_rows:
                correctable: 0
                uncorrectable: 0
                pending: false
                failed: false
                spare_rows_banks:
                  max: 2560
                  high: 0
                  partial: 0
                  low: 0
                  none: 0
              persistence_mode: enabled
              compute_mode: default
              performance_state: P0
              virtualization_mode: none
              power:
                draw_watts: 40.0
                limit_watts: 400.0
                limit_default_watts: 400.0
                limit_min_watts: 100.0
                limit_max_watts: 400.0
              clocks:
                graphics_mhz: 345
                sm_mhz: 345
                memory_mhz: 1215
                video_mhz: 765
                graphics_max_mhz: 1410
                sm_max_mhz: 1410
                memory_max_mhz: 1215
                video_max_mhz: 1290
                event_reasons:
                  - gpu_idle
              temperature:
                gpu_celsius: 31
                memory_celsius: 40
                gpu_max_celsius: 87
                memory_max_celsius: 95
                slowdown_celsius: 89
                shutdown_celsius: 92
              fan_speed_percent: null
              utilization:
                gpu_percent: null
                memory_percent: null
              nvlink:
                links_total: 12
                links_up: 12
                link_megabytes_per_second: 25781
                peers:
                  - bus_id: '0000:05:00.0'
                    kind: switch
                    links: 12
              fabric:
                state: null
                clique_id: null
                cluster_uuid: null
              process_count: 1
              processes:
                - pid: 48151
                  type: C
                  memory_used_bytes: 1073741824
                  gpu_instance_id: 7
                  compute_instance_id: 0
              recovery_action: none
              health:
                state: healthy
                reasons: []
              lost: false
              error: null
        topology:
          description: How each two GPUs are connected. V(null) if O(gather_subset) leaves it out.
          type: list
          elements: dict
          returned: always
          contains:
            gpus:
              description: Indexes of the two.
              type: list
              elements: int
              returned: always
              sample: [0, 1]
            connection:
              description: >-
                As in C(nvidia-smi topo -m). V(NVn) means n bonded NVLinks, V(PIX) at most one PCI bridge, V(PXB)
                several, V(PHB) the host bridge, V(NODE) host bridges of one NUMA node, V(SYS) NUMA nodes.
              type: str
              returned: always
              sample: "NV12"
            nvlinks:
              description: Number of NVLinks between them, V(0) if none.
              type: int
              returned: always
              sample: 12
        devices_on_pci:
          description: NVIDIA's GPUs and NVSwitches on the PCI bus, from sysfs, with or without a driver.
          type: list
          elements: dict
          returned: always
          sample:
            - bus_id: "0000:19:00.0"
              class: "0x030200"
              device_id: "0x2330"
              driver: nvidia
              kind: gpu
              numa_node: 0
              subsystem_device_id: "0x16c1"
              subsystem_vendor_id: "0x10de"
              vendor_id: "0x10de"
        nouveau_loaded:
          description: Whether the nouveau kernel module is loaded.
          type: bool
          returned: always
          sample: false
        secure_boot:
          description: Whether UEFI Secure Boot is on. V(null) on machines without UEFI.
          type: bool
          returned: always
          sample: false
        persistenced:
          description: The daemon nvidia-persistenced, which keeps GPUs awake.
          type: dict
          returned: always
          contains:
            installed:
              description: Whether its program is there.
              type: bool
              returned: always
              sample: true
            running:
              description: Whether it runs.
              type: bool
              returned: always
              sample: true
        fabric_manager:
          description: The daemon nv-fabricmanager, without which CUDA does not start on machines with NVSwitches.
          type: dict
          returned: always
          contains:
            needed:
              description: Whether NVSwitches are on the PCI bus, or a GPU is part of an NVLink fabric.
              type: bool
              returned: always
              sample: true
            installed:
              description: Whether its program is there.
              type: bool
              returned: always
              sample: true
            running:
              description: Whether it runs on this machine. In a virtual machine it runs on the host.
              type: bool
              returned: always
              sample: true
            fabric_state:
              description: >-
                The least that one of the GPUs has reached, V(not_started), V(in_progress) or V(completed). V(null)
                where no GPU is part of a fabric.
              type: str
              returned: always
              sample: null
        toolkit:
          description: The NVIDIA Container Toolkit. V(null) for what is not installed.
          type: dict
          returned: always
          sample:
            version: 1.17.8
            cli_version: 1.17.8
            libnvidia_container_version: 1.17.8
            ctk_path: /usr/bin/nvidia-ctk
            cli_path: /usr/bin/nvidia-container-cli
            runtime_path: /usr/bin/nvidia-container-runtime
            hook_path: /usr/bin/nvidia-container-runtime-hook
        kernel:
          description: The running kernel.
          type: dict
          returned: always
          sample: {release: 6.8.0-45-generic, machine: x86_64}
        cgroup_version:
          description: Version of control groups, V(1) (also for the hybrid layout) or V(2). V(null) if there are none.
          type: int
          returned: always
          sample: 2
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu import (
    deadline,
    facts,
    host,
    nvml,
    services,
    smi,
    subsets,
    toolkit,
)
from ansible_collections.kubegpu.nvidia.plugins.module_utils.gpu.errors import SourceError


def read_nvml(chosen, seconds, virtualenv):
    binding = nvml.load_binding(virtualenv)
    return deadline.call(lambda: nvml.read(binding, chosen), seconds, "NVML")


def read_smi(chosen, seconds, addresses):
    program = deadline.find("nvidia-smi")
    if program is None:
        raise SourceError("unavailable", "nvidia-smi is not installed")
    run = deadline.shared(seconds)
    return smi.read(lambda arguments: run([program, *arguments]), addresses, chosen)


def gather(parameters, chosen):
    """The facts, and warnings about what a source that answered left open."""
    root, seconds = parameters["host_root"], parameters["gather_timeout"]
    machine = host.read(root)
    readers = {
        "nvml": lambda: read_nvml(chosen, seconds, parameters["virtualenv"]),
        "nvidia-smi": lambda: read_smi(chosen, seconds, facts.addresses(machine)),
    }
    names = parameters["sources"] if subsets.asks_the_driver(chosen) else []
    answered = facts.ask([(name, readers[name]) for name in names])
    # NVML makes device nodes that are missing, where it may.
    machine["device_nodes"] = host.device_nodes(root)
    tools = toolkit.unknown()
    if "toolkit" in chosen:
        tools = toolkit.read(deadline.find, deadline.shared(seconds))
    daemons = services.read(root) if "services" in chosen else None
    found = facts.build(machine, tools, *answered, chosen=chosen, daemons=daemons, root=root)
    return found, (answered[1] or {}).get("unanswered", [])


def main():
    module = AnsibleModule(
        argument_spec={
            "gather_subset": {"type": "list", "elements": "str", "default": ["all"]},
            "sources": {
                "type": "list",
                "elements": "str",
                "choices": ["nvml", "nvidia-smi"],
                "default": ["nvml", "nvidia-smi"],
            },
            "gather_timeout": {"type": "float", "default": 30},
            "host_root": {"type": "path", "default": "/"},
            "virtualenv": {"type": "path"},
        },
        supports_check_mode=True,
    )
    seconds = module.params["gather_timeout"]
    if seconds <= 0:
        module.fail_json(msg=f"gather_timeout: {seconds:g} is not a number of seconds above 0")
    try:
        chosen = subsets.choose(module.params["gather_subset"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    found, unanswered = gather(module.params, chosen)
    for what in unanswered:
        module.warn(f"{what}; facts that need it are null")
    module.exit_json(changed=False, ansible_facts={"nvidia_gpu": found})


if __name__ == "__main__":
    main()
