/* libcuda.so.1, as far as it says whether CUDA could start: the driver, the GPUs and /dev/nvidia-uvm must be there. It
 * reads the state itself, as a container that may compute and nothing else has no libnvidia-ml. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sim.h"

#define CUDA_API __attribute__((visibility("default")))

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
    CUDA_ERROR_UNKNOWN = 999,
};

static bool initialized;

static bool there(const struct sim_state *state, const char *name) {
    if (!sim_flag(state->system, "device_nodes", true)) return true;
    const char *dev = getenv("NVML_SIM_DEV");
    char path[4096];
    struct stat ignored;
    snprintf(path, sizeof path, "%s/%s", dev && *dev ? dev : "/dev", name);
    return stat(path, &ignored) == 0;
}

static int visible_gpus(const struct sim_state *state) {
    int count = 0;
    for (int gpu = 0; gpu < SIM_MAX_GPUS; gpu++) {
        char name[32];
        const char *minor = state->gpus[gpu] ? sim_value(state->gpus[gpu], "minor") : NULL;
        if (!minor) continue;
        snprintf(name, sizeof name, "nvidia%s", minor);
        count += there(state, name);
    }
    return count;
}

CUDA_API int cuInit(unsigned int flags) {
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    const struct sim_state *state = sim_state_refresh();
    if (!state || !sim_flag(state->system, "loaded", true) || !there(state, "nvidiactl")) return CUDA_ERROR_NO_DEVICE;
    const char *driver = sim_value(state->system, "driver_version");
    const char *library = sim_value(state->system, "library_version");
    if (driver && library && strcmp(driver, library)) return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    if (!visible_gpus(state)) return CUDA_ERROR_NO_DEVICE;
    if (!there(state, "nvidia-uvm")) return CUDA_ERROR_UNKNOWN;
    initialized = true;
    return CUDA_SUCCESS;
}

CUDA_API int cuDriverGetVersion(int *version) {
    const struct sim_state *state = sim_state_refresh();
    const char *text = state ? sim_value(state->system, "cuda_version") : NULL;
    int major, minor;
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    if (!text || sscanf(text, "%d.%d", &major, &minor) != 2) return CUDA_ERROR_UNKNOWN;
    *version = 1000 * major + 10 * minor;
    return CUDA_SUCCESS;
}

CUDA_API int cuDeviceGetCount(int *count) {
    if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
    const struct sim_state *state = sim_state_refresh();
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = state ? visible_gpus(state) : 0;
    return CUDA_SUCCESS;
}
