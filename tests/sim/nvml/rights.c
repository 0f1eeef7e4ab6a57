/* What this process may do: CAP_SYS_ADMIN, and NVIDIA's capability files below /dev/nvidia-caps.
 *
 * The files have the names and numbers of the real driver: nvidia-cap1 is mig/config, nvidia-cap2 is mig/monitor, and
 * each GPU instance and compute instance has one of its own. No driver serves their device number here, so a permitted
 * open() ends in ENXIO. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim.h"

enum { MIG_CONFIG = 1, MIG_MONITOR = 2, FIRST_INSTANCE = 3, GPU_INSTANCES = 15, COMPUTE_INSTANCES = 8 };

const char *sim_dev(void) {
    const char *dev = getenv("NVML_SIM_DEV");
    return dev && *dev ? dev : "/dev";
}

bool sim_may_talk(const struct sim_state *state, const char *node) {
    char path[4096];
    if (!sim_flag(state->system, "device_nodes", true)) return true;
    snprintf(path, sizeof path, "%s/%s", sim_dev(), node);
    return faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0 || errno != EACCES;
}

bool sim_admin(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {{0}};
    return syscall(SYS_capget, &header, sets) == 0 && (sets[0].effective >> CAP_SYS_ADMIN & 1);
}

/* Without simulated device nodes every process has every file. */
static bool may_open(const struct sim_state *state, unsigned int minor) {
    char path[4096];
    if (!sim_flag(state->system, "device_nodes", true)) return true;
    snprintf(path, sizeof path, "%s/nvidia-caps/nvidia-cap%u", sim_dev(), minor);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno == ENXIO || errno == ENODEV;
    close(fd);
    return true;
}

bool sim_may_configure(const struct sim_state *state) { return sim_admin() || may_open(state, MIG_CONFIG); }

bool sim_may_monitor(const struct sim_state *state) { return may_open(state, MIG_MONITOR); }

bool sim_may_use(const struct sim_state *state, int gpu, int gi, int ci) {
    unsigned long long minor = 0;
    sim_number(sim_value(state->gpus[gpu], "minor"), &minor);
    unsigned int instance =
        FIRST_INSTANCE + ((unsigned int)minor * GPU_INSTANCES + (unsigned int)gi) * (1 + COMPUTE_INSTANCES);
    return may_open(state, instance) && may_open(state, instance + 1 + (unsigned int)ci);
}

nvmlReturn_t sim_may_see_whole(const struct sim_call *call) {
    bool hidden = !call->is_mig && sim_mig_enabled(call->gpu) && !sim_may_monitor(call->state);
    return hidden ? NVML_ERROR_NO_PERMISSION : NVML_SUCCESS;
}
