#!/bin/bash
# PID 1 until systemd takes over: what must be in place before the first unit starts.
set -euo pipefail

mount -o remount,rw /sys 2>/dev/null || mount -o remount,rw,bind /sys

# cgroup v1: fresh mounts in our own cgroup namespace show this node's subtree as /, read-write.
if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
    mount --make-rprivate /sys/fs/cgroup || true
    umount -R /sys/fs/cgroup || umount -lR /sys/fs/cgroup
    mount -t tmpfs -o mode=755,nosuid,nodev,noexec cgroup-root /sys/fs/cgroup
    awk -F: '$1 != 0 {print $2}' /proc/self/cgroup | while read -r controllers; do
        name=${controllers#name=}
        mkdir -p "/sys/fs/cgroup/$name"
        mount -t cgroup -o "$controllers" cgroup "/sys/fs/cgroup/$name"
    done
    mkdir -p /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified || true
fi
mount --make-rshared /

# Where the container may not have CAP_SYS_RESOURCE, nested containers cannot be given it either; and containers on a GPU
# node reach the simulated driver as they reach a kernel.
bounding=$(awk '/^CapBnd/ {print $2}' /proc/self/status)
if [ $(( 0x$bounding >> 24 & 1 )) = 0 ] || [ -n "${GPU_COUNT:-}" ]; then
    [ ! -x /usr/sbin/runc ] || install -m 755 /usr/local/lib/runc-wrapper /usr/local/sbin/runc
fi

# containerd's own configuration, of the version that its major release writes.
if command -v containerd >/dev/null && [ ! -e /etc/containerd/config.toml ]; then
    major=$(containerd --version | sed -E 's/^.* v?([0-9]+)\..*$/\1/')
    install -D -m 644 "/usr/local/lib/containerd-$major.toml" /etc/containerd/config.toml
fi

# The simulated driver: libraries, device nodes, /proc/driver/nvidia, the PCI devices and the module's entry.
if [ -n "${GPU_COUNT:-}" ]; then
    state=/etc/nvml-sim/state
    [ -f "$state" ] || nvml-sim init --state "$state" --model "$GPU_MODEL" --count "$GPU_COUNT" --driver "$GPU_DRIVER"
    nvml-sim nodes
    mount -t tmpfs -o mode=755 nvml-sim-proc /proc/driver
    mkdir -p /proc/driver/nvidia && nvml-sim proc /proc/driver/nvidia
    # A hook of the toolkit would bind another over the one in a container's /proc, where there is none.
    rm /proc/driver/nvidia/params
    dependencies=/lib/modules/$(uname -r)/modules.dep
    { cat "$dependencies" 2>/dev/null || true; echo "updates/dkms/nvidia.ko:"; } > /etc/nvml-sim/modules.dep
    if [ ! -e "$dependencies" ]; then # no modules of this kernel here
        mkdir -p /lib/modules && mount -t tmpfs -o mode=755 nvml-sim-modules /lib/modules
        mkdir -p "${dependencies%/*}" && touch "$dependencies"
    fi
    mount --bind /etc/nvml-sim/modules.dep "$dependencies"
    mount -t tmpfs -o mode=755 nvml-sim-pci /sys/bus/pci/devices && nvml-sim sysfs /sys/bus/pci/devices
fi
exec /lib/systemd/systemd "$@"
